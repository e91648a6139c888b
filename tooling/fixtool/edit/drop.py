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
    """Move ``slug`` to the shelf. ``repo`` holds the line's ``base``. Raises Refused if a later
    patch needs it, or if the line has uncommitted changes."""
    slug = line.find(slug).slug
    git = open_for_commit(repository.root, line.folder)
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
        message = f"{line.name}: drop {slug}\n\n{reason}\n"
        commit = rewrite_and_commit(git, line.folder, files, {f"{slug}.patch"}, message)
    file = line.folder / shelf.FOLDER / f"{slug}.patch"
    return Dropped(line.name, slug, file, rewritten, commit)
