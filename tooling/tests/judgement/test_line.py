"""Which line is chosen for a commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.errors import UsageError
from fixtool.judgement.line import Choice, choose_line
from fixtool.series.context import Context
from fixtool.series.trailers import with_trailer
from fixtool.settings import Settings
from fixtool.sources.source import Local
from support.rebase import FIVE, OTHER, REWRITTEN, SHIFTED
from support.repositories import NUMBERS, Team

Choose = Callable[..., Choice]


@pytest.fixture
def choose(team: Team, settings: Settings) -> Choose:
    def run(ref: str = "HEAD", version: str | None = None, wanted: str | None = None) -> Choice:
        source = Local(team.upstream.path, settings)
        target = source.resolve(team.upstream("rev-parse", ref))
        target = dataclasses.replace(target, version=version)
        return choose_line(Context(team.repository, settings), source, target, wanted)

    return run


def copy(team: Team, slug: str, line: str, **files: str) -> None:
    """Give ``line`` a patch ``slug`` of its own, written for its base."""
    base = team.repository.line(line).upstream.base
    main = team.root / "patches/main"
    series = (main / "series").read_bytes()
    kept = (main / f"{slug}.patch").read_bytes() if (main / f"{slug}.patch").exists() else None
    raw = team.patch(slug, f"fix {slug}", base=base, **files)
    (main / "series").write_bytes(series)
    (main / f"{slug}.patch").unlink()
    if kept is not None:
        (main / f"{slug}.patch").write_bytes(kept)
    team.add(slug, raw, line)


def test_the_line_that_fits(team: Team, choose: Choose) -> None:
    git = team.upstream
    newer = git.commit("newer", x_py="1\n")
    team.line("newer", newer)
    newest = git.commit("newest", x_py="2\n")
    old = git("commit-tree", "-m", "unrelated", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")

    def chosen(ref: str, version: str | None = None, wanted: str | None = None) -> tuple[str, str]:
        choice = choose(ref, version, wanted)
        return choice.line.name, choice.why

    assert chosen("v1.0") == ("main", "its base is this very commit")
    assert chosen(newest) == ("newer", f"{newest[:12]} is 1 commit after its base")
    assert chosen("v1.0", wanted="newer") == ("newer", "asked for")
    assert chosen(old, "0.9")[1] == "its release is 1.0"
    assert chosen(old)[1] == "its base is of 2026-01-02, and the target of 2026-01-02"
    with pytest.raises(UsageError, match="no line 'nope'; there are: main, newer"):
        chosen("v1.0", wanted="nope")


def test_the_one_that_needs_nobody_although_another_is_nearer(team: Team, choose: Choose) -> None:
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    rewritten = git.commit("rewrite", python__model_py=REWRITTEN)
    team.line("later", rewritten)
    copy(team, "five", "later", python__model_py=REWRITTEN.replace("line V\n", "line V fixed\n"))
    git.commit("as it was", python__model_py=NUMBERS, README_txt="1\n")
    choice = choose()
    assert (choice.line.name, choice.judgement.ok) == ("main", True)
    assert choice.why.endswith("; line later is nearer, and needs a person for 1 patch")


def test_the_one_that_carries_more(team: Team, choose: Choose) -> None:
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    newer = git.commit("docs", README_txt="1\n")
    team.line("newer", newer)
    copy(team, "five", "newer", python__model_py=FIVE)
    git.commit("docs", README_txt="2\n")
    choice = choose()
    assert choice.line.name == "main"
    assert choice.why.endswith("; line newer is nearer, and carries only 1 patch")


def test_a_line_that_would_do_as_well_is_told(team: Team, choose: Choose) -> None:
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("gone", "fix gone", python__gone_py="1\n")
    team.line("newer", git.commit("docs", README_txt="1\n"))
    copy(team, "five", "newer", python__model_py=FIVE)
    git.commit("theirs", python__gone_py="1\n")
    choice = choose()
    assert (choice.line.name, choice.runner_up) == ("newer", "main")


def test_a_patch_that_is_needed_and_that_the_line_lacks(team: Team, choose: Choose) -> None:
    """A line with fewer patches is not better because it has fewer that could conflict."""
    git = team.upstream
    git.commit("the bug (#5)", python__model_py=SHIFTED)
    bug = git.head()
    team.line(base=bug)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    raw = team.patch("five", "fix five", base=bug, python__model_py=fixed)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(with_trailer(raw, "Fixes", f"{bug} (#5)"))
    team.line("empty", git.commit("docs", README_txt="1\n"))
    git.commit("docs", README_txt="2\n")
    assert choose().line.name == "main"
    git.commit("rewrite", python__model_py=SHIFTED.replace("line 5\n", "line V\n"))
    choice = choose()
    assert (choice.line.name, choice.ok) == ("main", False)
    (team.root / "patches/main/five.patch").write_bytes(
        with_trailer(raw, "Fixes", "0123456789abcdef")
    )
    assert choose().line.name == "empty"  # nothing says that the bug is there


def test_no_line_has_what_is_needed(team: Team, choose: Choose) -> None:
    git = team.upstream
    bug = git.commit("the bug (#5)", python__model_py=SHIFTED)
    team.line(base=bug)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    raw = team.patch("five", "fix five", base=bug, python__model_py=fixed)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(with_trailer(raw, "Fixes", f"{bug} (#5)"))
    team.patch("gone", "fix gone", base=bug, python__gone_py="1\n")
    git.commit("theirs", python__gone_py="2\n", python__model_py=REWRITTEN)
    team.line("empty", git.commit("docs", README_txt="1\n"))
    git.commit("docs", README_txt="2\n")
    choice = choose()
    assert (choice.line.name, choice.lacks, choice.ok) == ("empty", ("five",), False)
    assert choice.notes == (
        "five is needed here, as its recorded facts say, and line empty lacks it",
    )


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.9", "v1.1"), ("1.1", "v1.1"), ("1.2", "v1.1"), ("1.4", "v1.1"), ("1.5", "v1.1"), ("1.6", "v1.9"),
     ("1.9.post1", "v1.9"), ("3.0", "v1.9")],
)  # fmt: skip
def test_the_nearest_release(team: Team, choose: Choose, version: str, expected: str) -> None:
    git = team.upstream
    (team.root / "patches/main/series").unlink()
    for number in ("1.1", "1.9"):
        side = git("commit-tree", "-m", number, f"{git.head()}^{{tree}}")
        folder = team.line(
            f"v{number}", git("commit-tree", "-m", number, "-p", side, f"{side}^{{tree}}")
        )
        toml = folder / "upstream.toml"
        toml.write_text(toml.read_text().replace('version = "1.0"', f'version = "{number}"'))
    git.commit("target", README_txt="t\n")
    assert choose(version=version).line.name == expected


def test_a_damaged_line_is_passed_over_and_told(team: Team, choose: Choose, tmp_path: Path) -> None:
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    team.line("broken", git.commit("docs", README_txt="1\n"))
    (team.root / "patches/broken/series").write_text("missing.patch\n")
    git.commit("docs", README_txt="2\n")
    choice = choose()
    assert choice.line.name == "main"
    assert any("line broken was passed over" in note for note in choice.notes)
