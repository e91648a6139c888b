"""Takes a patch out of a line by hand: its file goes to the shelf, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.replay.dependencies import dependencies
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from fixtool.series import shelf
from fixtool.series.commit import open_for_commit, rewrite_and_commit
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import export
from fixtool.series.shelf import Shelved
from fixtool.series.write import series_text, writing


@dataclass(frozen=True)
class Dropped:
    """``file`` is where the patch is now; ``rewritten`` are the patches whose line numbers moved;
    ``committed`` is the commit in the patch repository, if it has git."""

    line: str
    slug: str
    file: Path
    rewritten: tuple[str, ...]
    committed: Oid | None


def drop(
    repository: PatchRepository, line: Line, repo: Repo, base: Oid, slug: str, reason: str
) -> Dropped:
    """Move ``slug`` to the shelf. ``repo`` holds the line's ``base``. If the newest commit is that
    of the same drop, which a killed run began, it is the result. Raises Refused if a later patch
    needs it, or if the line has uncommitted changes."""
    git = open_for_commit(repository.root, line.folder)
    repository.read_anew()
    line = repository.line(line.name)
    commit = git.head() if git and _is_dropped(line, slug) else None
    if git and commit and git.read_commit(commit).message == _message(line, slug, reason):
        return Dropped(line.name, slug, _shelved_file(line, slug), (), commit)
    slug = line.find(slug).slug
    needs = next(needs for needs in dependencies(repo, line, base) if needs.slug == slug)
    if needs.breaks:
        raise Refused(
            f"{', '.join(needs.breaks)} would not apply without {slug}",
            where=str(line.folder / f"{slug}.patch"),
            hint=f"drop first: fixtool drop {needs.breaks[-1]}",
        )
    with writing(repository):
        line = repository.line(line.name)
        raw = line.find(slug).raw
        rest = replace(line, entries=tuple(entry for entry in line.entries if entry.slug != slug))
        files: dict[str, bytes] = {}
        for patch in replay(repo, rest, base).patches:
            if patch.verdict is not Verdict.CLEAN and patch.commit:
                files[f"{patch.slug}.patch"] = export(repo, patch.commit)
        rewritten = tuple(name.removesuffix(".patch") for name in files)
        files["series"] = series_text(line, [entry.slug for entry in rest.entries])
        files[f"{shelf.FOLDER}/{slug}.patch"] = raw
        files[shelf.FILE] = shelf.text((*shelf.read(line.folder), Shelved(slug, reason, base)))
        message = _message(line, slug, reason)
        commit = rewrite_and_commit(git, line.folder, files, {f"{slug}.patch"}, message)
    return Dropped(line.name, slug, _shelved_file(line, slug), rewritten, commit)


def _is_dropped(line: Line, slug: str) -> bool:
    shelved = {entry.slug for entry in shelf.read(line.folder)}
    return slug in shelved and slug not in {entry.slug for entry in line.entries}


def _message(line: Line, slug: str, reason: str) -> str:
    return f"{line.name}: drop {slug}\n\n{reason}\n"


def _shelved_file(line: Line, slug: str) -> Path:
    return line.folder / shelf.FOLDER / f"{slug}.patch"
