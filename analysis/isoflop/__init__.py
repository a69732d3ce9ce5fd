"""IsoFLOP curves, their minima and the frontier through these."""
