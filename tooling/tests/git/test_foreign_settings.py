"""The configuration of a repository that somebody else made runs no program.

It may be named as a source, lie inside the patch repository, or be a store in whose work trees code
of others ran. Each setting here leaves a mark if git runs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.git.repo import Repo
from fixtool.git.store import Store
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

PROGRAMS = (
    "core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.askPass", "core.editor",
    "core.pager", "core.alternateRefsCommand", "sequence.editor", "credential.helper",
    "diff.external", "diff.evil.command", "diff.evil.textconv", "merge.evil.driver",
    "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program",
    "gpg.ssh.program", "pager.log", "interactive.diffFilter", "remote.origin.uploadpack",
    "remote.origin.receivepack", "uploadpack.packObjectsHook", "trailer.evil.command",
    "hook.evil.command", "alias.rev-parse",
)  # fmt: skip
HOOKS = ("pre-commit", "post-checkout", "post-index-change", "reference-transaction",
         "applypatch-msg", "post-merge", "prepare-commit-msg", "pre-auto-gc")  # fmt: skip


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a program of theirs would make."""
    return tmp_path / "mark"


def arm(git_dir: Path, mark: Path) -> None:
    """Name a program in every setting that can hold one, and in every hook."""
    program = git_dir / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {mark}\nexit 1\n')
    program.chmod(0o755)
    config = Git(git_dir)
    for key in PROGRAMS:
        config("config", "--file", str(git_dir / "config"), key, f"{program} {key}")
    for key, value in {
        "commit.gpgSign": "true", "log.showSignature": "true", "core.hooksPath": git_dir / "evil",
        "core.attributesFile": git_dir / "attributes", "remote.origin.promisor": "true",
        "remote.origin.url": git_dir, "extensions.partialClone": "origin",
        "core.repositoryFormatVersion": "1", "include.path": git_dir / "included",
    }.items():  # fmt: skip
        config("config", "--file", str(git_dir / "config"), key, str(value))
    (git_dir / "included").write_text(f"[core]\n\tfsmonitor = {program} included\n")
    (git_dir / "info").mkdir(exist_ok=True)
    for name in ("attributes", "info/attributes"):
        (git_dir / name).write_text("* filter=evil diff=evil merge=evil\n")
    for folder in ("evil", "hooks"):
        (git_dir / folder).mkdir(exist_ok=True)
        for name in HOOKS:
            shutil.copy(program, git_dir / folder / name)


def forget(git: Git, name: str) -> None:
    """Take an object out of a repository, as a partial clone lacks it."""
    sha = git("rev-parse", name)
    (git.path / ".git" / "objects" / sha[:2] / sha[2:]).unlink()


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    near = NUMBERS.replace("line 22\n", "line 22 new\n")
    team.upstream.commit("go on", python__model_py=near)
    return team


@pytest.mark.parametrize("form", ["a work tree", "bare"])
def test_a_source(
    fixtool: Callable[..., Ran], series: Team, mark: Path, tmp_path: Path, form: str
) -> None:
    source = series.upstream.path
    if form == "bare":
        source = tmp_path / "bare.git"
        series.upstream("clone", "--quiet", "--bare", ".", str(source))
    arm(source if form == "bare" else source / ".git", mark)
    words = ("--source", source, "--json")
    applied = document(
        fixtool("apply", "--sglang-ref", "main", "--no-build", *words, cwd=series.root)
    )
    assert [patch["verdict"] for patch in applied["patches"]] == ["merged"]
    document(fixtool("history", "--to", "main", *words, cwd=series.root))
    document(fixtool("rebase", "--onto", "main", "--dry-run", *words, cwd=series.root))
    words = ("--from", source, "--source", source, "--dry-run")
    ran = fixtool("import", "v1.0..main", *words, cwd=series.root)
    assert (ran.status, mark.exists()) == (0, False), ran.err


@pytest.mark.parametrize("lacking", ["main:python/other.py", "main^{tree}", "main"])
def test_a_source_that_lacks_objects(
    fixtool: Callable[..., Ran], series: Team, mark: Path, lacking: str
) -> None:
    """git would fetch them with the program that the source itself names."""
    forget(series.upstream, lacking)
    arm(series.upstream.path / ".git", mark)
    for words in (
        ("apply", "--no-build", "--sglang-ref"),
        ("history", "--to"),
        ("rebase", "--onto"),
    ):
        ran = fixtool(*words, "main", "--source", series.upstream.path, cwd=series.root)
        assert (ran.status in (0, 4), mark.exists()) == (True, False), ran.err


def test_a_repository_among_the_files_of_the_patch_repository(
    fixtool: Callable[..., Ran], series: Team, mark: Path, tmp_path: Path
) -> None:
    """A clone brings files that together look like a bare repository, or a submodule."""
    for name in ("objects", "refs"):
        (series.root / name).mkdir()
    (series.root / "HEAD").write_text("ref: refs/heads/main\n")
    arm(series.root, mark)
    words = ("--line", "main", "--json")
    document(fixtool("lint", *words, cwd=series.root))
    document(fixtool("list", *words, cwd=series.root))
    source = ("--source", series.upstream.path)
    assert fixtool("drop", "fix", "--reason", "why", *source, cwd=series.root).status == 0
    assert not mark.exists()


def test_a_submodule(
    fixtool: Callable[..., Ran], series: Team, mark: Path, make_git: Callable[[str], Git]
) -> None:
    inner = make_git("team/patches/main/inner")
    inner.commit("inner", a_txt="a\n")
    git = Git(series.root)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    git.commit("first")
    arm(inner.path / ".git", mark)
    inner.write("a.txt", "b\n")
    source = ("--source", series.upstream.path)
    assert fixtool("drop", "fix", "--reason", "why", *source, cwd=series.root).status == 0
    assert not mark.exists()


def test_a_store_in_whose_work_tree_others_ran(
    fixtool: Callable[..., Ran], series: Team, mark: Path, home: Path
) -> None:
    words = ("apply", "--sglang-ref", "main", "--source", f"file://{series.upstream.path}",
             "--no-build", "--json")  # fmt: skip
    tree = Git(Path(document(fixtool(*words, cwd=series.root))["worktree"]))
    (store,) = (home / "state" / "repos").iterdir()
    tree("config", "user.name", "A Person")
    tree("config", "pull.rebase", "true")
    url = tree("config", "remote.origin.url")
    arm(store, mark)
    series.upstream.commit("more", python__other_py="alpha\n")
    assert document(fixtool(*words, cwd=series.root))["worktree"] != str(tree.path)
    settings = tree("config", "--file", str(store / "config"), "--list")
    for key in PROGRAMS:
        assert key.casefold() not in settings.casefold()
    assert "user.name=A Person\npull.rebase=true" in settings
    assert f"remote.origin.url={url}" in settings
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config", "config.worktree"])
@pytest.mark.parametrize("verb", ["export", "refresh", "build"])
def test_a_work_tree_in_which_others_ran(
    fixtool: Callable[..., Ran], series: Team, mark: Path, home: Path, verb: str, file: str
) -> None:
    """The filter that they named ran with the next look at the files, beside every credential."""
    words = ("apply", "--sglang-ref", "v1.0", "--source", series.upstream.path, "--no-build")
    tree = Git(Path(document(fixtool(*words, "--json", cwd=series.root))["worktree"]))
    (store,) = (home / "state" / "repos").iterdir()
    git_dir = Path(tree("rev-parse", "--absolute-git-dir"))
    arm(store, mark)
    if file == "config.worktree":
        (store / "config").rename(git_dir / file)
        settings = "[core]\n\tbare = true\n[extensions]\n\tworktreeConfig = true\n"
        (store / "config").write_text(settings)
        tree("config", "--file", str(git_dir / file), "core.bare", "false")
    (tree.path / "python/model.py").touch()
    slug = ("fix",) if verb == "refresh" else ()
    ran = fixtool(verb, *slug, "--worktree", tree.path, cwd=series.root)
    assert ran.status in (0, 1, 4), ran.err
    assert not mark.exists()


def test_a_bare_repository_must_be_named(series: Team, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    series.upstream("clone", "--quiet", "--bare", ".", str(bare))
    assert Repo.open(bare, bare=True).git_dir == bare
    with pytest.raises(Exception, match=r"bare repository|not in a git repository"):
        Repo.open(bare)


def test_only_an_online_store_reaches_a_remote(series: Team, tmp_path: Path) -> None:
    url = f"file://{series.upstream.path}"
    online = Store.create(tmp_path / "online.git", online=True)
    assert online.fetch(url, ["refs/heads/main"]).status == 0
    offline = Store.create(tmp_path / "offline.git")
    out = offline.fetch(url, ["refs/heads/main"])
    assert (out.status, "not allowed" in out.stderr) == (128, True)


@pytest.mark.parametrize(
    "more",
    ["\tfsmonitor = /x\n", "\tFSMonitor=/x", "[core]fsmonitor=/x\n", "\tbare = true\n[alias]\n\tx = !/x\n",
     "[include]\n\tpath = /x\n", "\tbare = true ; not so\n\tfsmonitor = \\\n/x\n"],
)  # fmt: skip
def test_a_program_in_the_settings_of_a_new_store_is_removed(tmp_path: Path, more: str) -> None:
    store = Store.create(tmp_path / "store.git")
    config = store.git_dir / "config"
    config.write_text(config.read_text() + more)
    store.restore_settings()
    assert "/x" not in config.read_text()


def test_the_settings_of_a_new_store_need_no_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "store.git")
    monkeypatch.setattr(Repo, "run", None)
    store.restore_settings()
