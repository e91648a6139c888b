"""Export and import: only what changed is written, all of it or nothing."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from fixtool.apply.run import ApplyRequest, apply
from fixtool.apply.worktree import open_worktree
from fixtool.edit.change import FileAction
from fixtool.edit.export import Exported, ExportOptions, export
from fixtool.edit.importing import Imported, ImportOptions, import_changes
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import lock
from fixtool.git.store import Store
from fixtool.incoming.fork import read_range
from fixtool.incoming.read import Given, read_paths
from fixtool.series.context import Context
from fixtool.settings import Settings
from support.editing import make_worktree
from support.repositories import NUMBERS, Git, Team, format_patch

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
BETA = "alpha\nBETA\ngamma\n"


@pytest.fixture
def tree(team: Team, settings: Settings) -> Git:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("beta", "fix beta", python__other_py=BETA)
    return make_worktree(team, settings)


def out(team: Team, tree: Git, **options: object) -> Exported:
    repo, record = open_worktree(tree.path)
    return export(team.context, repo, record, ExportOptions(**options))  # type: ignore[arg-type]


def folder_state(team: Team) -> dict[str, tuple[bytes, int]]:
    folder = team.root / "patches" / "main"
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in sorted(folder.iterdir())}


def changes(exported: Exported) -> dict[str, FileAction]:
    return {file.slug: file.change for file in exported.patches}


def test_export_after_apply_writes_nothing(team: Team, tree: Git) -> None:
    before = folder_state(team)
    exported = out(team, tree)
    assert set(changes(exported).values()) == {FileAction.UNCHANGED}
    assert not exported.changed
    assert folder_state(team) == before


def test_an_amended_commit_rewrites_its_file_only(team: Team, tree: Git) -> None:
    before = folder_state(team)
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    assert changes(out(team, tree)) == {
        "fix": FileAction.UNCHANGED,
        "beta": FileAction.REWRITTEN,
    }
    after = folder_state(team)
    assert after["fix.patch"] == before["fix.patch"]
    assert after["series"] == before["series"]
    assert b"+BETA!" in after["beta.patch"][0]


def test_one_run_exports_at_a_time_and_a_dry_run_whenever_it_likes(team: Team, tree: Git) -> None:
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    before = folder_state(team)
    with lock(team.root / "patches" / ".lock", "the patches"):
        assert changes(out(team, tree, dry_run=True))["beta"] is FileAction.REWRITTEN
        with pytest.raises(CannotRun, match="is in use by process"):
            out(team, tree)
    assert folder_state(team) == before


def test_what_was_exported_may_be_applied_over(team: Team, tree: Git, settings: Settings) -> None:
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    tree.commit("area: more", more_py="y = 2\n")
    mine = tree("rev-parse", "HEAD^{tree}")
    request = ApplyRequest(ref="v1.0", source=str(team.upstream.path))
    with pytest.raises(Refused, match="commits of its own"):
        apply(Context(team.repository, settings), request)
    out(team, tree)
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    assert applied.placed.path == tree.path
    assert tree("rev-parse", "HEAD") == applied.replay.commit
    assert tree("rev-parse", "HEAD^{tree}") == mine
    assert not out(team, tree).changed


def test_a_new_commit_becomes_a_patch_at_the_end(team: Team, tree: Git) -> None:
    tree.commit("area: a new thing", more_py="y = 2\n")
    exported = out(team, tree)
    assert changes(exported)["area-a-new-thing"] is FileAction.ADDED
    series = (team.root / "patches/main/series").read_text()
    assert series == "# in order\nfix.patch\nbeta.patch\narea-a-new-thing.patch\n"


def test_a_commit_that_changes_nothing_is_no_patch(team: Team, tree: Git) -> None:
    before = folder_state(team)
    tree("commit", "--quiet", "--allow-empty", "--message", "x")
    with pytest.raises(Refused, match="'x' changes nothing"):
        out(team, tree)
    assert folder_state(team) == before


@pytest.mark.parametrize(
    "line",
    ["---", "From: Another Person <other@example.org>", "-- >8 --", "diff --git a/x b/x\n--- a/x",
     "diff --git a/x b/x\nnew file mode 100644"],
)  # fmt: skip
def test_a_message_that_git_would_read_otherwise_is_not_written(
    team: Team, tree: Git, line: str
) -> None:
    """It was written, and the rest of the message, the author or the whole patch was lost."""
    before = folder_state(team)
    tree("commit", "--quiet", "--amend", "--cleanup=verbatim", "-m", f"fix beta\n\n{line}\nmore\n")
    for options in ({}, {"dry_run": True}, {"only": ("beta",)}):
        with pytest.raises(Refused, match=r"^beta: ") as refused:
            out(team, tree, **options)
        assert refused.value.hint is not None
        assert refused.value.hint.endswith(f": git -C {tree.path} commit --amend")
    assert folder_state(team) == before
    indented = line.replace("\n", "\n ")
    tree("commit", "--quiet", "--amend", "-m", f"fix beta\n\n {indented}\nmore\n")
    assert changes(out(team, tree))["beta"] is FileAction.REWRITTEN


def test_reordered_commits_reorder_the_series(team: Team, tree: Git) -> None:
    fix, beta = tree("rev-list", "--reverse", "HEAD", "-2").split()
    tree("reset", "--hard", "--quiet", "HEAD~2")
    tree("cherry-pick", beta, fix)
    out(team, tree)
    series = (team.root / "patches/main/series").read_text()
    assert series == "# in order\nbeta.patch\nfix.patch\n"


def test_a_patch_is_not_lost_by_accident(team: Team, tree: Git) -> None:
    before = folder_state(team)
    tree("reset", "--hard", "--quiet", "HEAD~1")
    with pytest.raises(Refused, match="no commit in the work tree holds beta"):
        out(team, tree)
    assert folder_state(team) == before
    exported = out(team, tree, remove_missing=True)
    assert changes(exported)["beta"] is FileAction.REMOVED
    assert not (team.root / "patches/main/beta.patch").exists()
    assert (team.root / "patches/main/series").read_text() == "# in order\nfix.patch\n"


def test_a_second_commit_with_the_same_subject_is_a_new_patch(team: Team, tree: Git) -> None:
    """Only its subject is that of a patch: the record says which commit that patch is."""
    tree.commit("fix beta", more_py="y = 2\n")
    exported = out(team, tree)
    assert changes(exported)["fix-beta"] is FileAction.ADDED
    assert "has the subject of beta, and is a new patch" in exported.notes[0]


def test_dirty_or_merged_commits_are_refused(team: Team, tree: Git) -> None:
    before = folder_state(team)
    tree.write("python/other.py", "dirty\n")
    with pytest.raises(Refused, match="not clean"):
        out(team, tree)
    tree("checkout", "--quiet", "--", ".")
    tree("checkout", "--quiet", "-b", "side", "HEAD~1")
    tree.commit("side", side_py="s = 1\n")
    tree("merge", "--quiet", "--no-edit", "-")
    with pytest.raises(Refused, match="one straight line"):
        out(team, tree)
    assert folder_state(team) == before


def test_another_base_goes_elsewhere(team: Team, settings: Settings, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.upstream.commit("newer", python__model_py="zero\n" + NUMBERS)
    request = ApplyRequest(ref="main", source=str(team.upstream.path))
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    tree = Git(applied.placed.path)
    with pytest.raises(Refused, match="line main is written against"):
        out(team, tree)
    elsewhere = out(team, tree, output=tmp_path / "out")
    assert elsewhere.folder == tmp_path / "out"
    assert b"@@ -18,7 +18,7 @@" in (tmp_path / "out" / "fix.patch").read_bytes()
    tree.write("python/other.py", BETA)  # absorb said to export, and export said to absorb
    with pytest.raises(Refused, match="line main is written against") as refused:
        out(team, tree, unclean=True)
    assert f"git -C {tree.path} diff --binary HEAD | git -C NEW-DIR" in str(refused.value.hint)


def test_another_commit_with_the_same_files_is_the_base_too(team: Team, settings: Settings) -> None:
    """A base that was tagged anew, or a release that was imported in another way."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    twin = team.upstream("commit-tree", "v1.0^{tree}", "-m", "the same files")
    team.upstream("branch", "twin", twin)
    request = ApplyRequest(ref="twin", source=str(team.upstream.path))
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    assert changes(out(team, Git(applied.placed.path))) == {"fix": FileAction.UNCHANGED}


# -- import ------------------------------------------------------------------------------------


def bring(team: Team, path: Path, **options: object) -> Imported:
    subject = options.pop("subject", None)
    repo = team.upstream.repo
    given = Given("B Person <b@example.org>", "2023-11-14 22:13:20 +0000", subject)  # type: ignore[arg-type]
    incoming = read_paths(repo, [path], given)
    base = team.repository.line("main").upstream.base
    return import_changes(
        team.repository, team.repository.line("main"), repo, lambda: base, incoming,
        ImportOptions(**options),  # type: ignore[arg-type]
    )  # fmt: skip


def side(team: Team, subject: str, **files: str) -> bytes:
    team.upstream("checkout", "--quiet", "--detach", "v1.0")
    team.upstream.commit(f"{subject}\n\nWhy.", **files)
    raw = format_patch(team.upstream)
    team.upstream("checkout", "--quiet", "main")
    return raw


def test_a_mail_comes_in_as_it_is(team: Team, tmp_path: Path) -> None:
    raw = side(team, "area: one", python__model_py=FIX)
    (tmp_path / "in.patch").write_bytes(raw)
    imported = bring(team, tmp_path / "in.patch")
    assert [(patch.slug, patch.change) for patch in imported.patches] == [
        ("area-one", FileAction.ADDED)
    ]
    assert (team.root / "patches/main/area-one.patch").read_bytes() == raw


def test_a_foreign_mail_is_normalised(team: Team, tmp_path: Path) -> None:
    """A mail with a stat, a signature, abbreviated ids and CRLF line ends, as mailers leave it."""
    side(team, "area: one", python__model_py=FIX)
    mail = team.upstream(
        "format-patch", "--stdout", "-1", "--abbrev=7", "--stat", "HEAD@{1}", "--subject-prefix=RFC"
    )
    normal = format_patch(team.upstream, "HEAD@{1}")
    (tmp_path / "in.eml").write_bytes(mail.replace("\n", "\r\n").encode() + b"\r\n")
    bring(team, tmp_path / "in.eml")
    written = (team.root / "patches/main/rfc-area-one.patch").read_bytes()
    assert written == normal.replace(b"[PATCH] area: one", b"[PATCH] [RFC] area: one")


def test_an_mbox_comes_in_order_or_not_at_all(team: Team, tmp_path: Path) -> None:
    first = side(team, "one", python__model_py=FIX)
    second = side(team, "two", python__other_py=BETA)
    bad = side(team, "bad", README_txt="x\n").replace(b"-read me", b"-nothing")
    (tmp_path / "good.mbox").write_bytes(first + second)
    (tmp_path / "bad.mbox").write_bytes(first + bad)
    with pytest.raises(Refused, match="does not apply"):
        bring(team, tmp_path / "bad.mbox")
    assert team.repository.line("main").entries == ()
    assert [taken.slug for taken in bring(team, tmp_path / "good.mbox").patches] == ["one", "two"]
    assert [entry.slug for entry in team.repository.line("main").entries] == ["one", "two"]


def test_a_writer_sees_what_another_wrote_meanwhile(team: Team, tmp_path: Path) -> None:
    """A run that had read the line before another took a patch out brought the entry back."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("beta", "fix beta", python__other_py=BETA)
    (tmp_path / "two.patch").write_bytes(side(team, "two", README_txt="read me twice\n"))
    early = team.repository
    line = early.line("main")
    assert len(line.patches) == 2
    (team.root / "patches/main/series").write_text("# in order\nfix.patch\n")
    (team.root / "patches/main/beta.patch").unlink()
    repo = team.upstream.repo
    incoming = read_paths(repo, [tmp_path / "two.patch"], Given(date="2023-11-14 22:13:20 +0000"))
    import_changes(early, line, repo, lambda: line.upstream.base, incoming, ImportOptions())
    series = (team.root / "patches/main/series").read_text()
    assert series == "# in order\nfix.patch\ntwo.patch\n"


def test_a_plain_diff_gets_a_message(team: Team, tmp_path: Path) -> None:
    """A downstream's monolithic sglang.patch."""
    raw = side(team, "x", python__model_py=FIX, python__other_py=BETA)
    (tmp_path / "sglang.patch").write_bytes(raw[raw.index(b"diff --git") :])
    imported = bring(team, tmp_path / "sglang.patch", subject="downstream: all of it")
    patch = team.repository.line("main").find(imported.patches[0].slug)
    assert (patch.subject, patch.author.email) == ("downstream: all of it", "b@example.org")
    assert [file.path for file in patch.files] == ["python/model.py", "python/other.py"]


def test_what_lint_would_refuse_is_refused_at_once(team: Team, tmp_path: Path) -> None:
    """It came in, and then the whole line could not be applied."""
    raw = side(team, "area: one", python__model_py=FIX)
    fact = b"Why.\n\nApplied-Upstream: 89ff2bc1115c, 77aa2bc1115c"
    (tmp_path / "in.patch").write_bytes(raw.replace(b"Why.", fact))
    with pytest.raises(Refused, match="'area: one': .*names two commits"):
        bring(team, tmp_path / "in.patch")
    assert team.repository.line("main").entries == ()


def test_a_range_of_a_fork_comes_in(team: Team, make_git: object, tmp_path: Path) -> None:
    team.upstream("clone", "--quiet", ".", str(tmp_path / "fork"))
    fork = Git(tmp_path / "fork")
    fork("checkout", "--quiet", "-b", "work")
    fork.commit("drift", python__model_py="zero\n" + NUMBERS)
    fork("tag", "start")
    fork.commit("fork: twenty", python__model_py="zero\n" + FIX)
    fork.commit("fork: beta", python__other_py=BETA)
    repo = Store.create(tmp_path / "store.git")
    repo.borrow(team.upstream.repo)
    line = team.repository.line("main")
    incoming = read_range(repo, fork.repo, "start..work")
    imported = import_changes(
        team.repository, line, repo, lambda: line.upstream.base, incoming, ImportOptions()
    )
    assert [patch.slug for patch in imported.patches] == ["fork-twenty", "fork-beta"]
    assert b"@@ -17,7 +17,7 @@" in (line.folder / "fork-twenty.patch").read_bytes()
    again = read_range(repo, fork.repo, "work~2..work^")
    assert [change.subject for change in again] == ["fork: twenty"]
    with pytest.raises(UsageError, match="goes back beyond"):
        read_range(repo, fork.repo, "work~99..work")
    with pytest.raises(UsageError, match="not a commit range"):
        read_range(repo, fork.repo, "start")
    fork("commit", "--quiet", "--allow-empty", "--message", "fork: nothing")
    empty = read_range(repo, fork.repo, "work^..work")
    base = line.upstream.base
    with pytest.raises(Refused, match="changes nothing") as refused:
        import_changes(team.repository, line, repo, lambda: base, empty, ImportOptions())
    assert "--skip-empty" in (refused.value.hint or "")
    skipping = ImportOptions(skip_empty=True)
    imported = import_changes(team.repository, line, repo, lambda: base, empty, skipping)
    assert [item.subject for item in imported.skipped] == ["fork: nothing"]


@pytest.mark.parametrize("verb", ["export", "import"])
def test_what_a_killed_run_began_is_committed_before_a_change_that_is_not(
    team: Team, tree: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The change of the killed run was left uncommitted: its note told of other files then."""
    git = team.track()
    (tmp_path / "in.patch").write_bytes(side(team, "area: one", README_txt="read me twice\n"))
    tree.write("python/other.py", "alpha\nBETA!\ngamma\n")
    tree("commit", "--all", "--amend", "--no-edit", "--quiet")
    with monkeypatch.context() as patched:
        for name in ("_commit", "_put_back"):
            patched.setattr(f"fixtool.series.commit.{name}", mock.Mock(side_effect=CannotRun("")))
        with pytest.raises(CannotRun):
            out(team, tree)
    assert git("status", "--porcelain") != ""
    if verb == "export":
        assert out(team, tree, commit=False).committed is None
    else:
        assert bring(team, tmp_path / "in.patch", commit=False).committed is None
    assert git("log", "--format=%s").splitlines() == ["main: export beta", "first"]
    changed = set(git("status", "--porcelain").split()[1::2])
    added = {"patches/main/area-one.patch", "patches/main/series"}
    assert changed == (added if verb == "import" else set())


def test_replace_keeps_place_and_neighbours(team: Team, tmp_path: Path) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("beta", "fix beta", python__other_py=BETA)
    before = folder_state(team)
    better = side(team, "fix twenty", python__model_py=FIX.replace("fixed", "fixed well"))
    (tmp_path / "in.patch").write_bytes(better)
    with pytest.raises(Refused, match="has a patch with this subject: fix") as refused:
        bring(team, tmp_path / "in.patch")
    assert "--replace; or to have both: --subject TEXT" in str(refused.value.hint)
    assert folder_state(team) == before
    imported = bring(team, tmp_path / "in.patch", replacing=True)
    assert [(patch.slug, patch.change) for patch in imported.patches] == [
        ("fix", FileAction.REWRITTEN)
    ]
    after = folder_state(team)
    assert after["series"] == before["series"]
    assert after["beta.patch"] == before["beta.patch"]
    assert b"fixed well" in after["fix.patch"][0]


def test_what_is_there_already_is_refused(team: Team, tmp_path: Path) -> None:
    raw = side(team, "one", python__model_py=FIX)
    (tmp_path / "in.patch").write_bytes(raw)
    bring(team, tmp_path / "in.patch")
    (tmp_path / "again.patch").write_bytes(raw.replace(b"[PATCH] one", b"[PATCH] two"))
    with pytest.raises(Refused, match="changes nothing|does not apply"):
        bring(team, tmp_path / "again.patch")
