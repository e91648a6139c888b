"""A mailbox with a whole thread: which mails are the patches, in which order, with which trailers."""

from __future__ import annotations

import subprocess

import pytest

from fixtool.git.objects import MACHINE
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming
from fixtool.incoming.file import read_input

ENVELOPE = "From git@z Thu Jan  1 00:00:00 1970\n"
ANN = "Ann Reviewer <ann@example.com>"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    return Repo.open(folder, bare=True)


def letter(
    subject: str, name: str, answers: str = "", *, body: str = "Why.", diff: bool = True,
    sender: str = "Zoe <zoe@example.com>",
) -> str:  # fmt: skip
    head = f"From: {sender}\nDate: Tue, 3 Feb 2026 04:05:06 +0900\nSubject: {subject}\n"
    head += f"Message-Id: <{name}@x>\n" + (f"In-Reply-To: <{answers}@x>\n" if answers else "")
    patch = f"---\n\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-one\n+two\n" if diff else ""
    return f"{ENVELOPE}{head}\n{body}\n{patch}\n"


def read(repo: Repo, *letters: str, trailers: bool = False) -> list[Incoming]:
    return read_input(repo, "x.mbox", "".join(letters).encode(), MACHINE, None, trailers=trailers)


def subjects(changes: list[Incoming]) -> list[str]:
    return [change.subject for change in changes]


def notes(changes: list[Incoming]) -> str:
    return "\n".join(note for change in changes for note in change.notes)


COVER = letter("[PATCH 0/3] all", "c", body="Three.", diff=False)
ONE, TWO, THREE = (letter(f"[PATCH {n}/3] area: {n}", f"p{n}", "c") for n in (1, 2, 3))


def test_a_series_is_ordered_by_its_numbers(repo: Repo) -> None:
    assert notes(read(repo, ONE, TWO, THREE)) == ""
    changes = read(repo, COVER, THREE, ONE, TWO)
    assert subjects(changes) == ["area: 1", "area: 2", "area: 3"]
    assert notes(changes).split("\n") == [
        "the mails were put into the order of their numbers",
        "x.mbox:1 ([PATCH 0/3] all) has no diff and is no patch",
    ]


def test_a_missing_number_is_told(repo: Repo) -> None:
    changes = read(repo, ONE, THREE)
    assert subjects(changes) == ["area: 1", "area: 3"]
    assert changes[1].notes == ("patch 2/3 of the series is not in the mailbox",)


def test_unrelated_mails_keep_their_order(repo: Repo) -> None:
    """`cat *.patch` of two series, or of patches that were sent alone."""
    other = letter("[PATCH v2 1/2] other: 1", "o1")
    alone = letter("[PATCH] alone", "a")
    for mails in ((THREE, other, ONE), (alone, letter("[PATCH] b", "b")), (THREE, alone)):
        changes = read(repo, *mails)
        assert len(changes) == len(mails)
        assert "order" not in notes(changes)


def test_the_newest_version_counts(repo: Repo) -> None:
    newer = [letter(f"[PATCH v2 {n}/2] area: {n}", f"q{n}", body="Better.") for n in (2, 1)]
    changes = read(repo, COVER, ONE, TWO, THREE, *newer)
    assert subjects(changes) == ["area: 1", "area: 2"]
    assert {change.body for change in changes} == {"Better."}
    assert notes(changes).count("is of an older version") == 3


def test_a_patch_that_was_not_sent_again_is_the_old_one(repo: Repo) -> None:
    again = letter("[PATCH v2 2/3] area: two", "q2", "p2", body="Better.")
    html = f"Acked-by: {ANN[:-1]}<mailto:ann@example.com>>"
    whole = letter("Re: [PATCH 0/3] all", "r", "c", diff=False, sender=ANN, body=html)
    changes = read(repo, COVER, ONE, TWO, THREE, again, whole, trailers=True)
    assert {change.body.split("\n")[-1] for change in changes} == {f"Acked-by: {ANN}"}
    changes = read(repo, COVER, ONE, TWO, THREE, again)
    assert subjects(changes) == ["area: 1", "area: two", "area: 3"]
    assert changes[2].notes == ("v2 lacks it, so that of v1",)


def test_an_answer_with_a_diff_is_no_patch(repo: Repo) -> None:
    answer = letter("Re: [PATCH 2/3] area: 2", "r", "p2", body="How about this?")
    changes = read(repo, ONE, TWO, THREE, answer, ONE)
    assert subjects(changes) == ["area: 1", "area: 2", "area: 3"]
    assert "is an answer with a diff, and was left out" in notes(changes)
    assert "is there twice" in notes(changes)
    assert subjects(read(repo, letter("Re: [PATCH] alone", "a", "unknown"))) == ["alone"]


def test_trailers_of_answers_are_offered(repo: Repo) -> None:
    review = letter("Re: [PATCH 1/3] area: 1", "r1", "p1", diff=False, sender=ANN,
                    body=f"> Why.\n\nReviewed-by: {ANN}\nTested-by: Bob <bob@example.com>")  # fmt: skip
    deep = letter(
        "Re: [PATCH 1/3] area: 1",
        "r2",
        "r1",
        diff=False,
        body="Signed-off-by: Zoe <zoe@example.com>",
    )
    whole = letter(
        "Re: [PATCH 0/3] all", "r3", "c", diff=False, sender=ANN, body=f"Acked-by: {ANN}"
    )
    mails = (COVER, ONE, TWO, THREE, review, deep, whole)
    changes = read(repo, *mails)
    assert {change.body for change in changes} == {"Why."}
    assert f"answers give it Acked-by: {ANN}: take --trailers" in changes[1].notes
    assert (
        "an answer says Tested-by: Bob <bob@example.com>, which is not its sender's"
        in changes[0].notes
    )
    changes = read(repo, *mails, trailers=True)
    assert changes[0].body == (
        f"Why.\n\nReviewed-by: {ANN}\nSigned-off-by: Zoe <zoe@example.com>\nAcked-by: {ANN}"
    )
    assert changes[2].body == f"Why.\n\nAcked-by: {ANN}"
