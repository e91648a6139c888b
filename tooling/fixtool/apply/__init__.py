"""Puts a replayed series into a work tree."""
