"""What became of a line, and writing it down: the new line whole, or nothing; then one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.history.log import UpstreamCommit
from fixtool.rebase.session import Session
from fixtool.replay.run import Replay
from fixtool.replay.verdict import PatchResult
from fixtool.series import commit as journal
from fixtool.series import patch, shelf
from fixtool.series.line import Line, PatchRepository, Upstream, moved_toml, series_text, writing
from fixtool.series.shelf import Shelved
from fixtool.sources.resolve import Target


class Action(StrEnum):
    """What became of a patch file."""

    KEPT = "kept"  # byte for byte
    REWRITTEN = "rewritten"
    DROPPED = "dropped"  # upstream has it: on the shelf
    SHELVED = "shelved"  # a person set it aside
    ASKED = "asked"  # a person is needed
    RESTORED = "restored"  # from the shelf: upstream took it back


@dataclass(frozen=True)
class Outcome:
    """One patch. ``probe`` is what its probe said of the target without it, where asked."""

    result: PatchResult
    action: Action
    culprit: UpstreamCommit | None = None
    probe: int | None = None


@dataclass(frozen=True)
class Rebased:
    """``moved`` is False where there was nothing to do; ``committed`` is the commit in the patch
    repository, None on a dry run, without a git repository, and while ``session`` waits."""

    line: str
    new_line: str | None
    base: str
    target: Target
    replay: Replay | None
    outcomes: tuple[Outcome, ...]
    moved: bool = False
    committed: str | None = None
    warnings: tuple[str, ...] = ()
    intent: str = ""  # what upstream said of the commit that a person has to deal with
    range_diff: str = ""
    session: Session | None = None

    @property
    def ok(self) -> bool:
        return not any(one.action is Action.ASKED for one in self.outcomes)


def settle(
    repository: PatchRepository,
    line: Line,
    repo: Repo,
    rebased: Rebased,
    raw: Mapping[str, bytes],
    learned: Mapping[str, bytes],
    into: Repo | None,
) -> str | None:
    """Write the line that ``rebased`` came to, and commit it ``into`` the patch repository's git.

    ``raw`` are the patch files as they lie, by slug, ``learned`` resolutions to keep. Raises
    Refused where another run changed the line meanwhile.
    """
    files, gone = _files(line, repo, rebased, raw)
    files = {**learned, **files}
    with writing(repository):
        now = repository.line(line.name)
        if [one.digest for one in now.patches] != [one.digest for one in line.patches]:
            raise Refused(
                f"line {line.name} was changed meanwhile",
                where=str(line.folder),
                hint="run the same command again",
            )
        folder = repository.folder / (rebased.new_line or line.name)
        return journal.change(into, folder, files, gone, message(rebased))


def _files(
    line: Line, repo: Repo, rebased: Rebased, raw: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """The files of the line as it will be, by name, and those that go."""
    files: dict[str, bytes] = {}
    slugs, gone = [], []
    shelved = {one.slug: one for one in shelf.read(line.folder)}
    for one in rebased.outcomes:
        slug = one.result.slug
        if one.action in (Action.DROPPED, Action.SHELVED):
            upstream = one.culprit.sha if one.culprit else None
            shelved[slug] = Shelved(
                slug, "; ".join(one.result.evidence[:2]), line.upstream.base,
                shelf.Reason(one.result.verdict.value), upstream,
            )  # fmt: skip
            files[f"{shelf.FOLDER}/{slug}.patch"] = raw[slug]
            gone.append(f"{slug}.patch")
            continue
        slugs.append(slug)
        kept = one.action is Action.KEPT
        files[f"{slug}.patch"] = raw[slug] if kept else exported(repo, one.result)
        if one.action is Action.RESTORED:
            del shelved[slug]
            gone.append(f"{shelf.FOLDER}/{slug}.patch")
    files["series"] = series_text(line, slugs)
    about = (line.folder / "upstream.toml").read_text("utf-8")
    moved = _upstream(line.upstream, repo, rebased.target)
    files["upstream.toml"] = moved_toml(about, moved).encode()
    if shelved or (line.folder / shelf.FILE).exists():
        files[shelf.FILE] = shelf.text(shelved.values())
    return files, gone


def exported(repo: Repo, one: PatchResult) -> bytes:
    assert one.commit is not None
    return patch.export(repo, one.commit)


def _upstream(before: Upstream, repo: Repo, target: Target) -> Upstream:
    return replace(
        before,
        base=target.commit,
        tree=target.tree,
        release=target.version if target.release else None,
        version=target.version or before.version,
        date=repo.read_commit(target.commit).committer.day.isoformat(),
    )


def message(rebased: Rebased) -> str:
    """The message of the commit that records a rebase."""
    how = f" as {rebased.new_line}" if rebased.new_line else ""
    lines = [f"{rebased.line}: rebase onto {rebased.target.commit[:12]}{how}", ""]
    lines.append(
        f"{rebased.target.ref} from {rebased.target.source}; base was {rebased.base[:12]}."
    )
    lines.append("")
    wide = max((len(one.result.slug) for one in rebased.outcomes), default=0)
    for one in rebased.outcomes:
        # No subject, and no #12: in another repository than upstream's they mean other things, and
        # an @name or a `Closes` would be acted on.
        by = f", upstream's {one.culprit.sha[:12]}" if one.culprit else ""
        by += f" (pull request {one.culprit.pr})" if one.culprit and one.culprit.pr else ""
        lines.append(f"{one.result.slug:{wide}}  {one.result.verdict}, {one.action}{by}")
    lines += ["", *rebased.warnings] if rebased.warnings else []
    return "\n".join(lines).rstrip() + "\n"
