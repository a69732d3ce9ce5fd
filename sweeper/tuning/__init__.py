"""How a sweep is tuned: searches, from settings tried to the next to try."""
