"""Patches that are applied in memory give the tree that `git apply` gives, or do not apply."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable

import pytest

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Oid, TreeEntry
from fixtool.git.trees import scratch_index
from fixtool.series import strict
from fixtool.series.patch import Patch
from fixtool.series.strict import LeftToGit, applies_reversed, apply_by_git, apply_patch
from support.repositories import Git


@pytest.fixture
def objects(make_git: Callable[[str], Git]) -> ObjectDatabase:
    return ObjectDatabase(make_git("repo").repo)


def patch_of(diff: str) -> Patch:
    return Patch("change", b"", "change", "", MACHINE, diff.encode())


def diff_of(before: str, after: str, context: int, path: str = "d/f") -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True),
        f"a/{path}", f"b/{path}", n=context,
    )  # fmt: skip
    marked = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return f"diff --git a/{path} b/{path}\n" + "".join(marked)


def tree_of(objects: ObjectDatabase, **files: str) -> Oid:
    entries: dict[str, TreeEntry | None] = {
        path.replace("__", "/"): TreeEntry("100644", objects.add("blob", text.encode()))
        for path, text in files.items()
    }
    return objects.with_files(Oid(""), entries)


def random_text(chance: random.Random, size: int) -> str:
    text = "".join(chance.choice("aab") + "\n" for _ in range(chance.randrange(size)))
    return text[:-1] if chance.random() < 0.2 else text


def edited(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(lines) + 1)
        lines[at : at + chance.randrange(3)] = ["c\n"] * chance.randrange(3)
    return "".join(lines)


def test_random_edits_of_files_whose_lines_repeat(objects: ObjectDatabase) -> None:
    chance = random.Random(16)
    applied = refused = 0
    with objects:
        for _ in range(90):
            before = random_text(chance, 24)
            after = edited(chance, before)
            if before == after or not before or not after:
                continue
            patch = patch_of(diff_of(before, after, chance.randrange(4)))
            target = before if chance.random() < 0.3 else edited(chance, before)
            tree = tree_of(objects, d__f=target)
            wanted, _ = apply_by_git(objects, patch, tree)
            assert apply_patch(objects, patch, tree) == wanted, (before, after, target)
            applied += wanted is not None
            refused += wanted is None
    assert applied > 20
    assert refused > 20


A, B = ("".join(f"{name}{number}\n" for number in range(7)) for name in "ab")
APART = "apart\n" * 9


@pytest.mark.parametrize(
    ("target", "applies"),
    [
        (APART * 2 + A + APART + B + APART * 3 + A + B, True),
        (APART + B + APART + A + APART, True),
        (APART + A + APART, False),
    ],
    ids=["they stand at two places", "in the other order", "one stands nowhere"],
)
def test_hunks_whose_lines_stand_elsewhere(
    objects: ObjectDatabase, target: str, applies: bool
) -> None:
    before = APART + A + APART + B + APART
    patch = patch_of(diff_of(before, before.replace("3\n", "3 fixed\n"), 3))
    with objects:
        tree = tree_of(objects, d__f=target)
        wanted, _ = apply_by_git(objects, patch, tree)
        assert (apply_patch(objects, patch, tree), wanted is not None) == (wanted, applies)


NEW = "diff --git a/{0} b/{0}\nnew file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+x\n"
GONE = "diff --git a/d/f b/d/f\ndeleted file mode 100644\n--- a/d/f\n+++ /dev/null\n@@ -1{0} +0,0 @@\n{1}"
MODE = "diff --git a/d/f b/d/f\nold mode 100644\nnew mode 100755\n"


@pytest.mark.parametrize(
    "diff",
    [
        NEW.format("e/g", 100644), NEW.format("d/g", 100755), NEW.format("d/f", 100644),
        NEW.format("d/f/g", 100644), NEW.format("d", 100644), NEW.format("d/l", 120000),
        GONE.format(",2", "-a\n-b\n"), GONE.format("", "-a\n"), MODE,
        MODE + "--- a/d/f\n+++ b/d/f\n@@ -1,2 +1,2 @@\n-a\n+c\n b\n",
        diff_of("a\nb\n", "a\nb", 3), diff_of("a\nb", "a\nb\nc\n", 3),
        diff_of("a\nb\n", "a\nc\n", 3, "d/none"),
        diff_of("a\nb\n", "a\nc\n", 3) + NEW.format("x/y/z", 100644),
        diff_of("a\nb\n", "c\nb\n", 3) + diff_of("c\nb\n", "c\nd\n", 3),
        "diff --git a/d/f b/d/g\nsimilarity index 100%\nrename from d/f\nrename to d/g\n",
    ],
    ids=range(16),
)  # fmt: skip
def test_new_and_removed_files_modes_and_names(objects: ObjectDatabase, diff: str) -> None:
    patch = patch_of(diff)
    with objects:
        tree = tree_of(objects, d__f="a\nb\n", h="h\n")
        assert apply_patch(objects, patch, tree) == apply_by_git(objects, patch, tree)[0]


@pytest.mark.parametrize(
    ("diff", "answers"),
    [
        (NEW.format("d/g", 100644), (False, True)), (GONE.format(",2", "-a\n-b\n"), (False, None)),
        (MODE, (None, None)), (MODE.replace("d/f", "d/none"), (False, False)),
        (MODE + "--- a/d/f\n+++ b/d/f\n@@ -1,2 +1,2 @@\n-a\n+c\n b\n", (False, None)),
        (diff_of("a\nb\n", "a\nc\n", 3, "d/none"), (False, False)),
        (diff_of("a\nb\n", "c\nb\n", 3) + GONE.format("", "-h\n").replace("d/f", "h"), (False, None)),
        (GONE.format("", "-h\n").replace("d/f", "h") + diff_of("b\n", "c\nb\n", 3), (False, False)),
    ],
    ids=range(8),
)  # fmt: skip
def test_taking_out_what_adds_removes_or_changes_a_mode(
    objects: ObjectDatabase, diff: str, answers: tuple[bool | None, bool | None]
) -> None:
    """Before the patch, and after it: what is told without git is what git says. A patch of which
    one file cannot be taken out is not left to git."""
    patch = patch_of(diff)
    with objects:
        tree = tree_of(objects, d__f="a\nb\n", h="h\n")
        after = apply_patch(objects, patch, tree) or tree
        objects.flush()
        for now, expected in zip((tree, after), answers, strict=True):
            with scratch_index(objects.repo, now) as index:
                words = ("apply", "--cached", "--check", "--reverse", "-")
                out = objects.repo.run(*words, stdin=diff.encode(), index=index, accept=None)
            try:
                found = applies_reversed(objects, patch, now)
            except LeftToGit:
                assert expected is None
            else:
                assert (found, out.status == 0) == (expected, expected)


def test_the_usual_changes_need_no_process(
    objects: ObjectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict, "apply_by_git", None)
    with objects:
        tree = tree_of(objects, d__f="a\nb\n", d__h="h\n")
        diff = diff_of("a\nb\n", "a\nc\n", 3) + NEW.format("x/y", 100644)
        diff += diff_of("h\n", "i\n", 3, "d/h")
        after = apply_patch(objects, patch_of(diff), tree)
        assert after == tree_of(objects, d__f="a\nc\n", d__h="i\n", x__y="x\n")
        assert apply_patch(objects, patch_of(diff_of("z\n", "y\n", 3)), tree) is None


def test_whether_a_patch_can_be_taken_out_again(objects: ObjectDatabase) -> None:
    """git says the same, also where the lines repeat or are others."""
    chance = random.Random(5)
    answers = []
    for _ in range(60):
        before = random_text(chance, 9)
        after = edited(chance, before)
        diff = diff_of(before, after, chance.randrange(4))
        if chance.random() < 0.2:
            before, diff = "", diff_of("", after, 0)
            diff = diff.replace("\n---", "\nnew file mode 100644\n---").replace(
                "--- a/d/f", "--- /dev/null"
            )
        if before == after or not after:
            continue
        now = chance.choice([after, edited(chance, after), before])
        tree = tree_of(objects, d__f=now)
        objects.flush()
        with scratch_index(objects.repo, tree) as index:
            words = ("apply", "--cached", "--check", "--reverse", "-")
            out = objects.repo.run(*words, stdin=diff.encode(), index=index, accept=None)
        try:
            answers.append(applies_reversed(objects, patch_of(diff), tree))
        except LeftToGit:
            continue
        assert answers[-1] is (out.status == 0), diff
    assert answers.count(True) > 5
    assert answers.count(False) > 5
