"""Where tokens come from: text files, how they are split, synthetic sources, and their cache."""
