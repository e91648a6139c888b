"""The lines of a file, and where other lines stand among them."""

from __future__ import annotations

from collections.abc import Sequence

_MANY = 10_000_000  # comparisons of characters


def lines_of(text: str) -> list[str]:
    """The lines of a text as git has them: only a newline ends one (str.splitlines would cut at
    form feeds too)."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


class Lines:
    """The lines of a text, in which other lines are looked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def find(self, wanted: Sequence[str], near: int) -> int | None:
        """The index at which all of ``wanted`` stand, the nearest to index ``near``; None if there
        is none or ``wanted`` is empty."""
        return min(self.places(wanted), key=lambda index: abs(index - near), default=None)

    def places(self, wanted: Sequence[str]) -> list[int]:
        """Every index at which all of ``wanted`` stand; none if ``wanted`` is empty."""
        sought = "".join(wanted)
        if not sought:
            return []
        text, whole = self._text, sought.endswith("\n")
        places = []
        index = begun = 0  # the number of lines before the character ``begun``
        work = 0
        at = text.find(sought)
        while at >= 0:
            starts = at == 0 or text[at - 1] == "\n"
            if starts and (whole or at + len(sought) == len(text)):
                index, begun = index + text.count("\n", begun, at), at
                places.append(index)
            work += len(sought)
            if work > _MANY:  # the same few lines again and again
                return self._places_in_one_pass(wanted)
            at = text.find(sought, at + 1)
        return places

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
        for index, line in enumerate(lines_of(self._text)):
            while matched and (matched == len(wanted) or line != wanted[matched]):
                matched = borders[matched - 1]
            matched += line == wanted[matched]
            if matched == len(wanted):
                places.append(index + 1 - matched)
        return places
