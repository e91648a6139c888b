"""Proves that each patch is needed and works: plans the steps, runs them in the target's Python, reads the result."""
