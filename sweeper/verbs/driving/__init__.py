"""How verbs run sweeps: once, in rounds, and what to expect of it."""
