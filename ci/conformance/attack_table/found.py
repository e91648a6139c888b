"""The faults that these attacks found, and that were mended, one sentence each."""

FOUND: tuple[str, ...] = ()
