"""What the recorded facts of a patch say on a commit, and along a history."""

from __future__ import annotations

import pytest

from fixtool.git.objects import Oid
from fixtool.history.log import UpstreamCommit, first_parent_changes
from fixtool.history.recorded import FactsAlong, Presence, state_of
from fixtool.replay.verdict import Verdict
from fixtool.series.facts import FactKind, RecordedFact
from fixtool.series.trailers import with_trailer
from support.rebase import FIVE
from support.repositories import Team

TOOK = UpstreamCommit(Oid("a" * 40), "A", "2026-01-02T03:04:05Z", "take it (#9)", 9)
UNDONE = UpstreamCommit(Oid("b" * 40), "B", "2026-01-03T03:04:05Z", "revert it", None)

HELD = Presence(True, TOOK)
ABSENT = Presence(False)
UNKNOWN = Presence(None)
TAKEN_BACK = Presence(False, TOOK, UNDONE)


def fact(kind: FactKind, number: int = 9) -> RecordedFact:
    return RecordedFact(kind, None, number, None)


@pytest.mark.parametrize(
    ("fixes", "applied", "superseded", "verdict", "needed"),
    [
        ([], [], [], None, False),
        ([HELD], [], [], None, True),
        ([ABSENT], [], [], "not-needed", False),
        ([TAKEN_BACK], [], [], None, False),
        ([TAKEN_BACK, ABSENT], [], [], None, False),
        ([UNKNOWN], [], [], None, False),
        ([UNKNOWN, ABSENT], [], [], None, False),
        ([HELD, ABSENT], [], [], None, True),
        ([ABSENT, ABSENT], [], [], "not-needed", False),
        ([], [HELD], [], "absorbed", False),
        ([HELD], [HELD], [], "absorbed", False),
        ([HELD], [UNKNOWN], [UNKNOWN], None, True),
        ([], [ABSENT, HELD], [], "absorbed", False),
        ([HELD], [ABSENT], [HELD], "superseded", False),
        ([ABSENT], [ABSENT], [HELD], "superseded", False),
        ([HELD], [], [TAKEN_BACK], None, True),
    ],
)
def test_the_state_of_a_patch(
    fixes: list[Presence],
    applied: list[Presence],
    superseded: list[Presence],
    verdict: str | None,
    needed: bool,
) -> None:
    kinds = zip(FactKind, (fixes, applied, superseded), strict=True)
    state = state_of((fact(kind), presence) for kind, some in kinds for presence in some)
    assert (state.state and state.state.verdict.value, state.needed) == (verdict, needed)
    assert state.taken_back is None
    if verdict in ("absorbed", "superseded"):
        assert state.culprit == TOOK


def test_what_upstream_took_back_is_needed_again() -> None:
    state = state_of([(fact(FactKind.APPLIED), TAKEN_BACK), (fact(FactKind.FIXES), HELD)])
    assert (state.state, state.culprit, state.needed) == (None, UNDONE, True)
    assert state.taken_back == f"{UNDONE.sha[:12]} took it back"


def test_a_commit_of_a_side_branch_counts_from_its_merge_on(team: Team) -> None:
    git = team.upstream
    start = Oid(git.head())
    git("checkout", "--quiet", "-b", "side")
    took = git.commit("take it", python__model_py=FIVE)
    git("checkout", "--quiet", "main")
    for name in ("one", "two", "three"):
        git.commit(name, README_txt=name)
    git("merge", "--quiet", "--no-ff", "-m", "Merge branch 'side'", "side")
    git.commit("after", README_txt="after")
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches/main/five.patch"
    path.write_bytes(with_trailer(raw, "Applied-Upstream", took))
    changes = first_parent_changes(git.repo, start, Oid(git.head()))
    along = FactsAlong.read(git.repo, team.repository.line("main"), start, changes)
    verdicts = [state.state and state.state.verdict for state in along.states("five")]
    assert verdicts == [None] * 4 + [Verdict.ABSORBED] * 2
