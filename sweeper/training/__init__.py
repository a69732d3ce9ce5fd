"""One trial, from its assignment to its published record."""
