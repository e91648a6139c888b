"""Puts a series into an installed package or a checkout, proves what is there, and takes it out."""
