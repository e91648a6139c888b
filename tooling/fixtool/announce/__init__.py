"""Tells people what became of a nightly rebase."""
