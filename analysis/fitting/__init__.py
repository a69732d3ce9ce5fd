"""Everything a table supports, fitted."""
