"""What a dry run of `apply` that was done before needs."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from fixtool.git import repo
from support.json_documents import document
from support.rebase import FIVE, OTHER
from support.repositories import Ran, Team


def test_a_dry_run_that_is_known_asks_git_four_times(
    team: Team, fixtool: Callable[..., Ran]
) -> None:
    """It asks for the repository, the commit with its tree, the commits of the patches, and what
    the tree holds, since the address of this upstream is not SGLang's. Each question takes two to
    four milliseconds of the fifth of a second that such a run takes."""
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    base = team.upstream("rev-parse", "v1.0^{commit}")
    words = ("apply", "-C", team.root, "--source", team.upstream.path, "--sglang-ref", base,
             "--dry-run", "--json")  # fmt: skip
    first = document(fixtool(*words))
    started = mock.Mock(wraps=repo.start)
    with mock.patch.object(repo, "start", started):
        again = document(fixtool(*words))
    verbs = [repo._verb(call.args[0]) for call in started.call_args_list]
    assert [verb for verb in verbs if verb != "version"] == [
        "rev-parse",
        "rev-list",
        "cat-file",
        "ls-tree",
    ]
    assert (again["commit"], again["tree"]) == (first["commit"], first["tree"])
    assert again["reused"] == 2
