"""Power laws and the bootstrap."""
