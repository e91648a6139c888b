"""What a command can change: the files of ``patches/``, a branch, work trees, and what waits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtool.documents import Field
from fixtool.git.names import check_ref
from fixtool.git.objects import Oid
from fixtool.operations.contents import is_digest
from fixtool.series.line import is_line_name
from fixtool.series.patch import is_slug
from fixtool.text import count

EXECUTABLE = "+x"
"""What follows the hash of a file that may be run."""
MIDDLE_FILES = ("CHERRY_PICK_HEAD", "MERGE_MSG", "MERGE_RR", "ORIG_HEAD")
"""The files in a git folder that say what git is in the middle of."""
AROUND = (
    "pyproject.toml", ".gitattributes", ".gitignore", "verify/probes/README.md",
    "verify/probes/example.py",
)  # fmt: skip
"""What ``init`` writes beside ``patches/``. In a state, their names begin with a slash."""
_VERB = re.compile("[a-z]{1,20}")
_FEW = 3  # names that are written out
_TABLES = ("files", "waiting", "trees")
BRANCH = ("branch", "")
"""The only part of a state that has no name."""


@dataclass(frozen=True)
class Branch:
    """The branch that is checked out in the repository that tracks ``patches/`` (``HEAD`` if none
    is), and its commit."""

    name: str
    commit: Oid | None


@dataclass(frozen=True)
class TreeState:
    """A work tree. ``store`` is the name of the store of fixtool's that it belongs to, or None for
    a checkout of the user's. ``record`` and ``note`` say by their hash what fixtool keeps with it.
    ``branches`` are those that fixtool made in a checkout of the user's.

    ``files`` is the tree of its files, with what is not committed; ``index`` and ``git_files`` are
    the hashes of git's own files. These are known of a tree in which something waits, and of one
    that the command was about; else ``files`` is None.
    """

    store: str | None
    head: Oid
    branch: str | None
    record: str | None = None
    note: str | None = None
    files: Oid | None = None
    index: str | None = field(default=None, compare=False)  # it holds times: git status changes it
    git_files: Mapping[str, str] = field(default_factory=dict)
    branches: Mapping[str, Oid] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """``files`` maps the name of each file below ``patches/`` to its hash, ``waiting`` the verb and
    the line of what waits for a person (``rebase/main``) to the hash of its session, and ``trees``
    the path of a work tree to what is in it."""

    files: Mapping[str, str] = field(default_factory=dict)
    branch: Branch | None = None
    waiting: Mapping[str, str] = field(default_factory=dict)
    trees: Mapping[str, TreeState] = field(default_factory=dict)

    def parts(self) -> dict[tuple[str, str], object]:
        """All parts by kind and name. A part that is not there has no entry."""
        parts: dict[tuple[str, str], object] = {}
        for kind in _TABLES:
            parts |= {(kind, name): value for name, value in getattr(self, kind).items()}
        if self.branch:
            parts[BRANCH] = self.branch
        return parts

    @classmethod
    def of(cls, parts: Mapping[tuple[str, str], Any]) -> State:
        """The state that has these ``parts``."""
        tables: dict[str, dict[str, Any]] = {kind: {} for kind in _TABLES}
        for (kind, name), value in parts.items():
            if kind in tables:
                tables[kind][name] = value
        return cls(branch=parts.get(BRANCH), **tables)


def differing(before: State, after: State) -> tuple[State, State]:
    """The parts of both states that differ. The branch stays where it is known: it says on which
    commit the command ran."""
    old, new = before.parts(), after.parts()
    return (
        State.of({part: old[part] for part in old if part == BRANCH or old[part] != new.get(part)}),
        State.of({part: new[part] for part in new if part == BRANCH or new[part] != old.get(part)}),
    )


def check_state(state: Field) -> None:
    """Raise FieldError or UsageError if a name, path, hash or ref in the document of a state does
    not have the form of one. (Ids have been checked by their type.)"""
    for name in state["files"].table():
        _hash(state["files"][name])
        if name[:1] == "/" and name[1:] in AROUND:
            continue
        line, *rest = name.split("/")
        if not is_line_name(line) or not 1 <= len(rest) <= 4 or not all(map(is_slug, rest)):
            raise Field(name, "files").wrong("a file of a line")
    for name in state["waiting"].table():
        verb, _, line = name.partition("/")
        if not _VERB.fullmatch(verb) or not is_line_name(line):
            raise Field(name, "waiting").wrong("a verb and a line")
        _hash(state["waiting"][name])
    if branch := state["branch"].optional(lambda branch: branch["name"].text()):
        check_ref(branch)
    for path in state["trees"].table():
        if not Path(path).is_absolute() or ".." in Path(path).parts or "\0" in path:
            raise Field(path, "trees").wrong("the path of a work tree")
        _check_tree(state["trees"][path])


def _check_tree(tree: Field) -> None:
    if (name := tree["store"].optional(Field.text)) and not re.fullmatch(r"[^/\0]+\.git", name):
        raise tree["store"].wrong("the name of a store")
    for ref in (tree["branch"].optional(Field.text), *tree["branches"].table()):
        if ref and not check_ref(ref).startswith("refs/heads/"):
            raise Field(ref, "branch").wrong("a branch")
    for key in ("record", "note", "index"):
        tree[key].optional(_hash)
    for name in tree["git_files"].table():
        if name not in MIDDLE_FILES:
            raise Field(name, "git_files").wrong("a file of git's")
        _hash(tree["git_files"][name])


def _hash(value: Field) -> str:
    if not is_digest(value.text().removesuffix(EXECUTABLE)):
        raise value.wrong("a hash")
    return value.text()


# -- in words --------------------------------------------------------------------------------


def describe(before: State, after: State) -> tuple[str, ...]:
    """What changed between two states, one phrase for each thing."""
    return (
        *_lines_in_words(before.files, after.files),
        *_branch_in_words(before.branch, after.branch),
        *_waiting_in_words(before.waiting, after.waiting),
        *_trees_in_words(before.trees, after.trees),
    )


def _lines_in_words(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    changed: dict[str, list[str]] = {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            line, _, file = name.partition("/")
            sign = "+" if name not in before else "-" if name not in after else ""
            changed.setdefault(line or "around patches/", []).append(
                f"{sign}{file.removesuffix('.patch')}"
            )
    for line, names in changed.items():
        few = len(names) <= _FEW
        yield f"{line}: {', '.join(names) if few else count(len(names), 'file')}"


def _branch_in_words(before: Branch | None, after: Branch | None) -> Iterator[str]:
    if before != after and after and after.commit:
        yield f"commit {after.commit[:12]}"


def _waiting_in_words(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        verb, _, line = name.partition("/")
        if name not in before:
            yield f"{verb} of {line} waits"
        elif name not in after:
            yield f"{verb} of {line} ended"
        elif before[name] != after[name]:
            yield f"{verb} of {line} went on"


def _trees_in_words(
    before: Mapping[str, TreeState], after: Mapping[str, TreeState]
) -> Iterator[str]:
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            verb = "made" if old is None else "removed" if new is None else "changed"
            yield f"work tree {path} {verb}"
