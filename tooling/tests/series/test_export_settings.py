"""No setting and no attribute of a checkout changes a byte of what is exported. (`ci/conformance/`
does this with a real history.)"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fixtool.series.patch import export
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
