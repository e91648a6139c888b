"""Proves that each patch is needed and works: plans steps, runs them, reads the result."""
