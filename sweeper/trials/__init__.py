"""The nouns, without torch: what a trial is, what it costs and what it yields."""
