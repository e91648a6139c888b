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
    """
    result = list(lines)
    changed = []
    for section in sections:
        places = [at for first, end in section.hunks for at in range(first, end)]
        # What comes before `\ No newline at end of file` has no line end.
        places = [at for at in places
                  if not b"".join(lines[at : at + 1]).startswith(b"\\")
                  and not b"".join(lines[at + 1 : at + 2]).startswith(b"\\")]  # fmt: skip
        ends = {lines[at].endswith(b"\r") for at in places}
        content = read(section) if len(ends) == 1 else None
        if not content:
            continue
        breaks, with_return = content.count(b"\n"), content.count(b"\r\n")
        if ends == {False} and breaks == with_return > 0:
            for at in places:
                result[at] = (lines[at] or b" ") + b"\r"
        elif ends == {True} and with_return == 0 and breaks:
            for at in places:
                result[at] = lines[at][:-1]
        else:
            continue
        changed.append(section)
    return result, changed
