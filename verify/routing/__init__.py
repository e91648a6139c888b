"""Checks of the Gemma 4 routing kernel against a float64 definition (the oracle)."""
