"""From YAML text to checked values, with file:line:col in every message."""
