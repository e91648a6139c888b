"""The words of a pull request: upstream's template, filled with what is so and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fixtool.git.trees import list_tree
from fixtool.markdown import code, prose
from fixtool.replay.run import on_own_base, replay
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding
from fixtool.upstream import _figures as figures
from fixtool.upstream import _template as template
from fixtool.upstream._checks import CheckResults, fork_names, formatted
from fixtool.upstream._checks import text as look_at
from fixtool.upstream._commits import ChangedFile, ProposedBranch, ProposedCommit, prose_of
from fixtool.upstream._figures import Figures, ProposedContent
from fixtool.upstream._template import Checkbox
from fixtool.verify.flip import Need
from fixtool.verify.suite import SERIES, read_suite

_NAMED = 6  # functions and classes of one file
_ROOM = {"motivation": 24_000, "modifications": 12_000, "accuracy": 10_000, "speed": 10_000}
"""Characters: with upstream's template, less than GitHub takes (``markdown.LIMIT``)."""
_CHANGES = {"A": "new", "D": "deleted", "M": "", "T": "another type"}


@dataclass(frozen=True)
class PullRequestText:
    """``template`` is the path of upstream's own, None where it has none."""

    title: str
    body: str
    ticks: tuple[Checkbox, ...]
    template: str | None
    figures: Figures
    findings: tuple[Finding, ...] = ()


def describe(
    repository: PatchRepository,
    proposal: ProposedBranch,
    preflight: CheckResults,
    need: Need | None,
) -> PullRequestText:
    """Title and body. Without a ``need`` nobody asked whether the bug is there."""
    found = figures.gather(repository, _subject(repository, proposal))
    text, path = template.read(proposal.repo, proposal.target.commit)
    accuracy = [one.text for one in found.of("accuracy")]
    if need and need.shown:
        accuracy.insert(0, f"Probe on {proposal.target.commit[:12]} ({need.device}): {need.said}.")
    accuracy += [
        f"{code(one.path)}: {one.outcome}, {code(one.said)}."
        for one in preflight.tests
        if one.outcome in ("passed", "failed")
    ]
    speed = [one.text for one in found.of("speed")]
    sections = {
        "motivation": _motivation(proposal),
        "modifications": _within(_modifications(proposal), "modifications"),
        "accuracy": _within("\n\n".join(accuracy), "accuracy"),
        "speed": _within("\n\n".join(speed), "speed"),
    }
    body, ticks = template.fill(text, sections, _answers(proposal, preflight, found))
    own = {line.strip() for line in text.split("\n")}  # upstream's words are upstream's
    fork = fork_names(repository)
    bad = tuple(
        finding
        for number, line in enumerate([proposal.title, *body.split("\n")])
        if line.strip() not in own
        for finding in look_at(line, f"the pull request, line {number}", fork)
    )
    return PullRequestText(proposal.title, body, ticks, path, found, bad)


def _subject(repository: PatchRepository, proposal: ProposedBranch) -> ProposedContent:
    """The ids by which a result says that it is of these changes: on the line's own base too."""
    repo, base = proposal.repo, proposal.line.upstream.base
    blobs: set[str] = set()
    trees = {repo.run("rev-parse", f"{proposal.tip}:python", accept=None).text}
    commits = [proposal.tip]
    for patch in proposal.patches:
        commits.append(on_own_base(repo, proposal.line, patch.slug, base)[0])
    for commit in commits:
        entries = list_tree(repo, commit, *proposal.files)
        blobs |= {one[1] for one in entries.values()}
    whole = replay(repo, repository.line(proposal.line.name), base)
    if whole.ok:
        trees.add(repo.run("rev-parse", f"{whole.commit}:python", accept=None).text)
    slugs = {one.slug for one in proposal.patches}
    suite = (repository.root / "verify").is_dir() and read_suite(repository)
    others = {
        f"check {one.name}"
        for one in (suite.checks if suite else ())
        if one.tree != SERIES or (one.patches and not slugs & set(one.patches))
    }
    return ProposedContent(proposal.patches, frozenset(blobs), frozenset(trees), frozenset(others))


def _motivation(proposal: ProposedBranch) -> str:
    texts = []
    room = _ROOM["motivation"] // len(proposal.parts)
    for part, patch in zip(proposal.parts, proposal.patches, strict=True):
        head = f"### {prose(part.title)}\n\n" if len(proposal.parts) > 1 else ""
        texts.append(head + _words(prose_of(patch), room))
    related = [
        value
        for patch in proposal.patches
        for key, value in patch.trailers
        if key.lower() == "bug" and re.fullmatch(r"https://[\w./%#?=&~+:,-]+", value)
    ]
    if related:
        texts.append("Related: " + ", ".join(dict.fromkeys(related)))
    return "\n\n".join(texts)


def _modifications(proposal: ProposedBranch) -> str:
    lines = []
    for part in proposal.parts:
        if len(proposal.parts) > 1:
            lines.append(f"- {prose(part.title)}")
        indent = "  " if len(proposal.parts) > 1 else ""
        lines += [f"{indent}- {_file(one)}" for one in part.files]
    return "\n".join([*lines, *_credits(proposal.parts, proposal)])


def _words(text: str, room: int) -> str:
    """A message as Markdown, cut before it is made so: a cut in Markdown could free a mention."""
    text = text if len(text) <= room else f"{text[:room]}…"
    while len(shown := prose(text)) > room:
        text = f"{text[: len(text) * room // len(shown) * 9 // 10]}…"
    return shown


def _within(text: str, section: str) -> str:
    """The whole lines that fit, and how many do not."""
    lines = text.split("\n")
    while sum(map(len, lines)) + len(lines) > _ROOM[section]:
        lines = lines[: len(lines) * 9 // 10]
    left = text.count("\n") + 1 - len(lines)
    return "\n".join([*lines, "", f"… and {left} more lines"] if left else lines)


def _file(one: ChangedFile) -> str:
    size = "binary" if one.added is None else f"+{one.added} -{one.removed}"
    words = [word for word in (_CHANGES.get(one.status, one.status), size) if word]
    named = one.places[:_NAMED] if one.status != "A" else ()
    places = f", in {', '.join(code(place) for place in named)}" if named else ""
    places += f" and {len(one.places) - _NAMED} more" if named != one.places and named else ""
    return f"{code(one.path)} ({', '.join(words)}){places}"


def _credits(parts: tuple[ProposedCommit, ...], proposal: ProposedBranch) -> list[str]:
    """Who wrote it together with the author, as the commits' trailers say."""
    said = [
        f"{key}: {value}"
        for patch in proposal.patches
        for key, value in patch.trailers
        if key.lower() == "co-authored-by"
    ]
    assert parts
    return ["", *(prose(one) for one in dict.fromkeys(said))] if said else []


def _answers(
    proposal: ProposedBranch, preflight: CheckResults, found: Figures
) -> dict[str, tuple[bool, str]]:
    """What the checklist asks, and what was really run."""
    ran = [one for one in preflight.hooks if one.outcome == "passed"]
    failed = [one.id for one in preflight.hooks if one.outcome == "failed"]
    clean = formatted(preflight.hooks) and not failed
    hooks = f"{len(ran)} of upstream's hooks passed on the changed files"
    if failed:
        hooks = f"these hooks failed: {', '.join(failed)}"
    elif not clean:
        hooks = "upstream's formatters were not run here"
    tests = [one for one in preflight.tests if one.outcome == "passed"]
    words = "; ".join(f"{one.path}: {one.outcome}, {one.said}" for one in preflight.tests)
    tested = bool(tests) and len(tests) == len(preflight.tests)
    kinds = [kind for kind in ("accuracy", "speed") if found.of(kind)]
    missing = [kind for kind in ("accuracy", "speed") if not found.of(kind)]
    sources = dict.fromkeys(source for one in found.tables for source in one.sources)
    results = f"tables of {', '.join(sources)}"
    if missing:
        results = f"no current result for {' and '.join(missing)}"
        results += f" ({', '.join(found.stale)}: of another version)" if found.stale else ""
    docs = [path for path in proposal.files if path.startswith(("docs", "doc/"))]
    return {
        "format": (clean, hooks),
        "style": (clean, hooks),
        "tests": (tested, words or "the proposal holds no test"),
        "documentation": (bool(docs), ", ".join(docs) or "no documentation is changed"),
        "results": (len(kinds) == 2, results),
    }
