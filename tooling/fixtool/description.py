"""The words of a pull request: upstream's template, filled with what is so and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from fixtool import figures, template
from fixtool.figures import Figures, Subject
from fixtool.lint import Finding
from fixtool.markdown import LIMIT, code, prose
from fixtool.need import Need
from fixtool.preflight import Preflight, fork_names, formatted
from fixtool.preflight import text as look_at
from fixtool.proposal import ChangedFile, Part, Proposal, prose_of
from fixtool.replay import on_own_base, replay
from fixtool.series import PatchRepository
from fixtool.template import Tick

_NAMED = 6  # functions and classes of one file
_CHANGES = {"A": "new", "D": "deleted", "M": "", "T": "another type"}


@dataclass(frozen=True)
class Description:
    """``template`` is the path of upstream's own, None where it has none."""

    title: str
    body: str
    ticks: tuple[Tick, ...]
    template: str | None
    figures: Figures
    findings: tuple[Finding, ...] = ()


def describe(
    repository: PatchRepository, proposal: Proposal, preflight: Preflight, need: Need | None
) -> Description:
    """Title and body. Without a ``need`` nobody asked whether the bug is there."""
    found = figures.gather(repository, _subject(repository, proposal))
    text, path = template.read(proposal.repo, proposal.target.commit)
    accuracy = [one.text for one in found.of("accuracy")]
    if need and need.shown:
        accuracy.insert(0, f"Probe on {proposal.target.commit[:12]} ({need.device}): {need.said}.")
    accuracy += [
        f"{code(one.path)}: {one.outcome}, {one.said}."
        for one in preflight.tests
        if one.outcome in ("passed", "failed")
    ]
    speed = [one.text for one in found.of("speed")]
    sections = {
        "motivation": _motivation(proposal),
        "modifications": _modifications(proposal),
        "accuracy": "\n\n".join(accuracy) or "Not measured on this version.",
        "speed": "\n\n".join(speed) or "Not measured on this version.",
    }
    body, ticks = template.fill(text, sections, _answers(proposal, preflight, found))
    body = body if len(body) <= LIMIT - 2_000 else body[: LIMIT - 2_000] + "\n\n*Cut here.*\n"
    own = {line.strip() for line in text.split("\n")}  # upstream's words are upstream's
    fork = fork_names(repository)
    bad = tuple(
        finding
        for number, line in enumerate([proposal.title, *body.split("\n")])
        if line.strip() not in own
        for finding in look_at(line, f"the pull request, line {number}", fork)
    )
    return Description(proposal.title, body, ticks, path, found, bad)


def _subject(repository: PatchRepository, proposal: Proposal) -> Subject:
    """The ids by which a result says that it is of these changes: on the line's own base too."""
    repo, base = proposal.repo, proposal.line.upstream.base
    blobs: set[str] = set()
    trees = {repo.run("rev-parse", f"{proposal.tip}:python", accept=None).text}
    commits = [proposal.tip]
    for patch in proposal.patches:
        commits.append(on_own_base(repo, proposal.line, patch.slug, base)[0])
    for commit in commits:
        entries = repo.entries(commit, *(f":(literal){one}" for one in proposal.files))
        blobs |= {one[1] for one in entries.values()}
    whole = replay(repo, repository.line(proposal.line.name), base)
    if whole.ok:
        trees.add(repo.run("rev-parse", f"{whole.commit}:python", accept=None).text)
    return Subject(proposal.patches, frozenset(blobs), frozenset(trees))


def _motivation(proposal: Proposal) -> str:
    texts = []
    for part, patch in zip(proposal.parts, proposal.patches, strict=True):
        head = f"### {prose(part.title)}\n\n" if len(proposal.parts) > 1 else ""
        texts.append(head + prose(prose_of(patch)))
    related = [
        value
        for patch in proposal.patches
        for key, value in patch.trailers
        if key.lower() == "bug" and value.startswith("https://")
    ]
    if related:
        texts.append("Related: " + ", ".join(dict.fromkeys(related)))
    return "\n\n".join(texts)


def _modifications(proposal: Proposal) -> str:
    lines = []
    for part in proposal.parts:
        if len(proposal.parts) > 1:
            lines.append(f"- {prose(part.title)}")
        indent = "  " if len(proposal.parts) > 1 else ""
        lines += [f"{indent}- {_file(one)}" for one in part.files]
    return "\n".join([*lines, *_credits(proposal.parts, proposal)])


def _file(one: ChangedFile) -> str:
    size = "binary" if one.added is None else f"+{one.added} -{one.removed}"
    words = [word for word in (_CHANGES.get(one.status, one.status), size) if word]
    named = one.places[:_NAMED] if one.status != "A" else ()
    places = f", in {', '.join(code(place) for place in named)}" if named else ""
    places += f" and {len(one.places) - _NAMED} more" if named != one.places and named else ""
    return f"{code(one.path)} ({', '.join(words)}){places}"


def _credits(parts: tuple[Part, ...], proposal: Proposal) -> list[str]:
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
    proposal: Proposal, preflight: Preflight, found: Figures
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
    results = f"tables of {', '.join(one.source for one in found.tables)}"
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
