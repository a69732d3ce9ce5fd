"""The charts of the page as Vega-Lite specifications: plain data that a browser draws."""
