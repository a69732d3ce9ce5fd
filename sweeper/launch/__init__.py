"""A sweep on somebody else's machines."""
