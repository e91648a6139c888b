"""Upstream's pull request template, filled in: its sections, in its order and words.

A section is recognised by a word in its heading, so a reworded template is still filled in. An
unknown section stays as upstream wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.profile import Profile

_PLACES = (".github/pull_request_template.md", ".github/PULL_REQUEST_TEMPLATE.md",
           "docs/pull_request_template.md", "pull_request_template.md")  # fmt: skip
_LARGEST = 7_000  # characters
_SECTIONS = {
    "motivation": r"motivation|why|purpose|description|summary",
    "modifications": r"modification|changes|what",
    "accuracy": r"accuracy|correctness",
    "speed": r"speed|benchmark|profil|performance",
    "checklist": r"checklist|before submitting",
}
_HEADING = re.compile(r"^#{1,4} +(.+?) *$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_WITHOUT_HEADINGS = re.compile(r"<!--.*?-->|^```.*?^```", re.DOTALL | re.MULTILINE)
_EMPTY = "Not measured on this version."
_ITEM = re.compile(r"^( *[-*] )\[ \] (.*)$", re.MULTILINE)
_ITEMS = {
    "tests": r"unit ?test|add tests",
    "documentation": r"document",
    "results": r"benchmark result|accuracy and speed|speed benchmark",
    "format": r"format|pre-commit|lint",
    "style": r"code style|style guid",
}
Answers = Mapping[str, tuple[bool, str]]
"""Kind of checklist item, a key of ``_ITEMS`` -> whether it is done, and why or why not."""


@dataclass(frozen=True)
class Checkbox:
    """One item of the checklist. ``why`` is what was run, or what is missing."""

    item: str
    ticked: bool
    why: str


def read(repo: Repo, commit: Oid, default: str) -> tuple[str, str | None]:
    """The template of ``commit``, and its path. ``default``, and None, if there is none or if it
    is too long to leave room for the text."""
    for path in _PLACES:
        if entry := list_tree(repo, commit, path).get(path):
            raw = repo.read_blob(entry.blob)
            text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
            return (text, path) if len(text) <= _LARGEST else (default, None)
    return default, None


def fill(
    template: str, sections: Mapping[str, str], answers: Answers, profile: Profile
) -> tuple[str, tuple[Checkbox, ...]]:
    """The body, and its checklist. ``sections`` maps keys of ``_SECTIONS`` to Markdown; the
    template of ``profile`` stands in for one without headings.

    A filled section loses the template's comments. A section that the template lacks is put before
    the checklist, unless it is empty.
    """
    apart = [match.span() for match in _WITHOUT_HEADINGS.finditer(template)]
    headings = [
        match
        for match in _HEADING.finditer(template)
        if not any(start <= match.start() < end for start, end in apart)
    ]
    if not headings:
        return fill(profile.template, sections, answers, profile)
    parts = [_COMMENT.sub("", template[: headings[0].start()]).strip()]
    checklist: list[Checkbox] = []
    missing = dict(sections)
    before_checklist = 0
    ends = [*(heading.start() for heading in headings[1:]), len(template)]
    for heading, end in zip(headings, ends, strict=True):
        text = template[heading.end() : end]
        kind = _kind(_SECTIONS, heading[1])
        if kind == "checklist" or _ITEM.search(text):
            text = _ITEM.sub(lambda item: _tick(item, answers, checklist), text)
            before_checklist = before_checklist or len(parts)
        elif kind in missing:
            text = missing.pop(kind) or _EMPTY
        parts.append(f"{heading[0]}\n\n{text.strip()}".strip())
    added = [
        f"## {profile.headings.get(kind, kind.capitalize())}\n\n{text}"
        for kind, text in missing.items()
        if text
    ]
    at = before_checklist or len(parts)
    parts[at:at] = added
    return "\n\n".join(part for part in parts if part) + "\n", tuple(checklist)


def _tick(item: re.Match[str], answers: Answers, checklist: list[Checkbox]) -> str:
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", item[2])
    kind = _kind(_ITEMS, words)
    ticked, why = answers.get(kind, (False, "nothing that fixtool runs says so"))
    checklist.append(Checkbox(words, ticked, why))
    return f"{item[1]}[{'x' if ticked else ' '}] {item[2]}"


def _kind(kinds: Mapping[str, str], text: str) -> str:
    """The first kind whose pattern ``text`` matches; empty if there is none."""
    return next((kind for kind, words in kinds.items() if re.search(words, text, re.I)), "")
