"""Looking on while a sweep goes: from its results folder alone, in a terminal or a browser."""
