"""Reads the patches of others: files in the forms of many tools, and the commits of a fork."""
