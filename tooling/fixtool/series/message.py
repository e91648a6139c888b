"""What a message may hold so that git gives it back unchanged: when it is mailed, and when
``git am`` reads it."""

from __future__ import annotations

import re

from fixtool.text import late_pattern

_ENDS_MESSAGE = late_pattern(
    r"---[ \t\r]*$|--- \S|Index: |diff -|-- *>8"
    # The line that begins a mail of an mbox.
    r"|From [0-9a-f]{40}\b|From .*[0-9].[0-9]{2}:[0-9]{2}[ ]+(9[1-9]|[0-9]{3,})[^:]*$"
)
_HEADER = late_pattern(r"(From|Subject|Date):\s|>From\s|\[PATCH\]\s", re.IGNORECASE)
_CONTROLS = late_pattern(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_BLANKS = late_pattern(r"[ \t\n\r]+")


def ends_message(line: str) -> bool:
    """Whether a mail's message ends before this ``line`` for git."""
    return bool(_ENDS_MESSAGE.match(line))


def is_header(line: str) -> bool:
    """Whether git takes this ``line`` for a header of the mail if the message begins with it."""
    return bool(_HEADER.match(line))


def has_controls(text: str) -> bool:
    """Whether ``text`` holds control characters, or ones that change the direction of writing."""
    return bool(_CONTROLS.search(text))


def clean(text: str) -> str:
    """``text`` as ``git stripspace`` leaves it: no blanks at the ends of its lines, no blank lines
    around it, and never two of them in a row."""
    lines: list[str] = []
    for line in text.split("\n"):
        line = line.rstrip(" \t\r")
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).rstrip("\n")


def split_message(message: str) -> tuple[str, str]:
    """The subject and the body of a commit's message. The subject is its first paragraph, whose
    lines git joins."""
    subject, _, body = clean(message).partition("\n\n")
    return subject.replace("\n", " "), body


def join_message(subject: str, body: str) -> str:
    """The message of a commit with this subject and body."""
    return f"{subject}\n\n{body}\n" if body else f"{subject}\n"


def mailable(subject: str, body: str) -> tuple[str, str, tuple[str, ...]]:
    """A subject and a body that git gives back as they are, and sentences on what was changed.

    A line at which git would end the message is indented by a blank, so nothing is lost.
    """
    notes = []
    title = _CONTROLS.sub("", _BLANKS.sub(" ", subject)).strip(" ")
    if title != subject:
        notes.append("blanks or control characters were taken out of the subject")
    lines = []
    for number, line in enumerate(clean(body).split("\n")):
        shown = _CONTROLS.sub("", line)
        if shown != line:
            notes.append(f"control characters were taken out of the message: {shown[:30]!r}")
        if ends_message(shown) or (number == 0 and is_header(shown)):
            notes.append(f"git would not read {shown[:30]!r} as text, so the line was indented")
            shown = f" {shown}"
        lines.append(shown)
    return title, clean("\n".join(lines)).strip("\n"), tuple(notes)
