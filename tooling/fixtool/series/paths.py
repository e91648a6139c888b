"""Which paths no patch may write, and which ones a person should look at.

A path is judged as the least careful file system reads it: macOS leaves some code points out and
ignores case, Windows ignores case, blanks and dots at the end, and what follows a colon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from fixtool.series.diff import FilePatch
from fixtool.text import late_pattern

LONGEST = 1024
"""The most bytes of a path. Linux opens 4,096, macOS 1,024, in front of which a work tree's own
path must fit too."""

_LONGEST_NAME = 255  # bytes of a file's name, on every file system
_DEEPEST = 100  # folders: removing a tree takes one call of a function for each
_REMEMBERED = 4096  # answers: the patches of a series change the same files again and again
_IGNORED_BY_HFS = late_pattern("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_GIT = late_pattern(r"\.git|git~\d+")
_GIT_RULES = late_pattern(
    r"\.git(attributes|modules)|(gitatt|gitmod|gi7d29|gi7eba)~\d+|\.lfsconfig"
    r"|\.pre-commit-config\.yaml"
)
# The name of a folder too: a file or symlink of its name stands in its place.
_CI_RULES = late_pattern(
    r"\.github((/(workflows|actions)(/.*)?)?$)|\.(circleci|buildkite)(/.*)?$"
    r"|(\.gitlab-ci|\.travis|azure-pipelines|bitbucket-pipelines)\.ya?ml$|jenkinsfile$"
)


def unsafe_paths(files: Iterable[FilePatch]) -> list[tuple[FilePatch, str, str]]:
    """``(file, path, why)`` for every path that no patch may write."""
    unsafe = []
    links = set[str]()
    for file in files:
        for path in dict.fromkeys(file.paths):
            if why := _unsafe(path, links):
                unsafe.append((file, path, why))
        if file.mode == "120000" and file.new_path:
            links.add(_folded_path(file.new_path))
    return unsafe


def rules_touched(file: FilePatch) -> str | None:
    """What a person should know of a file that changes how git or CI treats the tree; None for any
    other file."""
    if file.mode == "160000":
        return f"{file.path} is a submodule: git takes its files from another repository"
    for path in file.paths:
        folded = _folded_path(path)
        if _GIT_RULES.fullmatch(folded.rpartition("/")[2]) or _CI_RULES.match(folded):
            return f"{path} changes how git or CI treats the tree"
    return None


def _unsafe(path: str, links: set[str]) -> str | None:
    if why := _unsafe_alone(path):
        return why
    if not links:
        return None
    folded = _folded_path(path).split("/")
    if any("/".join(folded[:depth]) in links for depth in range(1, len(folded))):
        return "behind a symlink that this patch makes (CVE-2023-23946)"
    return None


@lru_cache(_REMEMBERED)
def _unsafe_alone(path: str) -> str | None:
    """Why no patch may write a path, whatever else the patch does."""
    parts = path.split("/")
    if (
        len(parts) > _DEEPEST
        or _size(path) > LONGEST
        or any(_size(part) > _LONGEST_NAME for part in parts)
    ):
        return f"a path of {_size(path)} bytes in {len(parts)} levels, which is too long or deep"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "an absolute path"
    if ".." in parts or "." in parts or "" in parts:
        return "a path that leaves the tree or is not in plain form"
    if any(_GIT.fullmatch(_folded(part)) for part in parts):
        return "a path inside git's own folder"
    if "\\" in path or re.search(r"[\x00-\x1f\x7f]", path):
        return "a backslash or control character"
    return None


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


@lru_cache(_REMEMBERED)
def _folded_path(path: str) -> str:
    return "/".join(map(_folded, path.split("/")))


@lru_cache(_REMEMBERED)
def _folded(part: str) -> str:
    """The name of a file or folder as the least careful file system compares it."""
    return _IGNORED_BY_HFS.sub("", part).lower().partition(":")[0].rstrip(". ")
