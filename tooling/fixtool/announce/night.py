"""A night: the outcomes of all lines of a patch repository, and the one summary of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtool.announce.outcome import NightlyOutcome, check_line, load_history, read_outcome
from fixtool.announce.text import NightlyTexts
from fixtool.documents import Failure
from fixtool.errors import ExitCode, FixtoolError, UsageError
from fixtool.history.result import History
from fixtool.markdown import Markdown, code, inline, join_sections, table
from fixtool.report.nights import NightState
from fixtool.report.todo import rebase_todos
from fixtool.text import count, redact, visible

_SUMMARY_LIMIT = 200_000  # characters; the summary of a step may have one MiB
_MESSAGE_LIMIT = 16_000  # characters; chat servers accept a little more
_RESULTS = {
    NightState.ASKED: "asked: a person has to decide about a patch, or should look at a warning.",
    NightState.FAILED: "failed: the rebase could not run, or was refused.",
}


@dataclass(frozen=True)
class LineDocuments:
    """What the nightly rebase left about one ``line``: the document of the rebase, and the history
    and the git bundle where there are some. The name is None if only the document can say it."""

    line: str | None
    rebase: Path
    history: Path | None = None
    bundle: Path | None = None


@dataclass(frozen=True)
class ReadLine:
    """The outcome of one line with its history. ``problem`` says why the document of the rebase
    cannot be used; the outcome is a failure then. ``notes`` say what else was left out."""

    documents: LineDocuments
    outcome: NightlyOutcome
    history: History | None = None
    problem: FixtoolError | None = None
    notes: tuple[str, ...] = ()


def find_documents(folder: Path) -> tuple[LineDocuments, ...]:
    """What a night left in ``folder``: for each line a folder of its name with ``rebase.json``, and
    perhaps ``history.json`` and ``commit.bundle``. Raises UsageError if there is none."""

    def present(path: Path) -> Path | None:
        return path if path.is_file() else None

    found = tuple(
        LineDocuments(
            check_line(path.parent.name), path,
            present(path.parent / "history.json"), present(path.parent / "commit.bundle"),
        )
        for path in sorted(folder.glob("*/rebase.json"))
    )  # fmt: skip
    if not found:
        raise UsageError(
            f"{folder} holds no night (no LINE/rebase.json)",
            where=str(folder),
            hint="name the folder of a night that ci/nightly made, or make the result of a line: "
            "fixtool rebase --line LINE --onto REF --json > rebase.json",
        )
    return found


def read_line(documents: LineDocuments) -> ReadLine:
    """Read the documents about a line. If that of the rebase cannot be used and the line is known,
    the problem becomes the outcome, so that it is told like any other failure. The history only
    adds to the texts, so a history that cannot be read is left out."""
    try:
        outcome = read_outcome(documents.rebase, documents.line)
    except FixtoolError as error:
        if documents.line is None:
            raise
        failure = Failure("rebase", error.message, error.where, error.hint)
        outcome = failed_outcome(documents.line, failure)
        return ReadLine(documents, outcome, problem=error)
    try:
        history = load_history(documents.history) if documents.history else None
        return ReadLine(documents, outcome, history)
    except FixtoolError as error:
        note = f"the history is left out: {error.message}"
        return ReadLine(documents, outcome, notes=(note,))


def failed_outcome(line: str, failure: Failure) -> NightlyOutcome:
    """The outcome of a line whose rebase left nothing that can be used."""
    todos = rebase_todos(failure)
    return NightlyOutcome(line, int(ExitCode.CANNOT_RUN), failure=failure, todos=todos)


@dataclass(frozen=True)
class NightRow:
    """A line in the summary. ``base`` and ``onto`` are the commits before and after, empty if they
    are not known; ``who`` has to act (empty: nobody), and ``next`` is the command to type."""

    line: str
    result: NightState
    base: str
    onto: str
    moved: bool
    who: tuple[str, ...]
    next: str


@dataclass(frozen=True)
class Night:
    """All lines of a night, each with its texts. ``owners`` are the people who act; ``pulls`` says
    whether a line that moved is proposed as a pull request."""

    texts: tuple[NightlyTexts, ...]
    owners: tuple[str, ...] = ()
    pulls: bool = False
    job: str | None = None

    @property
    def _outcomes(self) -> tuple[NightlyOutcome, ...]:
        return tuple(texts.outcome for texts in self.texts)

    @property
    def needs_person(self) -> bool:
        return any(outcome.needs_person for outcome in self._outcomes)

    @property
    def rows(self) -> tuple[NightRow, ...]:
        return tuple(self._row(texts) for texts in self.texts)

    @property
    def subject(self) -> str:
        """The night in one line."""
        asking = [row.line for row in self.rows if row.result is not NightState.GREEN]
        lines = count(len(self.texts), "line")
        if not asking:
            return f"Nightly rebase: {lines}, and nobody is needed"
        needs = "needs" if len(asking) == 1 else "need"
        names = ", ".join(asking[:5]) + (", …" if len(asking) > 5 else "")
        return visible(
            redact(f"Nightly rebase: {len(asking)} of {lines} {needs} a person: {names}")
        )

    def summary(self, limit: int = _SUMMARY_LIMIT) -> str:
        """The night as Markdown: the table of all lines, and then what each line asks for."""
        sections = [f"## {inline(self.subject)}", self._table(), self._about_table(), self._job()]
        needing = [texts for texts in self.texts if texts.outcome.needs_person]
        others = [texts for texts in self.texts if not texts.outcome.needs_person]
        sections += [texts.section() for texts in (*needing, *others)]
        return join_sections(None, sections, limit)

    def message(self) -> str:
        """The summary, short enough for a mail or a chat."""
        return self.summary(_MESSAGE_LIMIT)

    def _job(self) -> str:
        return f"[The job]({self.job})" if self.job else ""

    def _table(self) -> Markdown:
        rows = [
            (code(row.line), _commits(row), _result(row),
             Markdown(", ".join(map(code, self.owners)) if row.who and self.owners
                      else ", ".join(row.who) or "nobody"),
             code(row.next, 300) if row.next else "")
            for row in self.rows
        ]  # fmt: skip
        return table(("line", "base → new base", "result", "who must act", "next"), rows)

    def _about_table(self) -> str:
        """What the words of the table mean, as far as it has them."""
        rows = self.rows
        results = {row.result for row in rows}
        sentences = [text for result, text in _RESULTS.items() if result in results]
        if any(row.next.startswith("fixtool ") for row in rows):
            sentences.append("Type the commands in a clone of the patch repository.")
        if not self.pulls and any(row.moved for row in rows):
            sentences.append("For a line that moved, the command commits the rebase there.")
        return " ".join(sentences)

    def _row(self, texts: NightlyTexts) -> NightRow:
        outcome, rebase = texts.outcome, texts.outcome.rebase
        acts = outcome.needs_person or outcome.moved
        return NightRow(
            outcome.line, outcome.result, rebase.base if rebase else "",
            rebase.onto if rebase else "", outcome.moved,
            (self.owners or ("a person",)) if acts else (), visible(redact(self._next(texts))),
        )  # fmt: skip

    def _next(self, texts: NightlyTexts) -> str:
        outcome = texts.outcome
        if outcome.failure:
            refs = (line.rebase.ref for line in self._outcomes if line.rebase)
            again = next((("--line", outcome.line, "--onto", ref) for ref in refs), None)
            hint = outcome.failure.hint or "see the log of the job"
            return shlex.join(("fixtool", "rebase", *again)) if again else hint
        if outcome.exit_code == 0 and outcome.todos:
            return outcome.todos[0].next or ""
        if outcome.moved and not outcome.exit_code and self.pulls:
            return "merge its pull request"
        return texts.again if outcome.exit_code or outcome.moved else ""


def _result(row: NightRow) -> Markdown:
    return Markdown(row.result if row.result is NightState.GREEN else f"**{row.result}**")


def _commits(row: NightRow) -> Markdown:
    """The base before and after, or the one that stays."""
    if not row.base:
        return Markdown("not known")
    before, after = code(row.base[:12]), code(row.onto[:12])
    if row.moved:
        return Markdown(f"{before} → {after}")
    if row.base == row.onto or row.result is NightState.GREEN:
        return Markdown(f"{before}, as before")
    return Markdown(f"{before} stays; {after} was tried")


def texts_of(
    lines: Sequence[ReadLine], owners: tuple[str, ...], upstreams: Sequence[str]
) -> tuple[NightlyTexts, ...]:
    """The texts about each line; ``upstreams`` are the addresses of upstream, in the same order."""
    return tuple(
        NightlyTexts(line.outcome, line.history, owners, upstream)
        for line, upstream in zip(lines, upstreams, strict=True)
    )
