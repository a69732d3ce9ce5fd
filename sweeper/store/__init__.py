"""The results folder, the only truth: each file is written once or replaced whole."""
