"""Moves a line to another upstream commit."""
