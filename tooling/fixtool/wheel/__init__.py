"""Builds a wheel of a patched tree without a compiler."""
