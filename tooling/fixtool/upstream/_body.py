"""The title and body of a pull request: upstream's template, filled in with what is known."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fixtool.git.trees import list_tree
from fixtool.markdown import code, inline, prose
from fixtool.replay.run import Earlier, on_own_base, replay
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding
from fixtool.sources.target import python_folder
from fixtool.text import visible
from fixtool.upstream import _figures as figures
from fixtool.upstream import _template as template
from fixtool.upstream._checks import CheckResults, fork_names, formatted, search_line
from fixtool.upstream._commits import ChangedFile, ProposedBranch, body_of
from fixtool.upstream._figures import Figures, ProposedContent
from fixtool.upstream._hooks import CheckOutcome
from fixtool.upstream._template import Answers, Checkbox
from fixtool.verify.flip import ProbeFlip
from fixtool.verify.suite import SERIES, read_suite

_PLACES = 6  # functions and classes named for one file
_LIMITS = {"motivation": 24_000, "modifications": 12_000, "accuracy": 10_000, "speed": 10_000}
"""Characters. With upstream's template they sum to less than GitHub takes (``markdown.LIMIT``)."""
_STATUSES = {"A": "new", "D": "deleted", "M": "", "T": "another type"}


@dataclass(frozen=True)
class PullRequestText:
    """What people and hosts get, so ``title`` and ``body`` hold no bytes that are not UTF-8.

    ``template`` is the path of upstream's template, None if it has none; ``findings`` are the
    lines that must not be sent."""

    title: str
    body: str
    checklist: tuple[Checkbox, ...]
    template: str | None
    figures: Figures
    findings: tuple[Finding, ...] = ()


def write_text(
    repository: PatchRepository,
    branch: ProposedBranch,
    checks: CheckResults,
    flip: ProbeFlip | None,
) -> PullRequestText:
    """Title and body. ``flip`` is what the probe says, None if it was not run."""
    measured = figures.gather(repository, _content(repository, branch))
    text, path = template.read(branch.repo, branch.target.commit, branch.profile.template)
    accuracy = [figure.text for figure in measured.of("accuracy")]
    if flip and flip.shown:
        accuracy.insert(0, f"Probe on {branch.target.commit[:12]} ({flip.device}): {flip.said}.")
    accuracy += [
        f"{code(test.path)}: {test.outcome}, {code(test.said)}."
        for test in checks.tests
        if test.outcome in (CheckOutcome.PASSED, CheckOutcome.FAILED)
    ]
    speed = [figure.text for figure in measured.of("speed")]
    sections = {
        "motivation": _motivation(branch),
        "modifications": _within(_modifications(branch), "modifications"),
        "accuracy": _within("\n\n".join(accuracy), "accuracy"),
        "speed": _within("\n\n".join(speed), "speed"),
    }
    body, checklist = template.fill(
        text, sections, _answers(branch, checks, measured), branch.profile
    )
    upstreams = {line.strip() for line in text.split("\n")}
    names = fork_names(repository)
    findings = tuple(
        finding
        for number, line in enumerate([branch.title, *body.split("\n")])
        if line.strip() not in upstreams
        for finding in search_line(line, f"the pull request, line {number}", names)
    )
    return PullRequestText(visible(branch.title), body, checklist, path, measured, findings)


def _content(repository: PatchRepository, branch: ProposedBranch) -> ProposedContent:
    """The ids by which a kept result shows that it measured these changes: on upstream's commit,
    and on the line's own base."""
    repo, base = branch.repo, branch.line.upstream.base
    folder = python_folder(repo, branch.target.commit)
    trees = {repo.run("rev-parse", f"{branch.tip}:{folder}", accept=None).text}
    whole = replay(repo, repository.line(branch.line.name), base)
    if whole.ok:
        trees.add(repo.run("rev-parse", f"{whole.commit}:{folder}", accept=None).text)
    made = Earlier()
    commits = [on_own_base(repo, branch.line, patch.slug, base, made)[0]
               for patch in branch.patches]  # fmt: skip
    blobs = {
        entry.blob
        for commit in (branch.tip, *commits)
        for entry in list_tree(repo, commit, *branch.files).values()
    }
    slugs = {patch.slug for patch in branch.patches}
    checks = read_suite(repository).checks if (repository.root / "verify").is_dir() else ()
    others = {
        f"check {check.name}"
        for check in checks
        if check.tree != SERIES or (check.patches and not slugs & set(check.patches))
    }
    return ProposedContent(branch.patches, frozenset(blobs), frozenset(trees), frozenset(others))


def _motivation(branch: ProposedBranch) -> str:
    texts = []
    room = _LIMITS["motivation"] // len(branch.commits)
    for commit, patch in zip(branch.commits, branch.patches, strict=True):
        heading = f"### {prose(commit.title)}\n\n" if len(branch.commits) > 1 else ""
        texts.append(heading + _truncated_prose(body_of(patch), room))
    related = [
        value
        for _, value in _trailers(branch, "bug")
        if re.fullmatch(r"https://[\w./%#?=&~+:,-]+", value)
    ]
    if related:
        texts.append("Related: " + ", ".join(dict.fromkeys(related)))
    return "\n\n".join(texts)


def _modifications(branch: ProposedBranch) -> str:
    lines = []
    several = len(branch.commits) > 1
    for commit in branch.commits:
        if several:
            lines.append(f"- {prose(commit.title)}")
        lines += [f"{'  ' * several}- {_file(file)}" for file in commit.files]
    if authors := _trailers(branch, "co-authored-by"):
        lines += ["", *(prose(f"{key}: {author}") for key, author in authors)]
    return "\n".join(lines)


def _trailers(branch: ProposedBranch, name: str) -> list[tuple[str, str]]:
    """The trailers ``name`` (in lower case) of all patches, each once."""
    trailers = dict.fromkeys(trailer for patch in branch.patches for trailer in patch.trailers)
    return [trailer for trailer in trailers if trailer[0].lower() == name]


def _truncated_prose(text: str, room: int) -> str:
    """A message as Markdown of at most ``room`` characters. The text is truncated before it is
    escaped: truncating Markdown could re-enable an @mention."""
    text = text if len(text) <= room else f"{text[:room]}…"
    while len(shown := prose(text)) > room:
        text = f"{text[: len(text) * room // len(shown) * 9 // 10]}…"
    return shown


def _within(text: str, section: str) -> str:
    """The whole lines that fit into the section's limit, and how many do not."""
    lines = text.split("\n")
    while sum(map(len, lines)) + len(lines) > _LIMITS[section]:
        lines = lines[: len(lines) * 9 // 10]
    left = text.count("\n") + 1 - len(lines)
    return "\n".join([*lines, "", f"… and {left} more lines"] if left else lines)


def _file(file: ChangedFile) -> str:
    size = "binary" if file.added is None else f"+{file.added} -{file.removed}"
    words = [word for word in (_STATUSES.get(file.status, inline(file.status)), size) if word]
    text = f"{code(file.path)} ({', '.join(words)})"
    if file.places and file.status != "A":
        text += f", in {', '.join(code(place) for place in file.places[:_PLACES])}"
        more = len(file.places) - _PLACES
        text += f" and {more} more" if more > 0 else ""
    return text


def _answers(branch: ProposedBranch, checks: CheckResults, measured: Figures) -> Answers:
    """The answers to upstream's checklist, from what was really run."""
    passed = [hook for hook in checks.hooks if hook.outcome is CheckOutcome.PASSED]
    failed = [hook.id for hook in checks.hooks if hook.outcome is CheckOutcome.FAILED]
    clean = formatted(checks.hooks) and not failed
    hooks = f"{len(passed)} of upstream's hooks passed on the changed files"
    if failed:
        hooks = f"these hooks failed: {', '.join(failed)}"
    elif not clean:
        hooks = "upstream's formatters were not run here"
    tests = "; ".join(f"{test.path}: {test.outcome}, {test.said}" for test in checks.tests)
    tested = bool(tests) and all(test.outcome is CheckOutcome.PASSED for test in checks.tests)
    sources = dict.fromkeys(source for figure in measured.tables for source in figure.sources)
    results = f"tables of {', '.join(sources)}"
    missing = [kind for kind in ("accuracy", "speed") if not measured.of(kind)]
    if missing:
        results = f"no current result for {' and '.join(missing)}"
        results += f" ({', '.join(measured.stale)}: of another version)" if measured.stale else ""
    docs = [path for path in branch.files if path.startswith(("docs", "doc/"))]
    return {
        "format": (clean, hooks),
        "style": (clean, hooks),
        "tests": (tested, tests or "the proposal holds no test"),
        "documentation": (bool(docs), ", ".join(docs) or "no documentation is changed"),
        "results": (not missing, results),
    }
