"""No setting and no attribute of a checkout changes a byte of what is exported. (`ci/conformance/`
does this with a real history.)"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fixtool.git.objects import Oid
from fixtool.series.patch import export, export_all, export_with
from support.export_settings import ALL, ForeignSettings, odd_commits
from support.repositories import Git


def test_exports_are_equal_under_every_setting(
    make_git: Callable[[str], Git], tmp_path: Path
) -> None:
    git = make_git("checkout")
    commits = odd_commits(git)
    before = git("rev-parse", f"{commits[0]}^")
    subject = "Zoë's change of everything\n\nIn one commit."
    whole = git("commit-tree", f"{commits[-2]}^{{tree}}", "-p", before, "-m", subject)
    settings = ForeignSettings(git, tmp_path)
    repo = git.repo
    wanted = export(repo, whole)
    assert wanted.count(b"\ndiff --git ") == 8
    changed = []
    for name in ALL:
        settings.make(name)
        if export(repo, whole) != wanted:
            changed.append(name)
    settings.make(*ALL)
    assert changed == []
    assert export(repo, whole) == wanted


def test_a_setting_changes_what_git_writes(make_git: Callable[[str], Git], tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    git = make_git("checkout")
    commits = odd_commits(git)
    settings = ForeignSettings(git, tmp_path)
    plain = git("format-patch", "--stdout", f"{commits[0]}^..HEAD")
    telling = ("format.signOff", "diff.orderFile", "i18n.logOutputEncoding", "diff.noPrefix",
               "info: * -diff", "a work tree: * -diff", "diff.suppressBlankEmpty")  # fmt: skip
    for name in telling:
        settings.make(name)
        assert git("format-patch", "--stdout", f"{commits[0]}^..HEAD") != plain, name
        settings.take_back()


def commits_that_mimic(git: Git) -> list[str]:
    """Odd commits, one of which has a message that looks like the beginning of a mail."""
    commits = odd_commits(git)
    fake = (
        f"From {commits[-1]} Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] x"
    )
    commits.append(git.commit(f"a: mimic\n\n{fake}\n\n{fake}", a_py="a\n"))
    commits.append(git.commit("a: again", a_py="b\n"))
    return commits


def test_many_patch_files_are_those_of_each_alone(make_git: Callable[[str], Git]) -> None:
    """Also if a message looks like the beginning of a mail, and if git writes none for a commit."""
    git = make_git("checkout")
    commits = commits_that_mimic(git)
    repo = git.repo
    assert export_all(repo, commits) == [export(repo, commit) for commit in commits]
    empty = git.commit("nothing")
    for other in ([empty], [*commits[:2], empty], [commits[0], commits[0]], []):
        assert export_all(repo, other) == [export(repo, commit) for commit in other]


def test_a_patch_file_is_the_same_if_its_diff_was_made_before(
    make_git: Callable[[str], Git],
) -> None:
    git = make_git("checkout")
    commits = [Oid(commit) for commit in commits_that_mimic(git)]
    mails = [export(git.repo, commit) for commit in commits]
    diffs = [mail[mail.index(b"\ndiff --git ") + 1 :] for mail in mails]
    for first, last in ((0, len(commits)), (0, 4), (3, 4), (0, 0)):
        known = dict(zip(commits[first:last], diffs[first:last], strict=True))
        assert export_with(git.repo, known) == mails[first:last]
