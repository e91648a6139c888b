"""Patch files, the lines that order them, and the checks and commits of a patch repository."""
