"""Applies a series onto a commit in the object database, with one verdict for each patch, file and hunk."""
