"""A line with a series of four patches, for the verbs that edit a series."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool.apply.run import ApplyRequest, apply
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.strict import commits_on
from fixtool.settings import Settings
from support.json_documents import document
from support.repositories import NUMBERS, TRAILERS, Git, Ran, Team, format_patch

FIVE = NUMBERS.replace("line 5\n", "line five\n")
FIVE_AND_TWENTY = FIVE.replace("line 20\n", "line twenty\n")
AGAIN = FIVE_AND_TWENTY.replace("line five\n", "line FIVE\n")
SERIES = "# the series\nfive.patch # see 7\ntwenty.patch\n# last\nother.patch\nagain.patch\n"


def make_series(team: Team) -> None:
    """``five`` and ``again`` change the same line, ``twenty`` another line of the same file, and
    ``other`` another file. ``again`` depends on ``five``."""
    git = team.upstream
    parent = "v1.0"
    for slug, body, files in (
        ("five", "Why five.", {"python__model_py": FIVE}),
        ("twenty", "Why twenty.", {"python__model_py": FIVE_AND_TWENTY}),
        ("other", "Why other.", {"python__other_py": "alpha\nBETA\ngamma\n"}),
        ("again", "Why again.", {"python__model_py": AGAIN}),
    ):
        git("checkout", "--quiet", "--detach", parent)
        needs = "Depends-On: five\n" if slug == "again" else ""
        parent = git.commit(f"change {slug}\n\n{body}\n\n{needs}{TRAILERS}", **files)
        team.add(slug, format_patch(git))
    (team.root / "patches" / "main" / "series").write_text(SERIES)
    team.track()


@dataclass
class Editing:
    """Somebody who edits the line ``main`` of ``team``."""

    fixtool: Callable[..., Ran]
    team: Team

    @property
    def git(self) -> Git:
        return Git(self.team.root)

    @property
    def folder(self) -> Path:
        return self.team.root / "patches" / "main"

    @property
    def line(self) -> Line:
        return self.team.repository.line("main")

    @property
    def slugs(self) -> list[str]:
        return self.team.slugs

    def run(self, *words: str | Path, **env: str) -> Ran:
        source = () if "--continue" in words or "--abort" in words else self.source
        return self.fixtool(*words, *source, cwd=self.team.root, **env)

    @property
    def source(self) -> tuple[str | Path, ...]:
        return "--source", self.team.upstream.path

    def edit(self, *words: str | Path, **env: str) -> dict[str, Any]:
        """What a verb that succeeds says it did."""
        ran = self.run(*words, "--json", **env)
        assert ran.status == 0, ran.out + ran.err
        found = document(ran)["edited"]
        assert isinstance(found, dict)
        return found

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def tree(self) -> Oid:
        """The tree that the series makes."""
        line = self.line
        with passing_objects(self.team.upstream.repo) as objects:
            commits, complaint = commits_on(objects, line.patches, line.upstream.base)
            assert complaint == ""
            return objects.tree_of([line.upstream.base, *commits][-1])

    def content(self, path: str) -> str:
        """A file of the tree that the series makes."""
        with ObjectDatabase(self.team.upstream.repo) as objects:
            commits, _ = commits_on(objects, self.line.patches, self.line.upstream.base)
            objects.flush()
            entry = objects.entry(objects.tree_of(commits[-1]), path)
            return objects.blob(entry.blob).decode() if entry else ""

    def require_well_formed(self) -> None:
        """The series is committed, and lint finds no error and no drift."""
        assert self.git("status", "--porcelain") == ""
        ran = self.run("lint", "--drift")
        assert (ran.status, "error" in ran.out) == (0, False), ran.out


def make_worktree(team: Team, settings: Settings, place: Path | None = None) -> Git:
    """A work tree of the line ``main`` on its base."""
    request = ApplyRequest("v1.0", str(team.upstream.path), worktree=place)
    applied = apply(Context(team.repository, settings), request)
    assert applied.placed is not None
    return Git(applied.placed.path)


def is_well_formed(fixtool: Callable[..., Ran], team: Team) -> bool:
    """Whether the series is committed, and lint finds no error and no drift."""
    ran = fixtool("lint", "--drift", "--source", team.upstream.path, cwd=team.root)
    status = Git(team.root)("status", "--porcelain")
    print(ran.out, ran.err, status)
    return (ran.status, status) == (0, "")


def make_team(folder: Path, made_upstream: Path) -> Team:
    """A team with that series, in ``folder``."""
    upstream = shutil.copytree(made_upstream, folder / "upstream")
    team = Team(folder / "team", Git(upstream))
    team.line()
    make_series(team)
    return team


def copied(made: Team, folder: Path, fixtool: Callable[..., Ran]) -> Editing:
    """A copy of a team that was made once, with its upstream."""
    shutil.copytree(made.root.parent, folder / "copy")
    team = Team(folder / "copy" / made.root.name, Git(folder / "copy" / made.upstream.path.name))
    return Editing(fixtool, team)
