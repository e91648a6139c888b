"""A message that is brought into mailable form is one that lint takes and git gives back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fixtool.git.objects import ZERO, Oid, Signature
from fixtool.git.repo import Repo
from fixtool.incoming.change import make_change
from fixtool.incoming.file import read_input
from fixtool.series.message import clean, ends_message, has_controls, is_header, mailable
from fixtool.series.patch import Patch, export, parse

LINES = ["---", "--- a/x", "--- name", "diff --git a/x b/x", "diff -u a b", "Index: x", "-- >8 --",
         f"From {'0' * 40} Mon Sep 17 00:00:00 2001", "From a@b Thu Jan  1 00:00:00 1970"]  # fmt: skip
FIRST = ["From: A <a@b.c>", "subject: x", "DATE: x", "[PATCH] x", ">From x"]


def test_every_odd_line_comes_back_from_git(tmp_path: Path) -> None:
    """`git am` ended 13 of 1,000 real messages too early, and lint refused what import had taken."""
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path)], check=True)
    repo = Repo.open(tmp_path, bare=True)
    empty = Oid(repo.run("mktree", stdin=b"").text)
    blob = Oid(repo.run("hash-object", "-w", "--stdin", stdin=b"x\n").text)
    tree = Oid(repo.run("mktree", stdin=f"100644 blob {blob}\tx\n".encode()).text)
    author = Signature("Zoë", "zoe@example.com", "1700000000 +0000")
    base = repo.write_commit(Patch("base", b"", "base", "", author, b"").commit(empty, ZERO))
    for first in FIRST:
        body = "\n\n".join([first, *LINES, "End."])
        change = make_change(f" two  blanks\t{first}", body, author, b"", "here")
        assert len(change.notes) == 1 + 1 + len(LINES)
        patch = Patch("x", b"", change.subject, change.body, author, b"")
        raw = export(repo, repo.write_commit(patch.commit(tree, base)))
        again = parse(raw, "x")
        assert (again.subject, again.body) == (change.subject, change.body)
        (by_git,) = read_input(repo, "x.patch", raw, author, None)
        assert (by_git.subject, by_git.body) == (change.subject, change.body)
        assert not [line for line in change.body.split("\n") if ends_message(line)]
        assert not is_header(change.body) and not has_controls(change.body)


def test_a_good_message_is_left_as_it_is() -> None:
    body = "Why.\n\n----------\n- one\n--- \n    indented\n\nFrom the start.\nOrigin: vendor"
    assert mailable("area: one", "From the start.") == ("area: one", "From the start.", ())
    assert mailable("area: one", body.replace("--- \n", ""))[2] == ()
    assert clean("a  \n\n\n\nb\r\n\n") == "a\n\nb"
