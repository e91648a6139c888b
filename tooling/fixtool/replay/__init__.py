"""Applies a series onto a commit in the object database, with a verdict for each patch and hunk."""
