"""What the messages of upstream's commits say about earlier commits."""

from __future__ import annotations

import pytest

from fixtool.git.objects import Oid
from fixtool.history.log import (
    LogEntry,
    Reference,
    UpstreamCommit,
    restored,
    reverted,
    takes_and_reverts,
)

SHA = "89ff2bc1115c5dd33bbb5dba4ccf4f615329b411"
OTHER = "5ae8d286d0f3a1b2c3d4e5f60718293a4b5c6d7e"


def commit(subject: str, pull: int | None = None, sha: str = OTHER) -> UpstreamCommit:
    return UpstreamCommit(Oid(sha), "A Person", "2026-01-02T03:04:05+01:00", subject, pull)


def entry(subject: str, pull: int | None = None, sha: str = OTHER, body: str = "") -> LogEntry:
    return LogEntry(
        commit(subject, pull, sha), reverted(subject, body), restored(subject), first_parent=True
    )


FIX = commit("fix: keep the group (rank 0)  (#12)", 12, SHA)

# Each subject is in the form of one in SGLang's history.
REVERTS_OF_FIX = [
    'Revert "fix: keep the group (rank 0)" (#34)',
    'Revert "fix: keep the group (rank 0)"',
    'Revert "fix: keep the group (rank 0) (#12)" (#34)',
    'Revert "fix: keep the group (rank 0)  (#12)"',
    'revert "fix: keep the group (rank 0) #12" (#34)',
    'Revert "fix: keep the group (rank 0) " (#34)',
    '[diffusion] Revert "fix: keep the group (rank 0)" (#34)',
    'Revert "fix: keep the gr… (#34)',
    'Revert "fix: keep the gr…',
    'Revert "fix: keep the gr... (#34)',
    "Revert fix: keep the group (rank 0) (#34)",
    "Revert PR #12: keep them all (#34)",
    "Revert PR 12 & 13 related to groups (#34)",
    "fix: revert #12 (#34)",
    "[Revert] the group (#11, #12) (#34)",
]


@pytest.mark.parametrize("subject", REVERTS_OF_FIX)
def test_reverts_by_subject(subject: str) -> None:
    reference = reverted(subject, "")
    assert reference is not None
    assert reference.names(FIX)
    assert not reference.names(commit("fix: keep the order (#34)", 34))
    assert not reference.names(commit("fix: keep (#35)", 35))
    assert not reference.names(commit("fix: keep"))


@pytest.mark.parametrize(
    "body",
    [f"This reverts commit {SHA}.", f"Why.\n\nThis reverts commit {SHA[:9]}.\n",
     f"This reverts commit {OTHER[::-1]}.\nThis reverts commit {SHA}, reversing\nchanges made to x.",
     "Reverts #12", "Reverts sgl-project/sglang#12"],
)  # fmt: skip
def test_reverts_by_body(body: str) -> None:
    reference = reverted("Take it out again (#34)", body)
    assert reference is not None
    assert reference.names(FIX)
    assert not reference.names(commit("fix: keep the order (#34)", 34))


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("Skip mamba_pool_idx revert for session requests (#12)", ""),
        ("Remove reverted test (#12)", ""),
        ("Fix flaky test by reverting mamba slot release (#12)", ""),
        ("Update the docs (#12)", f"Unlike {SHA}, which reverts #12"),
        ("Update the docs (#12)", f"> This reverts commit {SHA}"),
    ],
)
def test_what_reverts_nothing(subject: str, body: str) -> None:
    assert reverted(subject, body) is None


@pytest.mark.parametrize(
    "subject",
    ["Revert back to using the old backend (#34)", "Revert transformers to 4.57.1 (#34)",
     'Revert "Revert "fix: keep the group (rank 0)"" (#56)',
     'Revert "Revert "fix: keep the group (rank 0) (#12)" (#34)" (#56)',
     'Revert "fix: keep" (#34)', 'Revert "keep the group (rank 0)" (#34)', "Revert (#12)"],
)  # fmt: skip
def test_reverts_of_something_else(subject: str) -> None:
    reference = reverted(subject, "")
    assert reference is not None
    assert not reference.names(FIX)


def test_a_revert_of_a_revert_names_the_revert() -> None:
    revert = commit('Revert "fix: keep the group (rank 0) (#12)" (#34)', 34)
    for subject in (
        'Revert "Revert "fix: keep the group (rank 0) (#12)" (#34)" (#56)',
        'Revert "Revert "fix: keep the group (rank 0) (#12)"" (#56)',
        'Revert "Revert "fix: keep the gro… (#56)',
    ):
        reference = reverted(subject, "")
        assert reference is not None
        assert reference.names(revert)
        assert not reference.names(FIX)


@pytest.mark.parametrize(
    "subject",
    ['Reland "fix: keep the group (rank 0)" (#56)', "Re-land #12: more of it (#56)",
     'Reland "fix: keep the group (rank 0) (#12)" (#56)',
     "Reland: fix: keep the group (rank 0) (#56)", "Reland fix: keep the group (rank 0) (#56)",
     "Reland it better (#12) (#56)", 'Reapply "fix: keep the group (rank 0)"',
     "[Reland] fix: keep the group (rank 0) (#56)"],
)  # fmt: skip
def test_what_is_put_in_again(subject: str) -> None:
    reference = restored(subject)
    assert reference is not None
    assert reference.names(FIX)
    assert reverted(subject, "") is None
    assert restored(FIX.subject) is None


def test_no_pull_request_is_not_a_pull_request_in_common() -> None:
    assert not Reference().names(commit("something"))
    assert not Reference(subject="").names(commit(""))


def turns(*entries: LogEntry, ids: tuple[str, ...] = (), pulls: tuple[int, ...] = ()) -> list[int]:
    return takes_and_reverts(entries, ids, pulls)


TAKE = entry(FIX.subject, 12, SHA)
REVERT = entry('Revert "fix: keep the group (rank 0) (#12)" (#34)', 34)
NOISE = entry("docs (#13)", 13)


def test_taken_reverted_and_taken_again() -> None:
    again = entry('Revert "Revert "fix: keep the group (rank 0) (#12)" (#34)" (#56)', 56)
    reland = entry("Re-land #12 (#56)", 56)
    for last in (again, reland):
        log = (NOISE, TAKE, NOISE, REVERT, NOISE, last, NOISE)
        assert turns(*log, pulls=(12,)) == [1, 3, 5]
        assert turns(*log, ids=(SHA[:7],)) == [1, 3, 5]
        assert turns(*log, ids=(SHA,), pulls=(12,)) == [1, 3, 5]
    assert turns(NOISE, again, reland, REVERT, pulls=(12,)) == []
    assert turns(TAKE, REVERT, again, REVERT, pulls=(12,)) == [0, 1, 2, 3]
    third = entry(
        'Revert "Revert "Revert "fix: keep the group (rank 0) (#12)" (#34)" (#56)" (#78)', 78
    )
    assert turns(TAKE, REVERT, again, third, pulls=(12,)) == [0, 1, 2, 3]
    of_reland = entry('Revert "Re-land #12 (#56)" (#78)', 78)
    assert turns(TAKE, REVERT, reland, of_reland, pulls=(12,)) == [0, 1, 2, 3]


def test_a_revert_before_the_take_is_of_another_one() -> None:
    assert turns(REVERT, TAKE, pulls=(12,)) == [1]
    assert turns(TAKE, REVERT, REVERT, pulls=(12,)) == [0, 1]


def test_a_fix_that_is_a_revert() -> None:
    """A trailer may name a revert, since taking a change back can be what mends the bug."""
    fix = entry('Revert "break it" (#50)', 50, SHA)
    for named in ({"ids": (SHA,)}, {"pulls": (50,)}, {"ids": (SHA,), "pulls": (50,)}):
        assert turns(entry("break it (#40)", 40), fix, NOISE, **named) == [1]
        back = entry('Revert "Revert "break it"" (#60)', 60)
        assert turns(fix, back, NOISE, **named) == [0, 1]
    assert turns(fix, pulls=(40,)) == []


def test_a_revert_pushed_by_hand() -> None:
    assert turns(TAKE, entry("Revert keep the group (#12)", 12), pulls=(12,)) == [0, 1]


def test_a_number_of_a_side_branch_is_that_of_another_repository() -> None:
    aside = LogEntry(FIX, None, None, first_parent=False)
    assert turns(aside, pulls=(12,)) == []
    assert turns(aside, ids=(SHA,)) == [0]
    back = LogEntry(commit("Revert something (#12)", 12), Reference(), None, first_parent=False)
    assert turns(TAKE, back, pulls=(12,)) == [0]


def test_a_later_revert_that_ends_with_the_number_is_no_take() -> None:
    by_hand = entry("Revert what was left of it (#12)", 12)
    assert turns(TAKE, REVERT, by_hand, pulls=(12,)) == [0, 1]
