"""The checks before a pull request is sent: upstream's hooks, the patches' own tests, and a search
of titles, messages and added lines for what must not leave this repository.

Hooks and tests take a while. Their results are cached under the tree that they checked, upstream's
commit and the interpreter: any edit of the diff runs them again, a new commit message does not.
Texts are searched every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtool import documents, isolation
from fixtool.files import private_folder, temporary_folder, write_atomically
from fixtool.git import worktrees
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.interpreter import absolute, last_line
from fixtool.markdown import ACTIVE_TEXT
from fixtool.profile import Profile
from fixtool.progress import Progress
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository
from fixtool.series.lint import Finding, Level
from fixtool.series.patch import Patch
from fixtool.settings import Settings
from fixtool.text import split_lines
from fixtool.upstream import _hooks as hooks
from fixtool.upstream._commits import ProposedBranch, ProposedCommit, is_placeholder
from fixtool.upstream._hooks import CheckOutcome, HookResult
from fixtool.verify.kit import lay_kit

_FORMAT = 2
_LONGEST_TITLE = 100
_NEWEST = 20  # commits of upstream that show whether its authors sign off
_PATIENCE = 1800  # seconds for one test file; Triton's interpreter is slow
_OUTCOMES = {0: CheckOutcome.PASSED, 1: CheckOutcome.FAILED, 77: CheckOutcome.NOTHING_SHOWN}
_TEST = re.compile(r"(^|/)test_[^/]*\.py$")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_LOCAL_PATH = re.compile(
    r"(?<![\w.~/])(?:file://)?(?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2}"
    r"|/root/(?!\.cache\b))[\w.-]+"  # containers keep models in /root/.cache, as the README says
)
_SECRETS = re.compile(
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|(?<![\w-])sk-(?=[\w-]*\d)[A-Za-z0-9_-]{32,}"  # needs a digit: not disk-offload-of-…
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|https?://[^/\s:@{}<>$]+:[^/\s:@{}<>$]+@"
)


@dataclass(frozen=True)
class TestResult:
    """One test file of the patches, run in the target's Python; ``said`` is its last line."""

    __test__ = False  # or pytest would collect it

    path: str
    outcome: CheckOutcome
    said: str


@dataclass(frozen=True)
class _Ran:
    """What the cache keeps: the results of hooks and tests."""

    hooks: tuple[HookResult, ...]
    tests: tuple[TestResult, ...]


@dataclass(frozen=True)
class CheckResults:
    """``reused`` is True if the results of hooks and tests come from the cache."""

    findings: tuple[Finding, ...]
    hooks: tuple[HookResult, ...]
    tests: tuple[TestResult, ...]
    reused: bool

    @property
    def not_run(self) -> tuple[str, ...]:
        """The hooks and tests that could not run here, each with the reason."""
        results = [
            *((f"hook {hook.id}", hook.outcome, hook.said) for hook in self.hooks),
            *((test.path, test.outcome, test.said) for test in self.tests),
        ]
        return tuple(
            f"{name}: {why}" for name, outcome, why in results if outcome is CheckOutcome.NOT_RUN
        )


def run_checks(
    context: Context, branch: ProposedBranch, python: str | None, *, fresh: bool = False
) -> CheckResults:
    """Run all checks. ``python`` is the interpreter for tests, None if there is none; ``fresh``
    ignores the cache."""
    settings, repository = context.settings, context.repository
    findings = tuple(search_texts(repository, branch))
    file = private_folder(settings.state / "upstream") / f"{_cache_key(branch, python)}.json"
    cached = None if fresh else documents.read_own(file, documents.written(_Ran))
    if cached is not None:
        return CheckResults(findings, cached.hooks, cached.tests, reused=True)
    branch.source.bring(branch.target.commit, ())
    with _checkout(branch.repo, branch.tip, settings) as folder:
        tests = tuple(
            _run_test(folder, path, python, branch.profile, context.progress)
            for path in branch.files
            if _TEST.search(path)
        )
        with context.progress.task("running upstream's hooks"):  # last: they may rewrite files
            ran = hooks.run(folder, branch.files, settings)
    results = CheckResults(findings, ran, tests, reused=False)
    if not results.not_run:
        with suppress(OSError):  # without the cache, the next run only takes longer
            write_atomically(file, json.dumps(asdict(_Ran(results.hooks, results.tests))))
    return results


def _cache_key(branch: ProposedBranch, python: str | None) -> str:
    tree = branch.repo.tree_id(branch.tip)
    words = f"{_FORMAT} {branch.target.commit} {tree} {python}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


@contextmanager
def _checkout(repo: Repo, commit: Oid, settings: Settings) -> Iterator[Path]:
    """A temporary work tree of ``commit``, because hooks rewrite files."""
    home = private_folder(settings.state / "upstream")
    with temporary_folder("tree-", home) as scratch:
        worktrees.prune(repo)  # those in folders of killed runs, which are gone now
        folder = scratch / "tree"
        try:
            worktrees.add(repo, folder, commit)
            yield folder
        finally:
            worktrees.remove(repo, folder)


def _run_test(
    folder: Path, path: str, python: str | None, profile: Profile, progress: Progress
) -> TestResult:
    if python is None and profile.torch:
        why = "no Python here has torch: --python PY"
        return TestResult(path, CheckOutcome.NOT_RUN, why)
    if python is None:  # fixtool does not know what the tests of this project need
        why = "it was not run: name a Python that has what it needs with --python PY"
        return TestResult(path, CheckOutcome.NOTHING_SHOWN, why)
    kit = lay_kit(folder.parent)  # beside the tree, because the hooks look at the tree
    command = [absolute(python), "-s", str(kit / "verify/runner/script.py"),
               str(kit / "verify/test_file.py"), path]  # fmt: skip
    code = folder / "python"
    paths = os.pathsep.join((str(kit.parent), str(code if code.is_dir() else folder)))
    environment = {**os.environ, "FIXTOOL_TREE": str(folder), "PYTHONPATH": paths,
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    try:
        with progress.task(f"running {path}"):
            process = isolation.run(
                command, folder=os.sep, environment=environment, timeout=_PATIENCE
            )
    except subprocess.TimeoutExpired:
        return TestResult(path, CheckOutcome.NOT_RUN, f"no end in {_PATIENCE // 60} minutes")
    last = (split_lines(process.stdout.strip()) or [last_line(process)])[-1]
    outcome = _OUTCOMES.get(process.returncode, CheckOutcome.NOT_RUN)
    return TestResult(path, outcome, " ".join(last.split())[:400])


def formatted(results: Sequence[HookResult]) -> bool:
    """Whether at least one of upstream's formatters passed, and the others had no file to check."""
    outcomes = {hook.outcome for hook in results if hook.id in hooks.FORMATTERS}
    passed = CheckOutcome.PASSED
    return passed in outcomes and outcomes <= {passed, CheckOutcome.SKIPPED}


# -- searching texts -------------------------------------------------------------------------


def search_texts(repository: PatchRepository, branch: ProposedBranch) -> Iterator[Finding]:
    """What titles, messages, paths and added lines show to whoever reads them."""
    names = fork_names(repository)
    signed = branch.profile.sign_off or _signs_off(branch.repo, branch.target.commit)
    for commit, patch in zip(branch.commits, branch.patches, strict=True):
        where = str(patch.path or commit.slug)
        yield from _search_title(commit, where, branch.profile)
        yield from _search_message(branch.repo, commit, where, names, signed=signed)
        for file in commit.files:
            yield from search_line(file.path, file.path, names)
        for path, number, line in _added_lines(patch):
            yield from search_line(line, f"{path}:{number}", names)
    if not any(_TEST.search(path) for path in branch.files) and any(
        path.endswith(".py") for path in branch.files
    ):
        tests = branch.profile.tests
        where = "where upstream " + (f"registers tests, such as {tests}" if tests else "has tests")
        yield Finding(
            Level.WARNING, "test", branch.slug, "no test comes with it", f"add one {where}"
        )


def search_line(line: str, where: str, names: re.Pattern[str] | None) -> Iterator[Finding]:
    """What must not leave this repository in one line of any text. ``names`` matches the names of
    the fork."""
    rules = (
        ("secret", _SECRETS, "looks like a secret", "take it out, and revoke it"),
        ("local-path", _LOCAL_PATH, "names a path of somebody's machine", "take it out"),
        ("control-characters", _CONTROLS, "holds control characters", "take them out"),
        ("fork-name", names, "names the fork", "say it so that upstream understands it"),
    )
    for rule, pattern, what, fix in rules:
        if pattern and (match := pattern.search(line)):
            shown = "" if rule in ("secret", "control-characters") else f": {match[0]!r}"
            yield Finding(Level.ERROR, rule, where, f"{what}{shown}", fix)


def fork_names(repository: PatchRepository) -> re.Pattern[str]:
    """The names that upstream does not know: this tool's and the patch repository's, unless that
    one is a word of the language."""
    names = {"fixtool"}
    if re.search(r"\w[-_]\w", repository.root.name):
        names.add(repository.root.name)
    return re.compile("|".join(rf"\b{re.escape(name)}\b" for name in sorted(names)), re.IGNORECASE)


def _search_title(commit: ProposedCommit, where: str, profile: Profile) -> Iterator[Finding]:
    example = "[Area] Do it" if profile.area_titles else "do it"
    fix = f"fixtool upstream {commit.slug} --title '{example}', or reword the patch's subject"
    if profile.area_titles and not re.match(
        r"(\[[^\[\]]+\] ?)+\S|[a-z]+(\([\w./-]+\))?: \S", commit.title
    ):
        what = f"upstream's titles begin with an [Area]: {commit.title!r}"
        yield Finding(Level.WARNING, "title", where, what, fix)
    if len(commit.title) > _LONGEST_TITLE or commit.title.endswith("."):
        what = f"the title is long, or ends with a full stop: {commit.title!r}"
        yield Finding(Level.WARNING, "title", where, what, fix)


def _search_message(
    repo: Repo, commit: ProposedCommit, where: str, names: re.Pattern[str], *, signed: bool
) -> Iterator[Finding]:
    """``signed`` says whether upstream wants each commit signed off by its author."""
    written = repo.read_commit(commit.commit)
    message, author = written.message, written.author
    for number, line in enumerate(message.split("\n"), 1):
        yield from search_line(line, f"message of {commit.slug}, line {number}", names)
    yield from _search_active_text(message, f"message of {commit.slug}")
    signature = f"{author.name} <{author.email}>"
    if signed and f"Signed-off-by: {signature}" not in message:
        yield Finding(
            Level.ERROR, "sign-off", where, f"no Signed-off-by: of its author, {signature}",
            "the author signs the patch off, as the DCO wants: git commit --amend --signoff",
        )  # fmt: skip
    if is_placeholder(author):
        what = f"{author.email} is an address that nobody can write to"
        yield Finding(Level.ERROR, "author", where, what,
                      "git config user.name NAME; git config user.email MAIL")  # fmt: skip


def _signs_off(repo: Repo, commit: Oid) -> bool:
    """Whether at least half of upstream's newest commits are signed off."""
    form = "--format=%x00%(trailers:key=Signed-off-by,valueonly)"
    messages = repo.run("log", f"--max-count={_NEWEST}", form, commit).text.split("\0")[1:]
    return 2 * sum(bool(signers.strip()) for signers in messages) >= max(1, len(messages))


def _search_active_text(message: str, where: str) -> Iterator[Finding]:
    """One finding for each line. GitHub also closes an issue if `Closes` ends one line and `#1`
    begins the next, so the whole message is searched."""
    lines = message.split("\n")
    number, counted, reported = 1, 0, 0
    for match in ACTIVE_TEXT.finditer(message):
        number += message.count("\n", counted, match.start())  # from the start, it is quadratic
        counted = match.start()
        if number > reported:
            what = "GitHub would notify somebody, or close something, for this line"
            shown = lines[number - 1].strip()[:60]
            yield Finding(Level.ERROR, "calls", f"{where}, line {number}", f"{what}: {shown!r}",
                          "reword it, or say it in the pull request yourself")  # fmt: skip
        reported = number


def _added_lines(patch: Patch) -> Iterator[tuple[str, int, str]]:
    """Path, line number in the new file, and text of every line that the patch adds."""
    for file in patch.files:
        for hunk in file.hunks:
            before = Counter(hunk.before)
            for number, line in enumerate(hunk.after, hunk.new_start):
                if before[line]:
                    before[line] -= 1
                else:
                    yield file.path, number, line.rstrip("\r\n")
