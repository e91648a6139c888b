"""Runs git: repositories, stores of our own, objects as values, and the names git may be given."""
