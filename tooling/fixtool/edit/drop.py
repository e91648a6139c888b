"""Take a patch out of a line by hand: its file goes to the shelf, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.errors import Refused
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.replay.dependencies import dependencies
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from fixtool.series import commit as journal
from fixtool.series import patch, shelf
from fixtool.series.line import Line, PatchRepository, series_text, writing
from fixtool.series.shelf import Shelved


@dataclass(frozen=True)
class Dropped:
    """``file`` is where the patch lies now; ``rewritten`` are patches whose line numbers moved."""

    line: str
    slug: str
    file: Path
    rewritten: tuple[str, ...]
    committed: str | None


def drop(
    repository: PatchRepository, line: Line, repo: Repo, base: Oid, slug: str, reason: str
) -> Dropped:
    """Set ``slug`` aside. ``repo`` holds the line's ``base``. Raises Refused where a later patch
    needs it, and where the line holds what is not committed."""
    slug = line.find(slug).slug
    into = journal.open_journal(repository.root)
    if into:
        journal.require_saved(into, line.folder)
        journal.identity(into)
    needs = next(one for one in dependencies(repo, line, base) if one.slug == slug)
    if needs.breaks:
        raise Refused(
            f"{', '.join(needs.breaks)} would not apply without {slug}",
            where=str(line.folder / f"{slug}.patch"),
            hint=f"drop first: fixtool drop {needs.breaks[-1]}",
        )
    with writing(repository):
        line = repository.line(line.name)
        raw = line.find(slug).raw
        rest = replace(line, entries=tuple(one for one in line.entries if one.slug != slug))
        files: dict[str, bytes] = {}
        for one in replay(repo, rest, base).patches:
            if one.verdict is not Verdict.CLEAN and one.commit:
                files[f"{one.slug}.patch"] = patch.export(repo, one.commit)
        rewritten = tuple(name.removesuffix(".patch") for name in files)
        files["series"] = series_text(line, [one.slug for one in rest.entries])
        files[f"{shelf.FOLDER}/{slug}.patch"] = raw
        files[shelf.FILE] = shelf.text((*shelf.read(line.folder), Shelved(slug, reason, base)))
        said = f"{line.name}: drop {slug}\n\n{reason}\n"
        committed = journal.change(into, line.folder, files, {f"{slug}.patch"}, said)
    file = line.folder / shelf.FOLDER / f"{slug}.patch"
    return Dropped(line.name, slug, file, rewritten, committed)
