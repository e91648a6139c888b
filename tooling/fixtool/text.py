"""Texts as a person may see them: counts, and what anybody wrote without terminal controls."""

from __future__ import annotations

import re
import unicodedata


def count(number: int, what: str) -> str:
    """``1 patch``, ``2 patches``."""
    ending = "" if number == 1 else "es" if what.endswith("ch") else "s"
    return f"{number} {what}{ending}"


def printable(text: str) -> str:
    """``text`` without terminal controls: subjects and paths come from patches, and patches from
    anyone."""
    return "".join(
        one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text
    )


def visible(text: str) -> str:
    """One line of what can be seen: no control characters, no escape sequences, no characters that
    turn the direction of writing, no words that GitHub Actions takes for a command."""
    return " ".join(without_controls(text).split())


def without_controls(text: str) -> str:
    text = re.sub(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", "", text)
    kinds = ((one, unicodedata.category(one)) for one in text)
    seen = (
        " " if one.isspace() or kind == "Cc" else one
        for one, kind in kinds
        if kind not in ("Cf", "Cs", "Co", "Cn")
    )
    return "".join(seen).replace("##[", "## [")
