"""Runs git: repositories, stores of fixtool's own, objects as values, and the names that git may be given."""
