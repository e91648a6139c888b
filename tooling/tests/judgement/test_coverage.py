"""Coverage against the judgement of every single commit, and coverage of releases."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fixtool.errors import ExitCode, Refused, UsageError
from fixtool.git.objects import Oid
from fixtool.judgement.coverage import cover_commits, cover_releases
from fixtool.judgement.covered import Coverage, CoveredRef
from fixtool.judgement.line import choose_line
from fixtool.progress import Silence
from fixtool.series.context import Context
from fixtool.series.line import Upstream
from fixtool.series.trailers import with_trailer
from fixtool.series.write import upstream_toml
from fixtool.settings import Settings
from fixtool.sources.source import Releases
from fixtool.sources.target import TargetRequest, find_target
from support import repositories
from support.json_documents import document
from support.package_index import Server, make_wheel
from support.rebase import FIVE, FIVE_AND_TWENTY, OTHER, REWRITTEN, SHIFTED
from support.repositories import NUMBERS, Git, Ran, Team

Answer = tuple[str, dict[str, tuple[str, str | None]]]


@pytest.fixture
def context(team: Team, settings: Settings) -> Callable[[], Context]:
    """The context of a command on the patch repository as it is when this is called."""
    return lambda: Context(team.repository, settings)


def answer(ref: CoveredRef) -> Answer:
    return ref.line, {
        patch.slug: (patch.verdict.value, patch.culprit and patch.culprit.sha)
        for patch in ref.patches
    }


def judged(context: Context, git: Git, commit: Oid, line: str | None) -> Answer:
    """The line that is chosen on a commit, and its patches there, as `fixtool apply` judges."""
    source, target = find_target(context, TargetRequest(commit, str(git.path), line))
    choice = choose_line(context, source, target, line)
    return choice.line.name, {
        patch.slug: (patch.result.verdict.value, patch.culprit and patch.culprit.sha)
        for patch in choice.judgement.patches
    }


def by_force(context: Context, git: Git, commits: list[Oid], line: str | None) -> list[Answer]:
    """The line and the patches of every commit, each covered alone."""
    refs = []
    for commit in commits:
        refs += cover_commits(context, commit, commit, str(git.path), line).refs
    own = tuple(patch for patch in refs[-1].patches if patch.in_line)
    assert answer(replace(refs[-1], patches=own)) == judged(context, git, commits[-1], line)
    return [answer(ref) for ref in refs]


def covered(context: Context, git: Git, start: str = "v1.0", line: str | None = None) -> Coverage:
    """What covers the commits from ``start`` to main, after it was compared with the judgement of
    every single one."""
    coverage = cover_commits(context, start, "main", str(git.path), line)
    later = git("rev-list", "--first-parent", "--reverse", f"{start}..main").split()
    commits = [Oid(git("rev-parse", f"{start}^{{commit}}")), *map(Oid, later)]
    runs = [ref.commits for ref in coverage.refs]
    ends = []
    for run in runs:
        assert run is not None
        ends += [run.first.sha, run.last.sha]
    assert sum(run.count for run in runs if run) == coverage.total == len(commits)
    assert [end for end in ends if end not in commits] == []
    answers = [answer(ref) for ref in coverage.refs for _ in range(ref.commits.count)]  # type: ignore[union-attr]
    forced = by_force(context, git, commits, line)
    subjects = {commit: git("log", "-1", "--format=%s", commit) for commit in commits}
    assert dict(zip(subjects.items(), answers, strict=True)) == dict(
        zip(subjects.items(), forced, strict=True)
    )
    return coverage


def shown(coverage: Coverage, slug: str) -> list[tuple[str, str, int]]:
    """The line, the verdict of a patch, and the number of commits of each run."""
    runs = []
    for ref in coverage.refs:
        (verdict,) = (patch.verdict.value for patch in ref.patches if patch.slug == slug)
        runs.append((ref.line, verdict, ref.commits.count if ref.commits else 1))
    return runs


def say(team: Team, slug: str, line: str = "main", **trailers: str) -> None:
    """Write trailers into a patch; an underscore in a key stands for a hyphen."""
    path = team.root / "patches" / line / f"{slug}.patch"
    raw = path.read_bytes()
    for key, value in trailers.items():
        raw = with_trailer(raw, key.replace("_", "-"), value)
    path.write_bytes(raw)


def add_line(team: Team, name: str, base: str, date: str = "2026-01-02") -> None:
    """A line without patches."""
    folder = team.line(name, team.upstream("rev-parse", f"{base}^{{commit}}"))
    text = (folder / "upstream.toml").read_text()
    (folder / "upstream.toml").write_text(text.replace('date = "2026-01-02"', f'date = "{date}"'))


def add_patch(team: Team, line: str, slug: str, base: str, **files: str) -> None:
    """A patch that is only in ``line``."""
    folder = team.root / "patches" / "main"
    before = {path: path.read_bytes() for path in (folder / "series", folder / f"{slug}.patch")
              if path.exists()}  # fmt: skip
    raw = team.patch(slug, f"fix {slug}", base=base, **files)
    (folder / f"{slug}.patch").unlink()
    for path, content in before.items():
        path.write_bytes(content)
    team.add(slug, raw, line)


def add_release(team: Team, name: str, version: str, settings: Settings) -> None:
    """A line for a release, without patches."""
    release = Releases(settings, Silence()).release(version)
    folder = team.root / "patches" / name
    folder.mkdir(parents=True, exist_ok=True)
    about = Upstream(
        str(team.upstream.path), release.commit, release.tree, version, version, "2026-01-02"
    )
    (folder / "upstream.toml").write_text(upstream_toml(about, "a test"))
    (folder / "series").write_text("# in order\n")


def test_a_commit_that_changes_nothing_that_matters_is_not_judged(
    team: Team, context: Callable[[], Context]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    for number in range(5):
        git.commit(f"docs {number}", README_txt=f"{number}\n")
    git.commit("shift", python__model_py=SHIFTED)
    git.commit("docs again", README_txt="again\n")
    coverage = covered(context(), git)
    assert shown(coverage, "five") == [("main", "clean", 6), ("main", "offset", 2)]
    # The base itself, the commit after it, and the shift.
    assert (coverage.total, coverage.judged) == (8, 3)
    assert coverage.exit_code is ExitCode.OK


def test_recorded_facts_and_what_takes_them_back(
    team: Team, context: Callable[[], Context]
) -> None:
    git = team.upstream
    git.commit("docs", README_txt="1\n")
    bug = git.commit("bring the bug", more_txt="x\n")
    base = git.commit("more docs", README_txt="2\n")
    taken = git.commit("Mend line 5 (#77)", other_txt="y\n")
    git.commit("docs between", README_txt="3\n")
    git("revert", "--no-edit", taken)
    git.commit("docs after", README_txt="4\n")
    git("revert", "--no-edit", "HEAD~1")
    (team.root / "patches" / "main" / "upstream.toml").unlink()
    team.line("main", base)
    team.patch("five", "fix five", base=base, python__model_py=FIVE)
    say(team, "five", Fixes=f"{bug}, none", Applied_Upstream=f"{taken}, #77, none")
    coverage = covered(context(), git)
    assert shown(coverage, "five") == [
        ("main", "not-needed", 2), ("main", "clean", 2), ("main", "absorbed", 2),
        ("main", "reverted", 2), ("main", "absorbed", 1),
    ]  # fmt: skip
    assert coverage.refs[2].patches[0].by == taken[:12]


def test_a_fact_on_a_side_branch_counts_from_its_merge(
    team: Team, context: Callable[[], Context]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git("checkout", "--quiet", "-b", "side")
    taken = git.commit("their own cure", cure_txt="y\n")
    git("checkout", "--quiet", "main")
    for number in range(4):
        git.commit(f"docs {number}", README_txt=f"{number}\n")
    git("merge", "--quiet", "--no-ff", "--message", "merge side", "side")
    git.commit("docs last", README_txt="last\n")
    say(team, "five", Superseded_By=f"{taken[:12]}, none")
    coverage = covered(context(), git)
    assert shown(coverage, "five") == [("main", "clean", 5), ("main", "superseded", 2)]


def test_lines_of_a_hunk_that_stand_in_another_file(
    team: Team, context: Callable[[], Context]
) -> None:
    """A file that no patch names decides whether a conflicting hunk has a place."""
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    lines = NUMBERS.splitlines(keepends=True)
    git.commit("take the lines out", python__model_py="".join(lines[20:]))
    git.commit("docs", README_txt="1\n")
    git.commit("put them elsewhere", python__split_py="new\n" + "".join(lines[:12]))
    git.commit("and once more", python__twin_py="other\n" + "".join(lines[:12]))
    git.commit("edit beside them", python__twin_py="other\n" + "".join(lines[:12]) + "end\n")
    git.commit("remove the copy", python__twin_py=None)
    coverage = covered(context(), git)
    assert [verdict for _, verdict, _ in shown(coverage, "five")] == [
        "clean", "conflict", "merged", "conflict", "merged",
    ]  # fmt: skip
    assert coverage.exit_code is ExitCode.CONFLICT


def test_a_folder_that_moves_in_two_steps(team: Team, context: Callable[[], Context]) -> None:
    files = {f"python__kernels__k{n}_py": f"kernel {n}\n" * 30 for n in range(3)}
    git = team.upstream
    git.commit("kernels", **files)
    git("tag", "--force", "v1.0")
    team.line("main")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line("main")
    team.patch("fresh", "add a kernel", python__kernels__fresh_py="fresh\n" * 9)
    git.commit("remove them", **dict.fromkeys(files))
    moved = {name.replace("kernels", "ops"): text for name, text in files.items()}
    git.commit("bring them back elsewhere", **moved)
    git.commit("docs", README_txt="1\n")
    covered(context(), git)


def test_the_line_that_is_chosen_changes_at_its_border(
    team: Team, context: Callable[[], Context]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("docs", README_txt="1\n")
    rewritten = git.commit("rewrite", python__model_py=REWRITTEN)
    git.commit("more docs", README_txt="2\n")
    git("tag", "v2.0", rewritten)
    add_line(team, "late", "v2.0")
    text = REWRITTEN.replace("line V\n", "line V fixed\n")
    add_patch(team, "late", "five", "v2.0", python__model_py=text)
    coverage = covered(context(), git)
    assert [(line, verdict) for line, verdict, _ in shown(coverage, "five")] == [
        ("main", "clean"), ("late", "clean"),
    ]  # fmt: skip
    alone = covered(context(), git, line="main")
    assert [verdict for _, verdict, _ in shown(alone, "five")] == ["clean", "conflict"]
    assert alone.exit_code is ExitCode.CONFLICT
    assert alone.refs[-1].needs_person


def test_the_patches_of_other_lines_are_shown_by_their_recorded_facts(
    team: Team, context: Callable[[], Context]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    team.patch("third", "fix third", README_txt="read me!\n")
    git = team.upstream
    git.commit("docs", more_txt="1\n")
    taken = git.commit("take other, mend five (#77)", python__other_py="alpha\nbeta, mended\n")
    base = git.commit("rewrite", python__model_py=REWRITTEN, README_txt="x\n")
    git.commit("docs again", more_txt="2\n")
    say(team, "other", Applied_Upstream=f"{taken}, #77, none")
    add_line(team, "late", base)
    text = REWRITTEN.replace("line V\n", "line V fixed\n")
    add_patch(team, "late", "five", base, python__model_py=text)
    coverage = covered(context(), git)
    assert [ref.line for ref in coverage.refs] == ["main", "main", "late"]
    five, other = coverage.refs[-1].patches  # nothing says what became of the third
    assert (five.slug, five.in_line) == ("five", True)
    assert (other.slug, other.in_line, other.verdict.value, other.by) == (
        "other", False, "absorbed", taken[:12],
    )  # fmt: skip
    (run,) = (ref for ref in covered(context(), git, start=base, line="late").refs)
    assert [patch.slug for patch in run.patches] == ["five"]


def test_a_line_is_chosen_on_its_own_base_alone(team: Team, context: Callable[[], Context]) -> None:
    """On the commits around it, another line carries more."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    git = team.upstream
    git.commit("docs", README_txt="1\n")
    base = git.commit("more docs", README_txt="2\n")
    git.commit("docs again", README_txt="3\n")
    add_line(team, "late", base)
    add_patch(team, "late", "five", base, python__model_py=FIVE)
    lines = [(line, count) for line, _, count in shown(covered(context(), git), "five")]
    assert lines == [("main", 2), ("late", 1), ("main", 1)]


def test_a_base_on_a_side_branch_is_near_from_its_merge_on(
    team: Team, context: Callable[[], Context]
) -> None:
    git = team.upstream
    git("checkout", "--quiet", "-b", "side")
    base = git.commit("base of late", side_txt="x\n")
    git("checkout", "--quiet", "main")
    (team.root / "patches" / "main" / "upstream.toml").unlink()
    git("checkout", "--quiet", "-b", "elsewhere")
    team.line("main", git.commit("base of main", elsewhere_txt="x\n"))
    git("checkout", "--quiet", "main")
    team.patch("five", "fix five", python__model_py=FIVE)
    add_line(team, "late", base, "2026-03-01")
    add_patch(team, "late", "five", base, python__model_py=FIVE)
    git.commit("docs", README_txt="1\n")
    git("merge", "--quiet", "--no-ff", "--message", "merge side", "side")
    git.commit("more docs", README_txt="2\n")
    lines = [(line, count) for line, _, count in shown(covered(context(), git), "five")]
    assert lines == [("main", 2), ("late", 2)]


def test_the_nearest_in_time_changes_on_a_day(
    team: Team, context: Callable[[], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither base is an ancestor, and both lines carry as much."""
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git("checkout", "--quiet", "-b", "side")
    for name, day in (("early", "2026-01-02"), ("late", "2026-01-20")):
        base = git.commit(f"base of {name}", **{f"{name}_txt": "x\n"})
        add_line(team, name, base, day)
        add_patch(team, name, "five", base, python__model_py=FIVE)
    for path in (team.root / "patches" / "main").iterdir():
        path.unlink()
    (team.root / "patches" / "main").rmdir()
    git("checkout", "--quiet", "main")
    start = git.commit("docs", README_txt="1\n")
    for day in ("03", "10", "12", "09", "30"):
        monkeypatch.setattr(repositories, "DATE", f"2026-01-{day}T12:00:00+0000")
        git.commit(f"day {day}", README_txt=f"day {day}\n")
    coverage = covered(context(), git, start=start)
    assert [line for line, _, _ in shown(coverage, "five")] == ["early", "late", "early", "late"]


def test_a_line_whose_base_cannot_be_had(
    team: Team, context: Callable[[], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patches are judged by their text alone, or it is passed over."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    add_line(team, "release", "v1.0")
    add_patch(team, "release", "five", "v1.0", python__model_py=FIVE)
    toml = team.root / "patches" / "release" / "upstream.toml"
    about = team.repository.line("release").upstream
    gone = about.__class__(about.url, Oid("1" * 40), Oid("2" * 40), "9.9", "9.9", about.date)
    toml.write_text(upstream_toml(gone, "a test"))
    git.commit("docs", README_txt="1\n")
    git.commit("shift", python__model_py=SHIFTED)
    git.commit("rewrite", python__model_py=REWRITTEN)
    coverage = covered(context(), git)
    assert [verdict for _, verdict, _ in shown(coverage, "five")] == ["clean", "offset", "conflict"]


PLACES = ["python/model.py", "python/moved.py", "python/new/x.py", "deep/er/model.py"]


def act(git: Git, draw: random.Random, number: int) -> None:
    """One thing that upstream does: an edit, a move, a twin, a removal, a patch that it takes, or a
    revert."""
    wanted = (*PLACES, "python/other.py", "python/new/file.py")
    present = [path for path in wanted if (git.path / path).exists()]
    move = draw.choice(
        ("edit", "move", "absorb", "revert", "twin", "remove", "else", "else", "take", "split")
    )
    path = draw.choice(present) if present else None
    text = (git.path / path).read_text() if path else ""
    if move == "edit" and path:
        lines = text.split("\n")
        lines[draw.randrange(len(lines))] += " edited"
        git.write(path, "\n".join(lines))
    elif move in ("move", "twin") and path:
        git.write(draw.choice(PLACES), text)
        if move == "move" and draw.random() < 0.8:
            (git.path / path).unlink(missing_ok=True)
    elif move == "split" and path:
        lines = text.splitlines(keepends=True)
        git.write(path, "".join(lines[12:]))
        git.write("python/split.py", "split\n" + "".join(lines[:12]))
    elif move == "absorb" and path:
        git.write(path, text.replace("line 5\n", "line 5 fixed\n").replace("beta\n", "beta!\n"))
    elif move == "remove" and path:
        (git.path / path).unlink()
    elif move == "revert" and number:
        back = f"HEAD~{draw.randrange(min(number, 3))}"
        git("revert", "--no-edit", back, check=False)
        git("revert", "--abort", check=False)
        return
    else:
        git.write("README.txt", f"{number}\n")
    name = f"step {number}: {move}"
    git.commit(f"{name} (#{draw.choice((7, 8))})" if move == "take" else name)


@pytest.mark.slow(10)
@pytest.mark.release(sample_of="coverage of histories drawn at random")
@pytest.mark.parametrize("seed", range(5))
def test_as_by_force_on_histories_drawn_at_random(
    team: Team, context: Callable[[], Context], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("twenty", "fix twenty", base="patch/five", python__model_py=FIVE_AND_TWENTY)
    team.patch("fresh", "add a file", python__new__file_py="".join(f"new {n}\n" for n in range(9)))
    git = team.upstream
    for number in range(14):
        day = draw.randrange(2, 28)
        monkeypatch.setattr(repositories, "DATE", f"2026-01-{day:02}T12:00:00+0000")
        act(git, draw, number)
    commits = git("rev-list", "--first-parent", "main").split()
    base = draw.choice(commits[2:-4])
    add_line(team, "late", base, f"2026-01-{draw.randrange(2, 28):02}")
    text = git("show", f"{base}:python/model.py", check=False)
    if "line 5\n" in text:
        text = text.replace("line 5\n", "line 5 fixed\n") + "\n"
        add_patch(team, "late", "five", base, python__model_py=text)
    if git("show", f"{base}:python/other.py", check=False) != OTHER.strip():
        add_patch(team, "late", "other", base, python__other_py=OTHER)
    facts = {"Applied_Upstream": f"{draw.choice(commits)}, #7", "Fixes": draw.choice(commits)[:10],
             "Superseded_By": f"{draw.choice(commits)[:12]}, #8"}  # fmt: skip
    for slug in ("five", "twenty"):
        key = draw.choice(list(facts))
        say(team, slug, **{key: facts[key]})
    covered(context(), git)


# -- refs that cannot be covered ---------------------------------------------------------------


def test_where_commits_cannot_be_had(team: Team, context: Callable[[], Context]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    with pytest.raises(UsageError, match="releases have no commits"):
        cover_commits(context(), source="pypi")
    git("checkout", "--quiet", "--orphan", "elsewhere")
    git.commit("unrelated")
    with pytest.raises(UsageError, match="descends from no base of a line"):
        cover_commits(context(), end="elsewhere", source=str(git.path))
    with pytest.raises(UsageError, match="does not descend from"):
        cover_commits(context(), "v1.0", "elsewhere", source=str(git.path))


def test_a_damaged_line_is_passed_over(team: Team, context: Callable[[], Context]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git("checkout", "--quiet", "-b", "side")
    add_line(team, "broken", git.commit("elsewhere", README_txt="0\n"))
    git("checkout", "--quiet", "main")
    team.add("five", b"not a patch\n", "broken")
    start = git.commit("docs", README_txt="1\n")
    git.commit("more docs", README_txt="2\n")
    (ref,) = covered(context(), git, start).refs
    assert ref.line == "main"
    assert "line broken was passed over" in ref.notes[0]
    with pytest.raises(Refused, match="no `diff --git` line"):
        cover_commits(context(), start, source=str(git.path), line="broken")


def test_the_first_commit_is_the_oldest_base(team: Team, context: Callable[[], Context]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("docs", README_txt="1\n")
    add_line(team, "late", "main")
    git.commit("more docs", README_txt="2\n")
    ref = cover_commits(context(), source=str(git.path)).refs[0]
    assert ref.commit == git("rev-parse", "v1.0")


def make_wheels(server: Server, **texts: str) -> None:
    """Releases with a model file; ``v1_0`` is 1.0."""
    for name, text in texts.items():
        version = name[1:].replace("_", ".")
        make_wheel(server.folder, version, files={"model.py": text.encode()})


def release_line(team: Team, settings: Settings) -> None:
    """A line for release 1.0 with the patch five, beside the line main, which is for a commit."""
    team.patch("five", "fix five", python__model_py=FIVE)
    add_release(team, "release", "1.0", settings)
    add_patch(team, "release", "five", "v1.0", python__model_py=FIVE)


def test_releases(
    team: Team, server: Server, context: Callable[[], Context], settings: Settings
) -> None:
    """A release that cannot be had is named after the others; each wheel is fetched once."""
    make_wheels(server, v0_9=SHIFTED, v1_0=NUMBERS, v1_1=FIVE, v1_1_post1="", v1_2=REWRITTEN)
    release_line(team, settings)
    say(team, "five", "release", Applied_Upstream=f"{'a' * 40}, #7, 1.2")
    broken = next(server.folder.glob("*1.1.post1*"))
    server.hashes[broken.name] = "0" * 64
    coverage = cover_releases(context(), "0.9..1.2")
    assert [ref.ref for ref in coverage.refs] == ["0.9", "1.0", "1.1", "1.2"]
    assert {ref.line for ref in coverage.refs} == {"release"}
    verdicts = [ref.patches[0].verdict.value for ref in coverage.refs]
    assert verdicts == ["offset", "clean", "absorbed", "absorbed"]
    assert [ref.patches[0].by for ref in coverage.refs] == [None, None, "1.2", "1.2"]
    (lost,) = coverage.missing
    assert (lost.ref, "not what the index promised" in lost.reason) == ("1.1.post1", True)
    assert coverage.exit_code is ExitCode.CANNOT_RUN
    assert cover_releases(context(), "0.9..1.2") == coverage
    assert len(server.asked("sglang-1.0-cp311-cp311-manylinux_2_34_x86_64.whl")) == 1
    assert cover_releases(context(), "0.9..1.0").exit_code is ExitCode.OK


def test_a_release_for_which_no_line_can_be_judged_is_missing(
    team: Team, server: Server, context: Callable[[], Context]
) -> None:
    """The base of the only line is a commit, and no release is asked for one."""
    make_wheels(server, v1_0=NUMBERS, v1_1=SHIFTED)
    team.patch("five", "fix five", python__model_py=FIVE)
    coverage = cover_releases(context(), "1.0..1.1")
    assert [(ref.ref, ref.line) for ref in coverage.refs] == [("1.0", "main")]
    (lost,) = coverage.missing
    assert (lost.ref, "which no release gives" in lost.reason) == ("1.1", True)
    assert lost.hint == "fixtool apply --ref 1.1 --source git --line main"


# -- the command -------------------------------------------------------------------------------


def test_the_command(team: Team, fixtool: Callable[..., Ran]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    docs = git.commit("docs", README_txt="1\n")
    bad = git.commit("rewrite", python__model_py=REWRITTEN)
    words = ["coverage", "--source", git.path, "-C", team.root]
    ran = fixtool(*words)
    assert ran.status == 3
    assert "commits   3; 3 judged, since" in ran.out
    assert f"next      fixtool apply -C {team.root} --ref {bad} --source {git.path}" in ran.out
    assert "a person is needed on 1 of 3 commits" in ran.out
    body: dict[str, Any] = document(fixtool(*words, "--json"))
    assert [ref["commits"]["count"] for ref in body["refs"]] == [2, 1]
    assert [ref["patches"][0]["verdict"] for ref in body["refs"]] == ["clean", "conflict"]
    assert body["refs"][0]["commits"]["last"]["subject"] == "docs"
    assert fixtool(*words, "--to", docs).status == 0
    assert fixtool(*words, "-v", "--to", docs).out.count("line main (") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--releases", "1..2", "--from", "v1.0"], "give one or the other"),
        (["--releases", "1..2", "--source", "git"], "releases come from the package index"),
        (["--releases", "1.0"], "no span of releases"),
        (["--source", "pypi"], "releases have no commits"),
        (["--line", "nope"], "no line 'nope'"),
    ],
)
def test_the_command_refuses(
    team: Team, server: Server, fixtool: Callable[..., Ran], words: list[str], message: str
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    make_wheel(server.folder, "1.0")
    ran = fixtool("coverage", *words, "-C", team.root)
    assert (ran.status, message in ran.err) == (2, True), ran.err


def test_the_command_on_releases(
    team: Team, server: Server, fixtool: Callable[..., Ran], settings: Settings
) -> None:
    make_wheels(server, v1_0=NUMBERS, v1_1=SHIFTED)
    release_line(team, settings)
    words = ["coverage", "--releases", "1.0..", "-C", team.root]
    ran = fixtool(*words)
    assert (ran.status, ran.out.splitlines()) == (0, [
        "release  line     five", "1.0      release  clean", "1.1      release  offset",
    ])  # fmt: skip
    assert [ref["commits"] for ref in document(fixtool(*words, "--json"))["refs"]] == [None, None]
    server.hashes[make_wheel(server.folder, "1.2").name] = "0" * 64
    ran = fixtool(*words)
    assert (ran.status, "\n1.2 could not be judged: " in ran.out) == (4, True)
    body = document(fixtool(*words, "--json"))
    assert [ref["ref"] for ref in body["refs"]] == ["1.0", "1.1"]
    assert [ref["ref"] for ref in body["missing"]] == ["1.2"]
