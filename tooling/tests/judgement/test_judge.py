"""What is true of a patch on a commit, from its recorded facts, its text and upstream's history."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest

from fixtool.errors import CannotRun
from fixtool.git.objects import Oid
from fixtool.judgement.run import Judgement, JudgeRequest, judge
from fixtool.replay.run import Decisions
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.trailers import with_trailer
from fixtool.settings import Settings
from fixtool.sources.source import Local
from support.json_documents import document
from support.rebase import FIVE, FIVE_MORE, OTHER, REWRITTEN, SHIFTED
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

OTHERWISE = NUMBERS.replace("line 5\n", "line 5 cured otherwise\n")
"""The bug of line 5 is cured, in another way than by the patch."""


@pytest.fixture
def judged(team: Team, settings: Settings) -> Callable[..., Judgement]:
    """Judge line main on a ref of upstream's."""

    def run(ref: str = "HEAD", version: str | None = None, **request: object) -> Judgement:
        source = Local(team.upstream.path, settings)
        target = source.resolve(team.upstream("rev-parse", ref))
        target = dataclasses.replace(target, version=version)
        context = Context(team.repository, settings)
        line = context.repository.line("main")
        return judge(context, source, target, line, JudgeRequest(**request))  # type: ignore[arg-type]

    return run


@pytest.fixture
def released(team: Team) -> Team:
    """A team whose line is for release 1.1."""
    toml = team.root / "patches/main/upstream.toml"
    toml.write_text(toml.read_text().replace("version", 'release = "1.1"\nversion'))
    return team


def record(team: Team, slug: str, key: str, value: str) -> None:
    path = team.root / "patches/main" / f"{slug}.patch"
    path.write_bytes(with_trailer(path.read_bytes(), key, value))


def file_in(team: Team, settings: Settings, judgement: Judgement, path: str) -> str:
    """A file of the tree that a judgement made."""
    store = Local(team.upstream.path, settings).repo
    return store.run("cat-file", "blob", f"{judgement.replay.tree}:{path}").stdout.decode()


def verdict(judgement: Judgement, slug: str = "five") -> str:
    return judgement.patch(slug).result.verdict.value


# -- what upstream has ------------------------------------------------------------------------


def test_a_patch_that_upstream_took_in_another_form(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    took = team.upstream.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    assert verdict(judged()) == "conflict"
    record(team, "five", "Applied-Upstream", f"{took}, #12, 1.1")
    team.upstream.commit("docs", README_txt="read it\n")
    judgement = judged()
    five, other = judgement.patches
    assert (five.result.verdict, five.result.commit) == (Verdict.ABSORBED, None)
    assert five.culprit is not None
    assert (five.culprit.sha, five.culprit.pr) == (took, 12)
    assert five.result.evidence[0] == f"upstream took #12 as {took[:12]}"
    assert (other.result.verdict, judgement.ok) == (Verdict.CLEAN, True)
    assert judgement.left_out == (five,)
    assert verdict(judged("v1.0")) == "clean"  # before upstream took it


def test_the_commit_behind_a_verdict_is_not_the_revert_before_it(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """Upstream took the patch back, and then again without naming the pull request."""
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    took = git.commit("fix five (#12)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    back = git.head()
    git.commit("docs", README_txt="read it\n")
    record(team, "five", "Forwarded", "https://x.org/a/b/pull/12")

    def behind(ref: str) -> tuple[str, str | None]:
        five = judged(ref, bring_history=True).patch("five")
        return five.result.verdict.value, five.culprit and five.culprit.sha

    assert behind(took) == ("absorbed", took)
    assert behind("HEAD") == ("reverted", back)
    again = git.commit("fix line 5", python__model_py=FIVE)
    assert behind("HEAD") == ("absorbed", again)
    lost = git.commit("tidy up", python__model_py=NUMBERS)
    assert behind("HEAD") == ("reverted", lost)
    record(team, "five", "Applied-Upstream", again)  # whatever the facts say that upstream has
    assert behind("HEAD") == ("reverted", lost)


def test_the_commit_of_a_fact_is_behind_the_verdict_that_it_gives(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """By its text, upstream had the patch since the commit before."""
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("a part of it", python__model_py=FIVE)
    took = git.commit("the rest (#12)", python__more_py="cured\n")
    record(team, "five", "Applied-Upstream", f"{took}, #12")
    judgement = judged()
    five = judgement.patch("five")
    assert (five.result.verdict, judgement.history_read) == (Verdict.ABSORBED, True)
    assert five.culprit is not None
    assert five.culprit.sha == took


def test_without_a_history_a_revert_is_behind_no_other_verdict(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """The line's base is on a branch of its own, so no history leads from there to the target."""
    git = team.upstream
    git("checkout", "--quiet", "-b", "side")
    base = git.commit("prepare", README_txt="side\n")
    git("checkout", "--quiet", "main")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line(base=base)
    team.patch("five", "fix five", python__model_py=FIVE)
    git.commit("fix five (#12)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    git.commit("fix line 5", python__model_py=FIVE)
    record(team, "five", "Forwarded", "https://x.org/a/b/pull/12")
    five = judged(bring_history=True).patch("five")
    assert (five.result.verdict, five.culprit) == (Verdict.ABSORBED, None)


def test_its_text_still_fits_and_upstream_has_it(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """Applying it would put a second cure on top of upstream's."""
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("five, elsewhere", python__more_py="cured\n")
    assert verdict(judged()) == "clean"
    record(team, "five", "Applied-Upstream", took[:12])
    judgement = judged()
    assert (verdict(judgement), judgement.replay.commit) == ("absorbed", took)


def test_upstream_takes_its_own_fix_back(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    took = git.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    record(team, "five", "Applied-Upstream", f"{took}, #12")
    git("revert", "--no-edit", "HEAD")
    undone = git.head()
    five = judged().patch("five")
    assert (five.result.verdict, five.left_out) == (Verdict.REVERTED, False)
    assert five.result.evidence[0] == f"{undone[:12]} took it back"
    git.commit("five, once more (#12)", python__model_py=OTHERWISE)
    assert verdict(judged()) == "absorbed"


def test_a_cure_of_another_kind(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    cured = team.upstream.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    record(team, "five", "Superseded-By", f"{cured}, #12")
    five = judged().patch("five")
    assert (five.result.verdict, five.left_out) == (Verdict.SUPERSEDED, True)
    assert five.result.evidence[0] == f"upstream cures it in another way, by #12 as {cured[:12]}"


# -- what is not needed yet -------------------------------------------------------------------


def test_the_bug_is_not_there_yet(team: Team, judged: Callable[..., Judgement]) -> None:
    git = team.upstream
    bug = git.commit("rework five (#7)", python__model_py=SHIFTED)
    team.line(base=bug)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    team.patch("five", "fix five", base=bug, python__model_py=fixed)
    record(team, "five", "Fixes", f"{bug} (#7), 1.1")
    assert verdict(judged(bug)) == "clean"
    five = judged("v1.0").patch("five")
    assert (five.result.verdict, five.left_out) == (Verdict.NOT_NEEDED, True)
    assert "#7 as" in five.result.evidence[0]
    git("revert", "--no-edit", "HEAD")
    assert verdict(judged()) != "not-needed"  # it may have come back under another name


def test_one_of_two_bugs_is_enough(team: Team, judged: Callable[..., Judgement]) -> None:
    git = team.upstream
    first = git.commit("first", python__model_py=SHIFTED)
    second = git.commit("second", README_txt="bug\n")
    team.line(base=second)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    team.patch("five", "fix five", base=second, python__model_py=fixed)
    record(team, "five", "Fixes", first)
    path = team.root / "patches/main/five.patch"
    fixes = f"Fixes: {first}\n".encode()
    path.write_bytes(path.read_bytes().replace(fixes, fixes + f"Fixes: {second}\n".encode()))
    assert [verdict(judged(ref)) for ref in ("v1.0", first, second)] == [
        "not-needed", "clean", "clean",
    ]  # fmt: skip


# -- releases, which have versions and no commits ---------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.0", "not-needed"), ("1.1", "clean"), ("1.1.post1", "clean"), ("1.2rc1", "clean"),
     ("1.2", "absorbed"), ("2.0", "absorbed")],
)  # fmt: skip
def test_a_release_is_compared_with_the_recorded_ones(
    released: Team, judged: Callable[..., Judgement], version: str, expected: str
) -> None:
    released.patch("five", "fix five", python__model_py=FIVE)
    absent = "0123456789abcdef0123456789abcdef01234567"
    record(released, "five", "Fixes", f"{absent} (#7), 1.1")
    record(released, "five", "Applied-Upstream", f"{absent}, #12, v1.2")
    released.upstream.commit("docs", README_txt="read it\n")
    assert verdict(judged(version=version)) == expected


def test_a_bug_that_no_release_has(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    record(team, "five", "Fixes", f"{team.upstream.head()}, none")
    assert verdict(judged()) == "clean"


# -- facts alone: a line for a release has no history to the target ---------------------------


def test_each_patch_has_facts_of_its_own(released: Team, judged: Callable[..., Judgement]) -> None:
    released.patch("five", "fix five", python__model_py=FIVE)
    released.patch("other", "fix other", python__other_py=OTHER)
    took = released.upstream.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    record(released, "five", "Applied-Upstream", f"{took}, #12")
    released.upstream.commit("docs", README_txt="read it\n")
    judgement = judged()
    assert not judgement.history_read
    five, other = judgement.patches
    assert (five.result.verdict, other.result.verdict) == (Verdict.ABSORBED, Verdict.CLEAN)
    assert five.culprit is not None
    assert five.culprit.sha == took


@pytest.mark.parametrize("expected", ["reverted", "merged"])
def test_what_upstream_took_back_is_kept(
    released: Team, judged: Callable[..., Judgement], expected: str
) -> None:
    """It is said to be reverted where its text stands as before; a merge is a merge."""
    released.patch("five", "fix five", python__model_py=FIVE)
    git = released.upstream
    took = git.commit("five, elsewhere (#12)", python__more_py="cured\n")
    record(released, "five", "Applied-Upstream", f"{took}, #12")
    git("revert", "--no-edit", "HEAD")
    undone = git.head()
    near = "line 7 more\n" if expected == "merged" else "line 7\n"
    git.commit("docs", python__model_py=NUMBERS.replace("line 7\n", near), README_txt="read it\n")
    five = judged(version="1.3").patch("five")
    assert (five.result.verdict.value, five.left_out) == (expected, False)
    assert (five.culprit and five.culprit.sha) == (undone if expected == "reverted" else None)


def test_the_log_outweighs_the_version(released: Team, judged: Callable[..., Judgement]) -> None:
    """A tag's name says less than what its commit holds."""
    released.patch("five", "fix five", python__model_py=FIVE)
    git = released.upstream
    took = git.commit("five, elsewhere (#12)", python__more_py="cured\n")
    record(released, "five", "Applied-Upstream", f"{took}, #12, 1.3")
    assert verdict(judged(version="1.2")) == "absorbed"  # before the release that was recorded
    git("revert", "--no-edit", "HEAD")
    git.commit("docs", README_txt="read it\n")
    assert verdict(judged(version="1.3")) == "reverted"


def test_a_fact_that_holds_on_the_release_of_the_line_says_nothing(
    released: Team, judged: Callable[..., Judgement]
) -> None:
    released.patch("five", "fix five", python__model_py=FIVE)
    released.upstream.commit("docs", README_txt="read it\n")
    for release, expected in (("1.0", "clean"), ("1.1", "clean"), ("1.1.post1", "absorbed")):
        record(released, "five", "Applied-Upstream", f"#12, {release}")
        assert verdict(judged(version="1.2")) == expected


# -- the line's own base ----------------------------------------------------------------------


def test_on_its_own_base_a_line_needs_no_history(team: Team, settings: Settings) -> None:
    git = team.upstream
    base = git.commit("the bug (#5)", python__model_py=SHIFTED)
    team.line(base=base)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    team.patch("five", "fix five", base=base, python__model_py=fixed)
    record(team, "five", "Fixes", f"{base} (#5)")
    Git(team.root)("clone", "--quiet", "--depth=1", f"file://{git.path}", "shallow")
    source = Local(team.root / "shallow", settings)
    context = Context(team.repository, settings)
    judgement = judge(context, source, source.resolve("HEAD"), context.repository.line("main"))
    assert verdict(judgement) == "clean"


def test_the_release_of_a_line_may_be_another_commit(
    released: Team, judged: Callable[..., Judgement]
) -> None:
    """A release is its files: another fixtool may have made another commit of them."""
    git = released.upstream
    git.commit("docs", README_txt="read it\n")
    released.patch("five", "fix five", python__model_py=FIVE)
    took = git.commit("five, elsewhere (#12)", python__more_py="cured\n")
    record(released, "five", "Applied-Upstream", f"{took}, #12")
    git.commit("the files of the release", python__more_py=None, README_txt="read me\n")
    assert verdict(judged()) == "clean"


def test_a_commit_with_the_files_of_the_base_is_another_commit(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """Only a release is its files."""
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("five, in another repository (#12)")
    record(team, "five", "Applied-Upstream", f"{took}, #12")
    assert verdict(judged("v1.0")) == "clean"
    assert verdict(judged()) == "absorbed"


# -- what a fact cannot say -------------------------------------------------------------------


def test_a_fact_that_already_holds_on_the_base_says_nothing(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """The line carries the patch there, so the fact is about something else."""
    git = team.upstream
    old = git.commit("an old attempt (#3)", python__more_py="1\n")
    base = git.commit("base", README_txt="base\n")
    team.line(base=base)
    team.patch("five", "fix five", base=base, python__model_py=FIVE)
    record(team, "five", "Applied-Upstream", f"{old}, #3")
    git.commit("docs", README_txt="read it\n")
    aside = git("commit-tree", "-m", "no history from the base", "-p", old, f"{old}^{{tree}}")
    assert [verdict(judged(ref)) for ref in (base, "HEAD", aside)] == ["clean"] * 3


def test_a_number_alone_is_no_fact(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    record(team, "five", "Fixes", "#12")
    team.upstream.commit("docs (#12)", README_txt="read it\n")
    assert verdict(judged()) == "clean"


def test_a_conflict_that_nothing_explains_needs_a_person(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    judgement = judged()
    assert (verdict(judgement), judgement.ok, judgement.left_out) == ("conflict", False, ())


# -- history, probes and people ---------------------------------------------------------------


def test_history_knows_what_the_text_has_forgotten(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("they took five", python__model_py=FIVE)
    team.upstream.commit("and edited it", python__model_py=FIVE_MORE)
    five = judged().patch("five")
    assert (five.result.verdict, five.left_out) == (Verdict.ABSORBED, True)
    assert five.culprit is not None
    assert five.culprit.sha == took


def test_a_probe_that_finds_the_bug_outweighs_a_fact(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("five, or so they say", python__more_py="1\n")
    record(team, "five", "Applied-Upstream", took)
    answers = [(None, "absorbed"), (0, "absorbed"), (77, "absorbed"), (1, "clean")]
    for answer, expected in answers:
        assert verdict(judged(probes={"five": answer})) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, "conflict"), (0, "superseded"), (1, "conflict"), (77, "conflict")],
)
def test_a_probe_that_finds_no_bug_explains_a_conflict(
    team: Team, judged: Callable[..., Judgement], answer: int | None, expected: str
) -> None:
    """An answer of 77 explains none: the tree may have changed so much that the probe is lost."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    judgement = judged(probes={"five": answer, "other": 1})
    assert (verdict(judgement), verdict(judgement, "other")) == (expected, "clean")
    five = judgement.patch("five")
    assert (five.left_out, five.probe) == (expected == "superseded", answer)


@pytest.mark.parametrize(
    ("answer", "expected"), [(None, "clean"), (0, "not-needed"), (1, "clean"), (77, "not-needed")]
)
def test_a_patch_whose_probe_finds_no_bug_is_applied_and_told(
    team: Team, judged: Callable[..., Judgement], answer: int | None, expected: str
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("docs", README_txt="read it\n")
    five = judged(probes={"five": answer}).patch("five")
    assert (five.result.verdict.value, five.left_out) == (expected, False)


def test_a_conflict_that_came_and_went_is_nobodys(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """A clean patch has no commit behind its verdict."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("rewrite", python__model_py=REWRITTEN)
    team.upstream.commit("as it was", python__model_py=NUMBERS)
    five = judged().patch("five")
    assert (five.result.verdict, five.culprit) == (Verdict.CLEAN, None)


def test_a_hunk_that_follows_its_lines_is_told(
    team: Team, settings: Settings, judged: Callable[..., Judgement]
) -> None:
    team.patch("other", "fix other", python__other_py=OTHER)
    team.patch("five", "fix five", python__model_py=FIVE)
    head, line, tail = NUMBERS.partition("line 11\n")
    team.upstream.commit("split", python__model_py=line + tail, python__head_py=head)
    judgement = judged()
    five = judgement.patch("five").result
    assert five.verdict is Verdict.MERGED
    assert five.evidence == ("hunk 1 of python/model.py follows its lines to python/head.py",)
    assert "line 5 fixed" in file_in(team, settings, judgement, "python/head.py")
    assert file_in(team, settings, judgement, "python/other.py") == OTHER


def test_a_twin_of_the_place_is_not_where_its_lines_went(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """It once was: `apply` patched a file that always held a copy of the patched lines."""
    git = team.upstream
    base = git.commit("a copy", python__copy_py="# copy\n" + NUMBERS)
    team.line(base=base)
    team.patch("five", "fix five", base=base, python__model_py=FIVE)
    git.commit("rewrite", python__model_py="rewritten\n")
    judgement = judged()
    assert (verdict(judgement), judgement.replay.commit) == ("conflict", git.head())


def test_a_person_outweighs_a_fact(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("five, elsewhere", python__more_py="cured\n")
    record(team, "five", "Applied-Upstream", took)
    by_hand = PatchState(Verdict.LEFT_OUT, ("left out by hand",))
    assert verdict(judged(decisions=Decisions({"five": by_hand}))) == "left-out"
    resolved = team.upstream("rev-parse", "patch/five^{tree}")
    judgement = judged(decisions=Decisions(resolved={"five": Oid(resolved)}))
    assert (verdict(judgement), judgement.replay.tree) == ("merged", resolved)


def test_a_resolution_is_not_cached(
    team: Team, settings: Settings, judged: Callable[..., Judgement]
) -> None:
    """It is a person's decision about this one run."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    git = team.upstream
    git.commit("rewrite", python__model_py=REWRITTEN)
    assert verdict(judged()) == "conflict"
    by_hand = git.commit("V", python__model_py=REWRITTEN.replace("line V\n", "line V fixed\n"))
    tree = Oid(git("rev-parse", f"{by_hand}^{{tree}}"))
    git("reset", "--quiet", "--hard", "HEAD^")
    judgement = judged(decisions=Decisions(resolved={"five": tree}))
    assert [patch.result.verdict.value for patch in judgement.patches] == ["merged", "clean"]
    assert "line V fixed" in file_in(team, settings, judgement, "python/model.py")
    assert file_in(team, settings, judgement, "python/other.py") == OTHER
    assert verdict(judged()) == "conflict"


def test_what_a_person_leaves_out(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    raw = team.patch("more", "fix five more", python__model_py=FIVE)
    git("checkout", "--quiet", "patch/five")
    git.commit("fix five more\n\nSigned-off-by: A Person <p@x.org>", python__model_py=FIVE_MORE)
    (team.root / "patches/main/more.patch").write_bytes(format_patch(git))
    git("checkout", "--quiet", "main")
    assert raw
    by_hand = PatchState(Verdict.LEFT_OUT, ("left out by hand",))
    judgement = judged("v1.0", decisions=Decisions({"five": by_hand}))
    five, more = judgement.patches
    assert (five.result.verdict, five.left_out) == (Verdict.LEFT_OUT, True)
    assert (more.result.verdict, more.needs_person) == (Verdict.BLOCKED, True)
    assert more.result.evidence[-1] == "it needs five"


def test_a_cached_answer_is_for_the_same_patches(
    team: Team, judged: Callable[..., Judgement]
) -> None:
    """The cache of replays once held only what was judged without any patch left out."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    by_hand = PatchState(Verdict.LEFT_OUT, ("left out by hand",))
    choices = [Decisions(), Decisions({"five": by_hand}), Decisions({"other": by_hand})]
    trees = {}
    for number, decisions in itertools.product(range(2), enumerate(choices)):
        judgement = judged("v1.0", decisions=decisions[1])
        trees.setdefault(decisions[0], judgement.replay.tree)
        assert judgement.replay.tree == trees[decisions[0]]
        assert not number or judgement.replay.reused == 2
    assert len(set(trees.values())) == 3


# -- the same answer from every verb ----------------------------------------------------------


def test_every_verb_gives_the_same_answer(team: Team, fixtool: Callable[..., Ran]) -> None:
    git = team.upstream
    bug = git.commit("a bug of later (#5)", README_txt="bug\n")
    git("checkout", "--quiet", "v1.0")
    git("checkout", "--quiet", "-B", "main")
    team.patch("taken", "fix five", python__model_py=FIVE)
    team.patch("later", "fix later", python__new_py="1\n")
    team.patch("other", "fix other", python__other_py=OTHER)
    took = git.commit("five, otherwise (#12)", python__model_py=OTHERWISE)
    record(team, "taken", "Applied-Upstream", f"{took}, #12")
    git("merge", "--quiet", "--no-edit", bug)
    git.commit("docs", README_txt="docs\n")
    place = ("-C", team.root, "--source", git.path, "--json")
    apply = document(fixtool("apply", *place, "--sglang-ref", "main", "--dry-run"))
    rebase = document(fixtool("rebase", *place, "--onto", "main", "--dry-run"))
    history = document(fixtool("history", *place, "--to", "main"))
    status = document(fixtool("upstream", "--status", *place, "--onto", "main", "--dry-run"))
    expected = {"taken": "absorbed", "later": "clean", "other": "clean"}
    assert {patch["slug"]: patch["verdict"] for patch in apply["patches"]} == expected
    assert {patch["slug"]: patch["verdict"] for patch in rebase["patches"]} == expected
    assert {
        patch["slug"]: patch["intervals"][-1]["verdict"] for patch in history["patches"]
    } == expected
    assert {patch["slug"]: patch["tip"] for patch in status["standings"]} == expected
    culprits = {patch["slug"]: patch["culprit"] for patch in apply["patches"]}
    assert culprits["taken"]["sha"] == took
    assert culprits == {patch["slug"]: patch["culprit"] for patch in rebase["patches"]}
    assert apply["left_out"] == ["taken"]


def test_a_commit_that_cannot_be_looked_up_is_not_guessed(team: Team, settings: Settings) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    took = team.upstream.commit("five, otherwise", python__model_py=OTHERWISE)
    record(team, "five", "Applied-Upstream", took)
    team.upstream.commit("docs", README_txt="read it\n")
    shallow = Git(team.root / "shallow")
    Git(team.root)("clone", "--quiet", "--depth=1", f"file://{team.upstream.path}", "shallow")
    source = Local(shallow.path, settings)
    context = Context(team.repository, settings)
    with pytest.raises(CannotRun, match="shallow"):
        judge(context, source, source.resolve("HEAD"), context.repository.line("main"))
