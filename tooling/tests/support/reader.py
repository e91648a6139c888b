"""A reader: a function of bytes that others wrote, with seeds for a fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fixtool.documents import FieldError
from fixtool.errors import FixtoolError
from support.repositories import ROOT

CORPUS = ROOT / "ci/conformance/corpus"
"""One folder for each reader, with inputs: what once was a fault, and what leads to faults."""


@dataclass(frozen=True)
class Reader:
    """``read`` takes what others wrote. ``seeds`` are examples of it. A ``slow`` one takes
    milliseconds."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    slow: bool = False

    def answer(self, raw: bytes) -> bool:
        """Whether ``raw`` is read; False if it is refused. Raises whatever is not an answer."""
        try:
            self.read(raw)
        except (FixtoolError, FieldError):
            return False
        return True

    def corpus(self) -> tuple[bytes, ...]:
        """The inputs that are kept for this reader."""
        folder = CORPUS / self.name
        return tuple(path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file())


def text_of(raw: bytes) -> str:
    """The text of a file, as fixtool reads most files."""
    return raw.decode("utf-8", "surrogateescape")
