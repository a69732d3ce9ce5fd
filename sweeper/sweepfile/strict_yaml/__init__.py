"""YAML as sweep and law files may use it, with the position of every value."""
