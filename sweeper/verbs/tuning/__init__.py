"""The verb `tune`, and what it does."""
