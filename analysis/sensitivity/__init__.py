"""Which conclusions survive a change of conventions, forms and data."""
