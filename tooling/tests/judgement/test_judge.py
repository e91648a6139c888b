"""What is true of a patch on a commit, from its recorded facts, its text and upstream's history."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest

from fixtool.errors import CannotRun
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


def record(team: Team, slug: str, key: str, value: str) -> None:
    path = team.root / "patches/main" / f"{slug}.patch"
    path.write_bytes(with_trailer(path.read_bytes(), key, value))


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
    team: Team, judged: Callable[..., Judgement], version: str, expected: str
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    absent = "0123456789abcdef0123456789abcdef01234567"
    record(team, "five", "Fixes", f"{absent} (#7), 1.1")
    record(team, "five", "Applied-Upstream", f"{absent}, #12, v1.2")
    team.upstream.commit("docs", README_txt="read it\n")
    line = team.root / "patches/main/upstream.toml"
    line.write_text(line.read_text().replace("version", 'release = "1.1"\nversion'))
    assert verdict(judged(version=version)) == expected


def test_a_bug_that_no_release_has(team: Team, judged: Callable[..., Judgement]) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    record(team, "five", "Fixes", f"{team.upstream.head()}, none")
    assert verdict(judged()) == "clean"


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
    assert [verdict(judged(ref)) for ref in (base, "HEAD")] == ["clean", "clean"]


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
    assert more.result.evidence[-1] == "does not apply to its own base without five"


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
