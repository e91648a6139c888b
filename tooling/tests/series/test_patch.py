"""The normal form: what goes in comes out, byte for byte, whatever the patch does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fixtool.errors import Refused
from fixtool.git.objects import MACHINE, Commit, Signature
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import apply_to_index, scratch_index, write_tree
from fixtool.series.patch import export, is_slug, parse, read_trailers, slugify
from fixtool.series.paths import unsafe_paths
from support.repositories import Git, format_patch

ODD_NAMES = ("with space.txt", 'quo"te.txt', "ünïcode.txt", "-dash.txt", "ünï code.txt")
MAIL = "From 0123456789012345678901234567890123456789 Mon\n-- \n2.39\n--- a/x\n"


def edit(git: Git, name: str, before: str, after: str) -> None:
    git.write(name, before)
    git("add", "-A")
    git("commit", "-qm", "before")
    git.write(name, after)


CORPUS: dict[str, Callable[[Git], object]] = {
    "crlf": lambda git: edit(git, "x.txt", "one\r\ntwo\r\nthree\r\n", "one\r\nTWO\r\nthree\r\n"),
    "no final newline": lambda git: edit(git, "end.txt", "a\nb", "a\nc"),
    "binary": lambda git: git.write("data.bin", bytes(range(256)) * 4),
    "latin1": lambda git: git.write("latin.txt", "caf\xe9\n".encode("latin-1")),
    "rename": lambda git: git("mv", "README.txt", "moved.txt"),
    "mode": lambda git: (git.path / "README.txt").chmod(0o755),
    "symlink": lambda git: (git.path / "link").symlink_to("README.txt"),
    "empty file": lambda git: git.write("empty.txt", ""),
    "delete": lambda git: (git.path / "README.txt").unlink(),
    "odd names": lambda git: [git.write(name, f"{name}\n") for name in ODD_NAMES],
    "form feed": lambda git: git.write("ff.txt", "a\x0cb\nc\x85d\n\u2028\n"),
    "looks like mail": lambda git: git.write("mail.txt", MAIL),
}


@pytest.mark.parametrize("change", CORPUS)
def test_round_trip(upstream: Git, change: str) -> None:
    CORPUS[change](upstream)
    upstream("add", "--all")
    upstream("commit", "-qm", f"area: {change}\n\nWhy.\n\nOrigin: vendor")
    tree = upstream("rev-parse", "HEAD^{tree}")
    raw = format_patch(upstream)
    patch = parse(raw, "x")
    repo = upstream.repo
    parent = upstream("rev-parse", "HEAD~1")
    with scratch_index(repo, parent) as index:
        assert apply_to_index(repo, index, patch.diff).status == 0
        applied = write_tree(repo, index)
    assert applied == tree
    commit = repo.write_commit(patch.commit(applied, parent))
    assert export(repo, commit) == raw
    assert patch.files
    assert unsafe_paths(patch.files) == []


WORD = st.text("abcXYZ0129äß語:()#'\"/*.,", min_size=1, max_size=30)
LINE = st.lists(WORD, min_size=1, max_size=12).map(" ".join)


@given(subject=LINE, body=st.lists(LINE, max_size=6), name=WORD)
@example(subject="x" * 200, body=["y" * 300], name="Ä Ö")
@example(subject="[tag] kept as written", body=[], name='O"Neil, A')
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_message_survives(
    tmp_path_factory: pytest.TempPathFactory, subject: str, body: list[str], name: str
) -> None:
    global _REPO
    if _REPO is None:
        _REPO = Store.create(tmp_path_factory.mktemp("messages") / "x.git")
    blob = _REPO.run("hash-object", "-w", "--stdin", stdin=b"x\n").text
    empty = _REPO.run("mktree", stdin=b"").text
    tree = _REPO.run("mktree", stdin=f"100644 blob {blob}\tx\n".encode()).text
    root = _REPO.write_commit(Commit(empty, (), MACHINE, MACHINE, "root\n"))
    text = "\n".join(body)
    message = f"{subject}\n\n{text}\n" if body else f"{subject}\n"
    name = name.strip(" .,:;<>\"'") or "A"
    author = Signature(name, "a@example.org", "1700000000 +0530")
    raw = export(_REPO, _REPO.write_commit(Commit(tree, (root,), author, MACHINE, message)))
    patch = parse(raw, "x")
    assert (patch.message, patch.author) == (message, author)
    assert export(_REPO, _REPO.write_commit(patch.commit(tree, root))) == raw


_REPO: Repo | None = None


def test_export_ignores_a_hostile_configuration(
    upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.commit("move", README_txt=None, python__moved_txt="read me\n")
    raw = format_patch(upstream)
    config = tmp_path / "config"
    config.write_text(
        "[diff]\nnoprefix=true\nrenames=copies\nmnemonicPrefix=true\nalgorithm=patience\n"
        "context=9\ninterHunkContext=9\nsuppressBlankEmpty=true\norderFile=/dev/null\n[core]\n"
        "abbrev=4\n[format]\nnumbered=true\nsignature=zzz\nthread=deep\nattach=true\nto=a@b\n"
        "coverLetter=true\nsubjectPrefix=RFC\noutputDirectory=/tmp\nnotes=true\nuseAutoBase=true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    upstream("config", "diff.noprefix", "true")
    upstream("config", "diff.context", "9")
    upstream("config", "diff.suppressBlankEmpty", "true")
    upstream("config", "format.attach", "true")
    assert format_patch(upstream) == raw


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"\x00\x01" + raw, "binary"),
        (lambda raw: raw.split(b"diff --git")[0], "no `diff --git` line"),
        (lambda raw: raw.replace(b"From: ", b"Frm: "), "no From: header"),
        (lambda raw: raw.replace(b"Subject: [PATCH] ", b"Subject: "), "does not begin with"),
        (lambda raw: raw.replace(b"Date: ", b"Date: no "), "not a date"),
        (lambda raw: raw.replace(b"@@ -17,7", b"@@ -17,9"), "not well formed"),
        (lambda raw: raw[: raw.index(b"+line 20") + 3], "not well formed"),
    ],
)
def test_damage_is_named(upstream: Git, damage: Callable[[bytes], bytes], message: str) -> None:
    text = (upstream.path / "python/model.py").read_text()
    upstream.commit("fix", python__model_py=text.replace("line 20\n", "line 20 fixed\n"))
    raw = damage(format_patch(upstream))
    with pytest.raises(Refused, match=message):
        assert parse(raw, "x").files


def test_only_a_zero_before_the_diff_makes_it_binary_data() -> None:
    good = HEAD + DIFF.format(path="x", mode="100644").encode()
    assert parse(good.replace(b"+x\n", b"+\0\n"), "x").raw.endswith(b"+\0\n")
    with pytest.raises(Refused, match="this is binary data"):
        parse(good.replace(b"[PATCH] x\n", b"[PATCH] x\n" + b"X-A: b\n" * 1000 + b"X-C: \0\n"), "x")
    with pytest.raises(Refused, match="no `diff --git` line"):
        parse(HEAD, "x")


DIFF = """\
diff --git a/{path} b/{path}
new file mode {mode}
index 0000000000000000000000000000000000000000..0123456789012345678901234567890123456789
--- /dev/null
+++ b/{path}
@@ -0,0 +1 @@
+x
"""
HEAD = b"From: A <a@b.c>\nDate: Mon, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH] x\n\n"


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/x", ".git/hooks/x", "a/.GIT/x", "git~1/x", ".git /x", "a//x", "./x",
     "C:/x", "a\\x", ".g\u200cit/x"],
)  # fmt: skip
def test_unsafe_paths_are_named(path: str) -> None:
    patch = parse(HEAD + DIFF.format(path=path, mode="100644").encode(), "x")
    assert [unsafe for _, unsafe, _ in unsafe_paths(patch.files)] == [path]


def test_file_behind_a_new_symlink_is_named() -> None:
    link = DIFF.format(path="a/link", mode="120000")
    behind = DIFF.format(path="a/link/x", mode="100644")
    patch = parse(HEAD + (link + behind).encode(), "x")
    assert [path for _, path, _ in unsafe_paths(patch.files)] == ["a/link/x"]


def test_slugs_cannot_leave_their_folder() -> None:
    assert slugify("../../etc/passwd: x") == "etc-passwd-x"
    assert slugify("???") == "patch"
    assert slugify("Ünïcödé: straße") == "unicode-strasse"
    assert slugify("日本: fix") == "fix"
    assert [is_slug(slug) for slug in ("a-b.2", "../x", "a/b", ".hidden", "", "a..b", "-x")] == [
        True, False, False, False, False, False, False,
    ]  # fmt: skip


def test_trailers_are_the_last_paragraph_only(upstream: Git) -> None:
    body = "Note: not one.\n\nOrigin: vendor,\n continued\nDrop-When: 0.6"
    assert read_trailers(body) == (("Origin", "vendor, continued"), ("Drop-When", "0.6"))
    assert read_trailers("Just: a\nparagraph") == ()
    theirs = upstream("interpret-trailers", "--parse", stdin=f"s\n\n{body}\n".encode())
    assert theirs.splitlines() == ["Origin: vendor, continued", "Drop-When: 0.6"]
    assert os.linesep == "\n"
