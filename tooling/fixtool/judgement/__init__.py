"""Decides what is true of a line and its patches on an upstream commit."""
