"""The parts of a diff are found in every form, in time that grows with its size."""

from __future__ import annotations

import time

import pytest

from fixtool.incoming.places import Place, find_places
from fixtool.incoming.sections import read_sections

HUNK = "@@ -1 +1 @@\n-a\n+b\n"


@pytest.mark.parametrize(
    ("text", "strip", "path", "source"),
    [
        (f"--- a/x y.c\t2026-01-01 00:00:00\n+++ b/x y.c\n{HUNK}", 1, "x y.c", "x y.c"),
        (f"--- x.c (revision 3)\n+++ x.c (working copy)\n{HUNK}", 0, "x.c", "x.c"),
        (f"--- d/x.c 2026-01-01 10:00:00.0 +0100\n+++ d/x.c\n{HUNK}", 0, "d/x.c", "d/x.c"),
        (f"--- o/x.c\t1970-01-01 00:00:00 +0000\n+++ n/x.c\n{HUNK}", 1, "x.c", None),
        (f"--- /dev/null\n+++ b/x.c\n{HUNK}", 1, "x.c", None),
        (f"--- a/x.c\n+++ /dev/null\n{HUNK}", 1, "x.c", "x.c"),
        (f"--- x.c\n+++ x.c.orig\n{HUNK}", 0, "x.c", "x.c"),
        (f'--- "a/\\303\\244 \\t.c"\n+++ "b/\\303\\244 \\t.c"\n{HUNK}', 1, "ä \t.c", "ä \t.c"),
        (f"diff --git a/x b/x\nindex 12..34 100644\n--- a/x\n+++ b/x\n{HUNK}", 1, "x", "x"),
        ("diff --git a/x y b/x y\nold mode 100644\nnew mode 100755\n", 1, "x y", "x y"),
        ("diff --git a/d/x b/e/y z\nrename from d/x\nrename to e/y z\n", 1, "e/y z", "d/x"),
        ("diff --git d/x e/y\nrename from d/x\nrename to e/y\n", 0, "e/y", "d/x"),
        ("diff --git a/x b/x\nnew file mode 100644\nindex 0000000..e69de29\n", 1, "x", None),
        (f"--- a/x\n+++ b/x\n{HUNK}".replace("\n", "\r\n"), 1, "x", "x"),
    ],
)  # fmt: skip
def test_names(text: str, strip: int, path: str, source: str | None) -> None:
    (section,) = read_sections(f"prose\n{text}-- \n2.39\n".encode().split(b"\n"))
    assert (section.path(strip), section.source(strip)) == (path, source)


def test_what_a_hunk_holds_begins_no_section() -> None:
    text = "--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n k\n--- a/y\n-++ b/y\n+++ b/y\n--- a/z\n+++ b/z\n"
    sections = read_sections((text + HUNK).encode().split(b"\n"))
    assert [(section.old, section.first, section.end) for section in sections] == [
        ("a/x", 0, 7), ("a/z", 7, 12),
    ]  # fmt: skip


def test_large_and_damaged_diffs_end_in_time() -> None:
    blanks, digits = " " * 1_000_000, "9" * 100_000
    began = time.monotonic()
    for text in (
        f"--- a/x{blanks}y\n+++ b/x\n{HUNK}",
        f"--- a/x\n+++ b/x\n@@ -{digits} +1 @@\n",
        f"diff --git {'a/' * 100_000} {'b ' * 100_000}\n",
        "--- a/x\n+++ b/x\n@@ -1,9999999999 +1 @@\n" * 20_000,
        "diff --git a/x b/x\n" * 50_000,
    ):
        sections = read_sections(text.encode().split(b"\n"))
        find_places(sections[:50], {"python/x"}, None, None)
    assert time.monotonic() - began < 60


def test_new_files_alone() -> None:
    tree = {"python/a.py", "docs/b"}
    for names, place in (
        (("a/python/n", "b/python/n"), Place(1)), (("/dev/null", "python/n"), Place(0)),
        (("/dev/null", "x/y/python/n"), Place(2)), (("/dev/null", "b/fresh/n"), Place(1)),
    ):  # fmt: skip
        text = f"--- {names[0]}\n+++ {names[1]}\n@@ -0,0 +1 @@\n+a\n"
        sections = read_sections(text.encode().split(b"\n"))
        assert find_places(sections, tree, None, None)[0] == place
