"""The loss surface L(N, D)."""
