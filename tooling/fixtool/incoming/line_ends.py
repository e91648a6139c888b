"""Gives a diff the line ends of the files that it changes, where a mailer, a bot or an editor has
changed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fixtool.incoming.sections import Section


def with_line_ends_of(
    lines: Sequence[bytes], sections: Sequence[Section], read: Callable[[Section], bytes | None]
) -> tuple[list[bytes], list[Section]]:
    """The lines of a diff in which each hunk has the line ends of its file, and the sections that
    changed. ``read`` gives the content of a section's file.

    A section changes only if all its lines end in one way, and all lines of its file in the other.
    If every section of a file that is there had carriage returns too many, those of new files lose
    theirs as well.
    """
    result = list(lines)
    changed: list[Section] = []
    new_files: list[Section] = []
    others = False
    for section in sections:
        ends = {lines[at].endswith(b"\r") for at in _ended(lines, section)}
        content = read(section) if len(ends) == 1 else None
        if content is None and ends == {True}:
            new_files.append(section)
            continue
        breaks, returns = (content or b"").count(b"\n"), (content or b"").count(b"\r\n")
        if ends == {False} and breaks == returns > 0:
            for at in _ended(lines, section):
                result[at] = (lines[at] or b" ") + b"\r"
            others = True
        elif ends == {True} and breaks > returns == 0:
            _take_returns(result, section)
        else:
            others = True
            continue
        changed.append(section)
    if changed and not others:
        for section in new_files:
            _take_returns(result, section)
        changed += new_files
    return result, changed


def _ended(lines: Sequence[bytes], section: Section) -> list[int]:
    """The lines of the hunks of ``section`` that have a line end in their file. The one before
    ``\\ No newline at end of file`` has none."""
    places = [at for first, end in section.hunks for at in range(first, end)]
    without = {at for at in places if lines[at].startswith(b"\\")}
    return [at for at in places if at not in without and at + 1 not in without]


def _take_returns(lines: list[bytes], section: Section) -> None:
    for first, end in section.hunks:
        for at in range(first, end):
            lines[at] = lines[at].removesuffix(b"\r")
