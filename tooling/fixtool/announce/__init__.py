"""Tells GitHub what became of a nightly rebase."""
