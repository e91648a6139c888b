"""Writes a rebased line: the whole new line or nothing, then one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fixtool.documents import LARGEST_TEXT
from fixtool.errors import Refused
from fixtool.files import read_plain
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.rebase._facts import Facts, Restored
from fixtool.rebase.result import Action, Rebased
from fixtool.replay.verdict import Verdict
from fixtool.series import patch, shelf
from fixtool.series.commit import Rewrite, rewrite_and_commit
from fixtool.series.facts import FactKind
from fixtool.series.line import Line, PatchRepository, Upstream
from fixtool.series.shelf import Shelved
from fixtool.series.trailers import without_facts
from fixtool.series.write import moved_toml, series_text, writing
from fixtool.sources.resolve import Target, day_of


def write_line(
    repository: PatchRepository,
    facts: Facts,
    rebased: Rebased,
    learned: Mapping[str, bytes],
    resolutions: Mapping[str, bytes],
    into: Repo | None,
) -> Oid | None:
    """Write the outcome of a rebase, and return the commit of it.

    ``learned`` are the patch files, by slug, with what the rebase learned in their trailers. A file
    that stays as it is is not written. ``resolutions`` are files to keep with the line, by name.
    ``into`` is the git repository of the patch repository; without one, nothing is committed. With
    a new line, the old one stays where it is, and its patches get the same trailers. Raises Refused
    if another run changed the line in the meantime.
    """
    line = facts.line
    files, removed = _files(facts, rebased, learned)
    files = {**resolutions, **files}
    old: list[Rewrite] = []
    if rebased.new_line and (changed := _changed(line, learned)):
        old.append(Rewrite(line.folder, changed))
    with writing(repository):
        current = repository.line(line.name)
        if [patch.digest for patch in current.patches] != [patch.digest for patch in line.patches]:
            raise Refused(
                f"line {line.name} was changed meanwhile",
                where=str(line.folder),
                hint="run the same command again",
            )
        folder = repository.folder / (rebased.new_line or line.name)
        text = message(rebased)
        if old:
            text += f"\n{line.name} records it too: {', '.join(sorted(old[0].files))}\n"
        return rewrite_and_commit(into, folder, files, removed, text, old)


def _changed(line: Line, learned: Mapping[str, bytes]) -> dict[str, bytes]:
    """The patch files of ``line``, by name, that differ from those that were ``learned``."""
    return {
        f"{before.slug}.patch": learned[before.slug]
        for before in line.patches
        if before.slug in learned and learned[before.slug] != before.raw
    }


def _still_true(raw: bytes, slug: str) -> bytes:
    """The file of a patch that upstream took and took back, without the fact that it took it."""
    kept = without_facts(patch.parse(raw, slug), FactKind.APPLIED)
    return raw if kept is None else kept


def _files(
    facts: Facts, rebased: Rebased, learned: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """The files of the new line by name, and the names of those to remove."""
    line, repo = facts.line, facts.repo
    files: dict[str, bytes] = {}
    slugs, removed = [], []
    shelved = {entry.slug: entry for entry in shelf.read(line.folder)}
    written = {outcome.result.commit: b"" for outcome in rebased.outcomes
               if outcome.result.commit and outcome.action is not Action.KEPT}  # fmt: skip
    written = dict(zip(written, patch.export_all(repo, list(written)), strict=True))
    for outcome in rebased.outcomes:
        result, slug = outcome.result, outcome.result.slug
        restored = facts.restored.get(slug)
        if outcome.action in (Action.DROPPED, Action.SHELVED):
            if restored:
                continue  # it stays on the shelf, as it was
            upstream = outcome.culprit.sha if outcome.culprit else None
            why, reason = "; ".join(result.evidence[:2]), shelf.Reason(result.verdict.value)
            shelved[slug] = Shelved(slug, why, line.upstream.base, reason, upstream)
            files[f"{shelf.FOLDER}/{slug}.patch"] = learned.get(slug) or facts.patch(slug).raw
            removed.append(f"{slug}.patch")
            continue
        slugs.append(slug)
        taken_back = result.verdict is Verdict.REVERTED or restored is Restored.TAKEN_BACK
        if outcome.action is not Action.KEPT:
            assert result.commit is not None
            file = written[result.commit]
        elif rebased.new_line or taken_back or slug in learned:
            file = learned.get(slug) or facts.patch(slug).raw
        else:
            continue
        if restored:
            del shelved[slug]
            removed.append(f"{shelf.FOLDER}/{slug}.patch")
        files[f"{slug}.patch"] = _still_true(file, slug) if taken_back else file
    files["series"] = series_text(line, slugs)
    toml = read_plain(line.folder, "upstream.toml", LARGEST_TEXT)
    where = str(line.folder / "upstream.toml")
    files["upstream.toml"] = moved_toml(toml, _upstream(line.upstream, facts.target, repo), where)
    if shelved or (line.folder / shelf.FILE).exists():
        files[shelf.FILE] = shelf.text(shelved.values())
    if rebased.new_line:  # its shelf begins with what is on that of the old line
        names = {slug: f"{shelf.FOLDER}/{slug}.patch" for slug in shelved}
        missing = {slug: name for slug, name in names.items() if name not in files}
        files |= {name: shelf.patch(line.folder, slug).raw for slug, name in missing.items()}
    return files, removed


def _upstream(before: Upstream, target: Target, repo: Repo) -> Upstream:
    return replace(
        before,
        base=target.commit,
        tree=target.tree,
        release=target.version if target.release else None,
        version=target.version or before.version,
        date=day_of(target, repo),
    )


def message(rebased: Rebased) -> str:
    """The message of the commit that records a rebase."""
    name = f" as {rebased.new_line}" if rebased.new_line else ""
    lines = [
        f"{rebased.line}: rebase onto {rebased.onto[:12]}{name}",
        "",
        f"{rebased.ref} from {rebased.source}; base was {rebased.base[:12]}.",
        "",
    ]
    width = max((len(outcome.result.slug) for outcome in rebased.outcomes), default=0)
    for outcome in rebased.outcomes:
        # Neither a subject nor #12 of upstream's: in the patch repository, a number means another
        # pull request, and GitHub would act on an @name or a `Closes`.
        by = f", upstream's {outcome.culprit.sha[:12]}" if outcome.culprit else ""
        if outcome.culprit and outcome.culprit.pr:
            by += f" (pull request {outcome.culprit.pr})"
        result = outcome.result
        why = f" ({result.evidence[0]})" if result.verdict is Verdict.SKIPPED else ""
        lines.append(f"{result.slug:{width}}  {result.verdict}{why}, {outcome.action}{by}")
    lines += ["", *rebased.warnings] if rebased.warnings else []
    return "\n".join(lines).rstrip() + "\n"
