"""What was measured, in one tidy form."""
