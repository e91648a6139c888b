"""Upstream's pull request template: its sections, in its order and words, filled in.

A section is known by a word of its heading, so that a template which is reworded is still filled;
one that nobody knows stays as upstream wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree

_PLACES = (".github/pull_request_template.md", ".github/PULL_REQUEST_TEMPLATE.md",
           "docs/pull_request_template.md", "pull_request_template.md")  # fmt: skip
_DEFAULT = """## Motivation

## Modifications

## Accuracy Tests

## Speed Tests and Profiling

## Checklist

- [ ] Format your code with the project's hooks.
- [ ] Add unit tests.
- [ ] Update documentation.
- [ ] Provide accuracy and speed benchmark results.
"""
_LARGEST = 7_000  # characters
_WORDS = {
    "motivation": r"motivation|why|purpose|description|summary",
    "modifications": r"modification|changes|what",
    "accuracy": r"accuracy|correctness",
    "speed": r"speed|benchmark|profil|performance",
    "checklist": r"checklist|before submitting",
}
_HEADING = re.compile(r"^#{1,4} +(.+?) *$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_APART = re.compile(r"<!--.*?-->|^```.*?^```", re.DOTALL | re.MULTILINE)  # holds no heading
_NOTHING = "Not measured on this version."
_ITEM = re.compile(r"^( *[-*] )\[ \] (.*)$", re.MULTILINE)
_ITEMS = {
    "tests": r"unit ?test|add tests",
    "documentation": r"document",
    "results": r"benchmark result|accuracy and speed|speed benchmark",
    "format": r"format|pre-commit|lint",
    "style": r"code style|style guid",
}


@dataclass(frozen=True)
class Checkbox:
    """One line of the checklist: ``why`` is what was run, or what is missing."""

    item: str
    ticked: bool
    why: str


def read(repo: Repo, commit: str) -> tuple[str, str | None]:
    """The template of ``commit``, and its path; a plain one, and None, where it has none that
    leaves room for more."""
    for path in _PLACES:
        if entry := list_tree(repo, commit, path).get(path):
            raw = next(iter(repo.read_blobs([entry[1]])))
            text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
            return (text, path) if len(text) <= _LARGEST else (_DEFAULT, None)
    return _DEFAULT, None


def fill(
    template: str, sections: Mapping[str, str], answers: Mapping[str, tuple[bool, str]]
) -> tuple[str, tuple[Checkbox, ...]]:
    """The body: ``sections`` by the keys of ``_WORDS``, and the checklist ticked by ``answers``,
    kind of item -> (ticked, why). Comments of a section that is filled are left out. What the
    template has no section for stands before its checklist; an empty one is only told of where the
    template asks."""
    apart = [one.span() for one in _APART.finditer(template)]
    heads = [
        one
        for one in _HEADING.finditer(template)
        if not any(start <= one.start() < end for start, end in apart)
    ]
    if not heads:
        return fill(_DEFAULT, sections, answers)
    parts = [_COMMENT.sub("", template[: heads[0].start()]).strip()]
    ticks: list[Checkbox] = []
    left = dict(sections)
    first = 0  # of the parts that is a checklist
    for head, end in zip(heads, [*(one.start() for one in heads[1:]), len(template)], strict=True):
        own = template[head.end() : end]
        kind = next((key for key, word in _WORDS.items() if re.search(word, head[1], re.I)), None)
        if kind == "checklist" or _ITEM.search(own):
            own = _ITEM.sub(lambda item: _tick(item, answers, ticks), own)
            first = first or len(parts)
        elif kind in left:
            own = left.pop(kind) or _NOTHING
        parts.append(f"{head[0]}\n\n{own.strip()}".strip())
    rest = [f"## {kind.capitalize()}\n\n{text}" for kind, text in left.items() if text]
    at = first or len(parts)
    parts[at:at] = rest
    return "\n\n".join(one for one in parts if one) + "\n", tuple(ticks)


def _tick(
    item: re.Match[str], answers: Mapping[str, tuple[bool, str]], ticks: list[Checkbox]
) -> str:
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", item[2])
    kind = next((key for key, word in _ITEMS.items() if re.search(word, words, re.I)), None)
    done, why = answers.get(kind or "", (False, "nothing that fixtool runs says so"))
    ticks.append(Checkbox(words, done, why))
    return f"{item[1]}[{'x' if done else ' '}] {item[2]}"
