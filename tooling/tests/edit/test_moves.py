"""Between which patches changes were moved."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fixtool.edit.moves import moves_of
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from support.repositories import Git, Team

FIRST = {"f.txt": "one\nFIRST\n"}
BOTH = {"f.txt": "one\nSECOND\n"}
SHORT = {"f.txt": "one\n"}


def stack(git: Git, patches: Mapping[str, Mapping[str, str]]) -> dict[str, Oid]:
    """The commits of ``patches``, each of which has the files of a tree."""
    git("checkout", "--quiet", "--detach", "v1.0")
    git.commit("below", f_txt="one\ntwo\n")
    found = {}
    for slug, files in patches.items():
        for name, text in files.items():
            git.write(name, text)
        found[slug] = Oid(git.commit(slug))
    return found


@pytest.mark.parametrize(("after", "pairs"), [
    # the whole second patch is in the first one
    ({"a": BOTH, "c": SHORT}, {("b", "a")}),
    # the second one is dropped: the third one takes away the line as it was before
    ({"a": FIRST, "c": SHORT}, set()),
    # a patch of a new name holds the change of the second one
    ({"a": FIRST, "new": {**BOTH, "g.txt": "more\n"}, "c": SHORT}, {("b", "new")}),
    ({"a": FIRST, "b": BOTH, "c": SHORT}, set()),
])  # fmt: skip
def test_a_change_is_moved_if_its_lines_are(
    team: Team, after: Mapping[str, Mapping[str, str]], pairs: set[tuple[str, str]]
) -> None:
    before = stack(team.upstream, {"a": FIRST, "b": BOTH, "c": SHORT})
    commits = stack(team.upstream, after)
    with ObjectDatabase(team.upstream.repo) as objects:
        moves = moves_of(objects, before, commits)
    assert moves.pairs == pairs
    assert moves.joined({"b"}) == {"b", *(holder for _, holder in pairs)}
