"""The lines of a file, and where other lines stand among them."""

from __future__ import annotations

from collections.abc import Sequence

_MANY = 1_000_000  # comparisons of lines


def lines_of(text: str) -> list[str]:
    """The lines of a text as git has them: only a newline ends one (str.splitlines would cut at
    form feeds too)."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


class Lines:
    """The lines of a file, in which other lines are looked for."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        self._indexes: dict[str, list[int]] = {}
        for index, line in enumerate(self.lines):
            self._indexes.setdefault(line, []).append(index)

    def find(self, wanted: Sequence[str], near: int) -> int | None:
        """The index at which all of ``wanted`` stand, the nearest to index ``near``; None if there
        is none or ``wanted`` is empty."""
        return min(self.places(wanted), key=lambda index: abs(index - near), default=None)

    def places(self, wanted: Sequence[str]) -> list[int]:
        """Every index at which all of ``wanted`` stand; none if ``wanted`` is empty."""
        size, last = len(wanted), len(self.lines) - len(wanted)
        if not wanted or last < 0:
            return []
        rarest = min(range(size), key=lambda offset: len(self._indexes.get(wanted[offset], ())))
        starts = [index - rarest for index in self._indexes.get(wanted[rarest], ())]
        if len(starts) * size > _MANY:  # the same few lines again and again
            return self._places_in_one_pass(wanted)
        sought = list(wanted)
        return [start for start in starts
                if 0 <= start <= last and self.lines[start : start + size] == sought]  # fmt: skip

    def _places_in_one_pass(self, wanted: Sequence[str]) -> list[int]:
        """The same with the algorithm of Knuth, Morris and Pratt, which looks at each line once."""
        borders = [0]  # of each beginning of ``wanted``: its longest end that is a beginning too
        matched = 0
        for line in wanted[1:]:
            while matched and line != wanted[matched]:
                matched = borders[matched - 1]
            matched += line == wanted[matched]
            borders.append(matched)
        places = []
        matched = 0
        for index, line in enumerate(self.lines):
            while matched and (matched == len(wanted) or line != wanted[matched]):
                matched = borders[matched - 1]
            matched += line == wanted[matched]
            if matched == len(wanted):
                places.append(index + 1 - matched)
        return places
