"""Which line is chosen for a commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.judgement.line import Choice, choose_line
from fixtool.judgement.run import Judgement, judge
from fixtool.progress import Silence
from fixtool.replay.verdict import Verdict
from fixtool.series.context import Context
from fixtool.series.trailers import with_trailer
from fixtool.settings import Settings
from fixtool.sources.source import Local, Releases, Remote
from support.package_index import Server, make_wheel
from support.rebase import FIVE, FIVE_MORE, OTHER, REWRITTEN, SHIFTED
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


def test_nobody_asked_counts_more_than_much_carried(team: Team, choose: Choose) -> None:
    git = team.upstream
    for slug, files in {
        "five": {"python__model_py": FIVE}, "other": {"python__other_py": OTHER},
        "readme": {"README_txt": "read it\n"},
    }.items():  # fmt: skip
        team.patch(slug, f"fix {slug}", **files)
    rewritten = git.commit("rewrite", python__model_py=REWRITTEN)
    team.line("small", git("commit-tree", "-m", "aside", f"{rewritten}^{{tree}}"))
    copy(team, "other", "small", python__other_py=OTHER)
    choice = choose()
    assert (choice.line.name, choice.ok) == ("small", True)
    assert choice.why.endswith("; line main is nearer, and needs a person for 1 patch")


def test_a_line_whose_patch_is_explained_elsewhere(team: Team, choose: Choose) -> None:
    """A line may stop although it carries all that any line would."""
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    took = git.commit("five, otherwise", python__model_py=REWRITTEN)
    side = git("commit-tree", "-m", "aside", "v1.0^{tree}")
    team.line("knows", side)
    for slug, files in {
        "five": {"python__model_py": FIVE},
        "other": {"python__other_py": OTHER},
    }.items():
        copy(team, slug, "knows", **files)
    path = team.root / "patches/knows/five.patch"
    path.write_bytes(with_trailer(path.read_bytes(), "Applied-Upstream", took))
    choice = choose()
    assert (choice.line.name, choice.ok) == ("knows", True)
    assert [patch.slug for patch in choice.judgement.left_out] == ["five"]


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


def test_of_two_lines_for_one_version_the_one_for_the_release(team: Team, choose: Choose) -> None:
    git = team.upstream
    (team.root / "patches/main/series").unlink()
    for name in ("a", "b"):
        toml = team.line(name, git("commit-tree", "-m", name, "v1.0^{tree}")) / "upstream.toml"
        toml.write_text(toml.read_text().replace('version = "1.0"', 'version = "1.4"'))
    toml.write_text(toml.read_text().replace("version", 'release = "1.4"\nversion'))
    git.commit("target", README_txt="t\n")
    assert choose(version="1.5").line.name == "b"


@pytest.mark.parametrize(("version", "expected"), [("1.5", "v1.3.9"), ("1.1", "v1.3.1")])
def test_the_nearest_of_many_small_releases(
    team: Team, choose: Choose, version: str, expected: str
) -> None:
    git = team.upstream
    (team.root / "patches/main/series").unlink()
    for number in ("1.3.1", "1.3.5", "1.3.9"):
        folder = team.line(f"v{number}", git("commit-tree", "-m", number, "v1.0^{tree}"))
        toml = folder / "upstream.toml"
        toml.write_text(toml.read_text().replace('version = "1.0"', f'version = "{number}"'))
    git.commit("target", README_txt="t\n")
    assert choose(version=version).line.name == expected


@pytest.mark.parametrize(
    ("dates", "expected"),
    [(("2025-12-01", "2026-01-20"), "b"), (("2026-01-01", "2026-01-20"), "a"),
     (("2025-12-01", "2026-03-01"), "a")],
)  # fmt: skip
def test_the_nearest_day(team: Team, choose: Choose, dates: tuple[str, str], expected: str) -> None:
    """The target is of 2026-01-02."""
    git = team.upstream
    (team.root / "patches/main/series").unlink()
    for name, day in zip("ab", dates, strict=True):
        toml = team.line(name, git("commit-tree", "-m", name, "v1.0^{tree}")) / "upstream.toml"
        toml.write_text(toml.read_text().replace("2026-01-02", day))
    git.commit("target", README_txt="t\n")
    choice = choose()
    assert choice.line.name == expected
    assert choice.why.startswith(f"its base is of {dates['ab'.index(expected)]}")


def test_upstreams_history_is_fetched_for_a_conflict(team: Team, settings: Settings) -> None:
    """It is worth the fetch then, since it may explain the conflict."""
    git = team.upstream
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    team.patch("five", "fix five", python__model_py=FIVE)
    git.commit("take it", python__model_py=FIVE)
    tip = git.commit("and edit it", python__model_py=FIVE_MORE)
    source = Remote("hub", f"file://{git.path}", settings, Silence())
    context = Context(team.repository, settings)
    choice = choose_line(context, source, source.resolve(tip), None)
    (five,) = choice.judgement.patches
    assert (five.result.verdict, choice.judgement.history_read) == (Verdict.ABSORBED, True)


def test_a_history_that_was_read_is_not_read_again(
    team: Team, choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    judged: list[object] = []

    def counted(*words: object) -> Judgement:
        judged.append(words)
        return judge(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("fixtool.judgement.line.judge", counted)
    choice = choose()
    assert (choice.ok, choice.judgement.history_read, len(judged)) == (False, True, 1)


def test_the_nearest_base_of_a_remote_is_by_commits(team: Team, settings: Settings) -> None:
    """Its store is one commit deep. What was fetched for the recorded facts knows the ancestors."""
    git = team.upstream
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    raw = with_trailer(raw, "Applied-Upstream", "0123456789" * 4)
    (team.root / "patches/main/five.patch").write_bytes(raw)
    newer = git.commit("newer", README_txt="1\n")
    toml = team.line("newer", newer) / "upstream.toml"
    toml.write_text(toml.read_text().replace("2026-01-02", "2020-01-01"))
    team.add("five", raw, "newer")
    tip = git.commit("tip", README_txt="2\n")
    source = Remote("hub", f"file://{git.path}", settings, Silence())
    context = Context(team.repository, settings)
    choice = choose_line(context, source, source.resolve(tip), None)
    assert (choice.line.name, choice.why) == ("newer", f"{tip[:12]} is 1 commit after its base")


def test_a_release_is_not_asked_for_the_base_of_a_line_for_a_commit(
    team: Team, server: Server, settings: Settings
) -> None:
    """`apply` once stopped there, over a line that had nothing to do with the release."""
    near = NUMBERS.replace("line 7\n", "line 7 more\n")
    for version, text in (("1.0", NUMBERS), ("1.1", near)):
        make_wheel(server.folder, version, files={"model.py": text.encode()})
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    toml = team.root / "patches/main/upstream.toml"
    toml.write_text(toml.read_text().replace('version = "1.0"', 'version = "1.1"'))
    source = Releases(settings, Silence())
    release = source.release("1.0")
    toml = team.line("released") / "upstream.toml"
    upstream = team.repository.line("released").upstream
    text = toml.read_text().replace(upstream.base, release.commit)
    text = text.replace(upstream.tree, release.tree)
    toml.write_text(text.replace("version", 'release = "1.0"\nversion'))
    team.add("five", raw, "released")
    context, target = Context(team.repository, settings), source.resolve("1.1")
    choice = choose_line(context, source, target, None)
    assert (choice.line.name, choice.ok) == ("released", True)
    assert choice.judgement.patches[0].result.verdict is Verdict.MERGED
    (note,) = choice.notes
    assert note.startswith(
        f"line main was not judged: line main is for the commit {upstream.base[:12]}"
    )
    with pytest.raises(CannotRun, match="which no release gives"):
        choose_line(context, source, target, "main")


def test_the_only_line_is_damaged(team: Team, choose: Choose) -> None:
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(with_trailer(raw, "Applied-Upstream", f"{'a1' * 20}, {'b2' * 20}"))
    team.upstream.commit("docs", README_txt="1\n")
    with pytest.raises(Refused, match="it names two commits"):
        choose()


def test_a_damaged_line_is_passed_over_and_told(team: Team, choose: Choose, tmp_path: Path) -> None:
    git = team.upstream
    team.patch("five", "fix five", python__model_py=FIVE)
    team.line("broken", git.commit("docs", README_txt="1\n"))
    (team.root / "patches/broken/series").write_text("missing.patch\n")
    git.commit("docs", README_txt="2\n")
    choice = choose()
    assert choice.line.name == "main"
    assert any("line broken was passed over" in note for note in choice.notes)
