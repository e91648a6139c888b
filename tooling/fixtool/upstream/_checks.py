"""Preflight: what upstream's reviewers and robots would say of a proposal, before they do.

Hooks and tests take a while, so their answers are kept, by the tree that they saw and the commit
that it stands on: an edit of the diff makes them stale, be it one blank, and a new message does
not. What is read from texts is looked at every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fixtool.files import private_folder, write_atomically
from fixtool.git.repo import Repo
from fixtool.interpreter import absolute, last_line
from fixtool.markdown import ACTIVE_TEXT
from fixtool.progress import Progress
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding, Level
from fixtool.series.patch import Patch
from fixtool.settings import Settings
from fixtool.upstream import _hooks as hooks
from fixtool.upstream._commits import ProposedBranch, ProposedCommit, is_placeholder
from fixtool.upstream._hooks import HookResult
from fixtool.verify.kit import lay_kit

_FORMAT = 1
_DAY = 86_400
_LONGEST_TITLE = 100
_PATIENCE = 1800  # seconds for one test file; Triton's interpreter is slow
_TEST = re.compile(r"(^|/)test_[^/]*\.py$")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_LOCAL = re.compile(
    r"(?<![\w.~/])(?:file://)?(?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2}"
    r"|/root/(?!\.cache\b))[\w.-]+"  # a container has its models there, and so has the README
)
_SECRETS = re.compile(
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|(?<![\w-])sk-(?=[\w-]*\d)[A-Za-z0-9_-]{32,}"  # and no long name, such as disk-offload-of-…
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|https?://[^/\s:@{}<>$]+:[^/\s:@{}<>$]+@"
)


@dataclass(frozen=True)
class TestRun:
    """One test file of the proposal, run in the target's Python: passed, failed, nothing-shown or
    not-run."""

    __test__ = False  # what pytest is not to collect

    path: str
    outcome: str
    said: str


@dataclass(frozen=True)
class CheckResults:
    """``reused`` where the hooks' and tests' answers were known from before, for this very tree."""

    findings: tuple[Finding, ...]
    hooks: tuple[HookResult, ...]
    tests: tuple[TestRun, ...]
    reused: bool

    @property
    def not_run(self) -> tuple[str, ...]:
        """What stays open: hooks and tests that nobody could run here."""
        return (
            *(f"hook {one.id}: {one.said}" for one in self.hooks
              if one.outcome == "not-run"),
            *(f"{one.path}: {one.said}" for one in self.tests if one.outcome == "not-run"),
        )  # fmt: skip


def look(
    repository: PatchRepository,
    settings: Settings,
    proposal: ProposedBranch,
    python: str | None,
    progress: Progress,
    *,
    fresh: bool = False,
) -> CheckResults:
    """Everything. ``python`` is the target's, None where there is none; ``fresh`` asks hooks and
    tests again."""
    findings = tuple(read(repository, proposal))
    file = private_folder(settings.state / "upstream") / f"{_key(proposal, python)}.json"
    known = None if fresh else _load(file)
    if known is not None:
        return replace(known, findings=findings)
    proposal.source.bring(proposal.target.commit, ())
    with checkout(proposal.repo, proposal.tip, settings) as folder:
        tests = tuple(
            _test(folder, path, python, progress) for path in proposal.files if _TEST.search(path)
        )
        with progress.task("running upstream's hooks"):  # last, for they may rewrite the files
            ran = hooks.run(folder, proposal.files, settings)
    found = CheckResults(findings, ran, tests, reused=False)
    if not found.not_run:
        with suppress(OSError):  # a cache that cannot be written costs time, never the result
            write_atomically(file, json.dumps(asdict(replace(found, findings=()))))
    return found


def _key(proposal: ProposedBranch, python: str | None) -> str:
    tree = proposal.repo.tree_id(proposal.tip)
    words = f"{_FORMAT} {proposal.target.commit} {tree} {python}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _load(file: Path) -> CheckResults | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        ran = tuple(HookResult(**one) for one in data["hooks"])
        return CheckResults((), ran, tuple(TestRun(**one) for one in data["tests"]), reused=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def checkout(repo: Repo, commit: str, settings: Settings) -> Iterator[Path]:
    """A work tree of ``commit`` to throw away: hooks rewrite files."""
    home = private_folder(settings.state / "upstream")
    for stale in home.glob("tree-*"):  # of a run that was killed
        if time.time() - stale.stat().st_mtime > _DAY:
            shutil.rmtree(stale, ignore_errors=True)
    repo.run("worktree", "prune")
    with tempfile.TemporaryDirectory(prefix="tree-", dir=home) as scratch:
        folder = Path(scratch) / "sglang"
        repo.run("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            repo.run("worktree", "remove", "--force", str(folder), accept=None)


def _test(folder: Path, path: str, python: str | None, progress: Progress) -> TestRun:
    if python is None:
        return TestRun(path, "not-run", "no Python here has torch: --python PY")
    kit = lay_kit(folder.parent)  # beside the tree, which the hooks look at
    command = [
        absolute(python), "-s", str(kit / "verify/runner/script.py"),
        str(kit / "verify/test_file.py"), path,
    ]  # fmt: skip
    paths = os.pathsep.join((str(kit.parent), str(folder / "python")))
    env = {**hooks.without_secrets(os.environ), "FIXTOOL_TREE": str(folder), "PYTHONPATH": paths,
           "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    try:
        with progress.task(f"running {path}"):
            done = subprocess.run(
                command, env=env, cwd=os.sep, text=True, errors="replace", capture_output=True,
                check=False, stdin=subprocess.DEVNULL, timeout=_PATIENCE,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        return TestRun(path, "not-run", f"no end in {_PATIENCE // 60} minutes")
    said = (done.stdout.strip().splitlines() or [last_line(done)])[-1]
    outcome = {0: "passed", 1: "failed", 77: "nothing-shown"}.get(done.returncode, "not-run")
    return TestRun(path, outcome, " ".join(said.split())[:400])


# -- what is read ----------------------------------------------------------------------------


def read(repository: PatchRepository, proposal: ProposedBranch) -> Iterator[Finding]:
    """What can be seen in titles, messages and added lines."""
    fork = fork_names(repository)
    for part, patch in zip(proposal.parts, proposal.patches, strict=True):
        commit = proposal.repo.read_commit(part.commit)
        message = commit.message
        where = str(patch.path or part.slug)
        yield from _title(part, where)
        for number, line in enumerate(message.split("\n"), 1):
            yield from text(line, f"message of {part.slug}, line {number}", fork)
        yield from _calls(message, f"message of {part.slug}")
        yield from _signed(message, commit.author.name, commit.author.email, where)
        if is_placeholder(commit.author):
            said = f"{commit.author.email} is an address that nobody can write to"
            yield Finding(Level.ERROR, "author", where, said,
                          "git config user.name NAME; git config user.email MAIL")  # fmt: skip
        for one in part.files:
            yield from text(one.path, one.path, fork)
        for path, number, line in added(patch):
            yield from text(line, f"{path}:{number}", fork)
    if not any(_TEST.search(path) for path in proposal.files) and any(
        path.endswith(".py") for path in proposal.files
    ):
        yield Finding(
            Level.WARNING, "test", proposal.slug, "no test comes with it",
            "add one where upstream registers tests, such as test/registered/unit/",
        )  # fmt: skip


def text(line: str, where: str, fork: re.Pattern[str] | None) -> Iterator[Finding]:
    """What may not leave the house in one line of any text."""
    rules = (
        ("secret", _SECRETS, "looks like a secret", "take it out, and revoke it"),
        ("local-path", _LOCAL, "names a path of somebody's machine", "take it out"),
        ("control-characters", _CONTROLS, "holds control characters", "take them out"),
        ("fork-name", fork, "names the fork", "say it so that upstream understands it"),
    )
    for rule, pattern, what, fix in rules:
        if pattern and (found := pattern.search(line)):
            shown = "" if rule in ("secret", "control-characters") else f": {found[0]!r}"
            yield Finding(Level.ERROR, rule, where, f"{what}{shown}", fix)


def fork_names(repository: PatchRepository) -> re.Pattern[str]:
    """What upstream has never heard of: this tool, and the patch repository's own name."""
    names = {"fixtool"}
    own = repository.root.name
    if re.search(r"\w[-_]\w", own):  # and no word of the language
        names.add(own)
    return re.compile("|".join(rf"\b{re.escape(one)}\b" for one in sorted(names)), re.IGNORECASE)


def _title(part: ProposedCommit, where: str) -> Iterator[Finding]:
    fix = "fixtool upstream SLUG --title '[Area] Do it', or reword the patch's subject"
    if not re.match(r"(\[[^\[\]]+\] ?)+\S|[a-z]+(\([\w./-]+\))?: \S", part.title):
        what = f"upstream's titles begin with an [Area]: {part.title!r}"
        yield Finding(Level.WARNING, "title", where, what, fix)
    if len(part.title) > _LONGEST_TITLE or part.title.endswith("."):
        what = f"the title is long, or ends with a full stop: {part.title!r}"
        yield Finding(Level.WARNING, "title", where, what, fix)


def _calls(message: str, where: str) -> Iterator[Finding]:
    """One for each line. `Closes` at the end of one, and `#1` on the next, close it too."""
    lines = message.split("\n")
    number, at, told = 1, 0, 0
    for call in ACTIVE_TEXT.finditer(message):
        number += message.count("\n", at, call.start())
        at = call.start()
        if number > told:
            what = "GitHub would notify somebody, or close something, for this line"
            shown = lines[number - 1].strip()[:60]
            yield Finding(Level.ERROR, "calls", f"{where}, line {number}", f"{what}: {shown!r}",
                          "reword it, or say it in the pull request yourself")  # fmt: skip
        told = number


def _signed(message: str, name: str, address: str, where: str) -> Iterator[Finding]:
    if f"Signed-off-by: {name} <{address}>" not in message:
        yield Finding(
            Level.ERROR, "sign-off", where, f"no Signed-off-by: of its author, {name} <{address}>",
            "the author signs the patch off, as the DCO wants: git commit --amend --signoff",
        )  # fmt: skip


def added(patch: Patch) -> Iterator[tuple[str, int, str]]:
    """path, line of the new file, text of every line that the patch adds."""
    for one in patch.files:
        for hunk in one.hunks:
            before = Counter(hunk.before)
            for offset, line in enumerate(hunk.after):
                if before[line]:
                    before[line] -= 1
                else:
                    yield one.path, hunk.new_start + offset, line.rstrip("\r\n")


def formatted(ran: Sequence[HookResult]) -> bool:
    """Whether every formatter of upstream's ran, where it had something to look at, and passed."""
    mine = [one for one in ran if one.id in hooks.FORMATTERS]
    return any(one.outcome == "passed" for one in mine) and all(
        one.outcome in ("passed", "skipped") for one in mine
    )
