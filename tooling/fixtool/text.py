"""Texts: their lines, counts, and foreign texts without terminal controls."""

from __future__ import annotations

import re
import shlex
import unicodedata


def count(number: int, what: str) -> str:
    """``1 patch``, ``2 patches``."""
    ending = "" if number == 1 else "es" if what.endswith("ch") else "s"
    return f"{number} {what}{ending}"


def split_lines(text: str) -> list[str]:
    """The lines of ``text`` without their ends. As for git, only a newline ends one:
    str.splitlines would also cut at a form feed or U+2028, which a line may hold."""
    parts = text.split("\n")
    return parts if parts[-1] else parts[:-1]


def argument(value: object) -> str:
    """``value`` as one word of a command that a person is told to type. An address, a ref or the
    name of a file may hold what a shell would run."""
    return shlex.quote(str(value))


def printable(text: str) -> str:
    """``text`` with escapes instead of control characters, line breaks excepted: subjects and paths
    come from patches, which anyone may have written."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else f"\\x{ord(letter):02x}"
        for letter in text
    )


def visible(text: str) -> str:
    """``text`` on one line, without what ``without_controls`` removes."""
    return " ".join(without_controls(text).split())


def without_controls(text: str) -> str:
    """``text`` without escape sequences, control characters, characters that change the direction
    of writing, and words that GitHub Actions takes for a command. Blanks and line breaks become
    blanks."""
    text = re.sub(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", "", text)
    categories = ((letter, unicodedata.category(letter)) for letter in text)
    visible = (
        " " if letter.isspace() or category == "Cc" else letter
        for letter, category in categories
        if category not in ("Cf", "Cs", "Co", "Cn")
    )
    return "".join(visible).replace("##[", "## [")
