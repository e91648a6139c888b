"""Reads the patches of others, in the forms of many tools, and fits them to a tree."""
