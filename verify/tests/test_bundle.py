"""verify/bench/bundle.py: the trees of contenders, out of what each patch changes alone."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from verify.bench.bundle import merge, without

BASE = b"".join(b"line %d\n" % number for number in range(30))


def replaced(number: int, line: bytes) -> bytes:
    return BASE.replace(b"line %d\n" % number, line)


def git_merges(folder: Path, *contents: bytes) -> bytes | None:
    """What git makes of ours, base and theirs; None at a conflict."""
    files = [folder / name for name in ("ours", "base", "theirs")]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    ran = subprocess.run(["git", "merge-file", "-p", *map(str, files)], capture_output=True)
    return ran.stdout if ran.returncode == 0 else None


def edited(random_of: random.Random) -> bytes:
    """The base with one to three changes: lines put in, taken out or replaced."""
    lines = BASE.splitlines(keepends=True)
    for _ in range(random_of.randint(1, 3)):
        at, length = random_of.randrange(len(lines)), random_of.randrange(3)
        new = [b"new %d\n" % random_of.randrange(4) for _ in range(random_of.randrange(3))]
        lines[at : at + length] = new
    return b"".join(lines)


@pytest.mark.parametrize("seed", range(30))
def test_two_changes_are_merged_as_git_merges_them(tmp_path: Path, seed: int) -> None:
    random_of = random.Random(seed)
    ours, theirs = edited(random_of), edited(random_of)
    assert merge(BASE, ours, theirs) == git_merges(tmp_path, ours, BASE, theirs)


def test_patches_that_share_a_file_can_be_left_out_one_by_one(tmp_path: Path) -> None:
    """Two patches of our own series change one model file, so no contender could be made of them."""
    versions = {
        "base": BASE, "first": replaced(3, b"first\n"), "second": replaced(20, b"second\n"),
        "third": replaced(20, b"second\n").replace(b"line 21\n", b"third\n"),
    }  # fmt: skip
    (tmp_path / "blobs").mkdir()
    for name, content in versions.items():
        (tmp_path / "blobs" / name).write_bytes(content)
    (tmp_path / "model.py").write_bytes(BASE)
    slugs = ("first", "second", "third")
    plan = {
        "about": {"patches": [{"slug": slug} for slug in slugs]},
        "trees": {f"+{slug}": {"changes": {"model.py": ["100644", slug]}} for slug in slugs},
    }

    def left(*left_out: str) -> bytes:
        return without(plan, set(left_out), tmp_path, tmp_path / "blobs")["model.py"]

    assert left("third") == replaced(3, b"first\n").replace(b"line 20\n", b"second\n")
    assert left("second", "third") == versions["first"]
    with pytest.raises(SystemExit, match="model.py is deleted, or two of the other patches"):
        left("first")  # the third has the second's change and more at the same lines
