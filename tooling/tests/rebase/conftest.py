"""Maintainers with and without a git repository for their patches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.rebase import Maintainer
from support.repositories import Ran, Team


@pytest.fixture
def without_git(fixtool: Callable[..., Ran], team: Team) -> Maintainer:
    """A maintainer whose patch repository is not in git."""
    return Maintainer(fixtool, team)


@pytest.fixture
def maintainer(without_git: Maintainer) -> Maintainer:
    """A maintainer whose patch repository is in git, as a team's is."""
    without_git.track()
    return without_git
