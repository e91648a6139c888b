"""A git repository: opening one, running git on it, and its commits, blobs and refs.

Every call is hermetic, and results are judged by exit status and objects, never by messages.
The environment is scrubbed as pre-commit does it, because each of these has changed somebody's
result: hooks (``git am`` runs ``applypatch-msg`` from
``core.hooksPath``), ``commit.gpgsign``, ``core.autocrlf``, ``diff.*``, and the ``GIT_DIR`` of a
hook that called us.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from fixtool.errors import SYSTEM_HINTS, CannotRun
from fixtool.files import temporary_folder
from fixtool.git.names import is_full_sha
from fixtool.git.objects import ZERO, Commit, Oid, parse_commit, parse_oid
from fixtool.git.process import (
    ENVIRONMENT,
    TimeLimit,
    communicate,
    environment,
    environment_of_user,
    pinned,
    start,
)
from fixtool.text import argument, count, split_lines

OLDEST_GIT = (2, 38)  # the first with `merge-tree --write-tree`

_NO_ROOM = 1 << 20  # bytes
_GENERAL = re.compile(
    r"fatal: Could not read from remote repository|Please make sure you have the "
)
_HINTS = {os.strerror(number): hint for number, hint in SYSTEM_HINTS.items()}


@dataclass(frozen=True)
class Output:
    """The exit status and output of one git process."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape").strip()

    @property
    def complaint(self) -> str:
        """The line of stderr that gives the reason, for people only: the line that holds an error
        of the operating system, else the last one. What git says at the end of any repository that
        it cannot read gives no reason."""
        lines = [line.rstrip() for line in split_lines(self.stderr) if line.strip()]
        general = [at for at, line in enumerate(lines) if _GENERAL.match(line)]
        lines = lines[: general[0]] if general and general[0] else lines
        reasons = [line for line in lines if any(reason in line for reason in _HINTS)]
        return (reasons or lines or [f"git exited with {self.status}"])[-1]


class NoRepository(CannotRun):
    """A folder is in no git repository."""


@contextmanager
def reading_answer(command: str) -> Iterator[None]:
    """Raise CannotRun if the block, or the function that this decorates, meets an answer of git's
    ``command`` that is not of the form that git writes: the repository or git itself is damaged."""
    try:
        yield
    except (ValueError, LookupError) as error:
        raise CannotRun(
            f"git {command} gave an answer that cannot be read",
            hint="look whether the repository is whole (git fsck), and which git runs (which git)",
        ) from error


class Repo:
    """One repository, bare or with a work tree, reached only through git's plumbing commands."""

    _version_checked = False
    _limit = 600.0  # seconds that a call may take

    def __init__(self, git_dir: Path, work_tree: Path | None = None) -> None:
        self.git_dir = git_dir
        self.work_tree = work_tree
        self._environment = dict(ENVIRONMENT)
        self._trees: dict[str, Oid] = {}  # of commits, as they were read with their ids

    @property
    def _folder(self) -> Path:
        """Where git runs."""
        return self.work_tree or self.git_dir

    @property
    def time_limit(self) -> float:
        """The seconds after which a call of git is given up."""
        return self._limit

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, *, bare: bool = False) -> Repo:
        """The repository at or above ``path``. Raises CannotRun if there is none. ``path`` itself
        may be a bare repository only where the user has named it as one (``bare``): a folder of
        files that look like one may be part of somebody's repository."""
        if not path.is_dir():
            there = "is a file, and no folder" if path.exists() else "is not there"
            raise CannotRun(
                f"the folder {path} {there}", where=str(path), hint="name a folder that is there"
            )
        probe = cls(path)
        question = ["rev-parse", "--absolute-git-dir", "--is-bare-repository", "--show-cdup"]
        if bare and (path / "HEAD").is_file() and (path / "objects").is_dir():
            question.insert(0, f"--git-dir={path.absolute()}")
        out = probe._execute(question, accept=None)
        if out.status != 0:
            # The folder may belong to another user, as in a container. git then reads it only if
            # the user's own configuration lists it as safe.
            trusted = probe.run_as_user("config", "--null", "--get-all", "safe.directory")
            probe._carry(("safe.directory", folder) for folder in trusted.split("\0") if folder)
            out = probe._execute(question, accept=None)
        if out.status != 0:
            why = out.stderr.strip().split("\n")[0]
            if "not a git repository" in why:
                raise NoRepository(
                    f"{path} is not in a git repository",
                    where=str(path),
                    hint="name a folder that holds a clone",
                )
            raise CannotRun(
                f"{path} is not a git repository that this user may read ({why})",
                where=str(path),
                hint="if you trust it: git config --global --add safe.directory "
                f"{argument(path.resolve())}"
                if "ownership" in why
                else None,
            )
        with reading_answer("rev-parse"):
            git_dir, is_bare, *cdup = out.text.split("\n")
            if not Path(git_dir).is_dir() or is_bare not in ("true", "false") or cdup[1:]:
                raise ValueError(out.text)
            top = None if is_bare == "true" else (path / (cdup[0] if cdup else "")).resolve()
            return cls(Path(git_dir), top)

    def with_work_tree(self, folder: Path) -> Repo:
        """The same repository with its files in ``folder``."""
        other = Repo(self.git_dir, folder)
        other._environment = self._environment
        return other

    def worktree_in(self, git_dir: Path, folder: Path) -> Repo:
        """The work tree of this repository at ``folder``, whose own state is in ``git_dir``. It may
        fetch what this repository may."""
        tree = Repo(git_dir, folder.resolve())
        tree._environment = self._environment
        return tree

    def durably(self) -> Repo:
        """The same repository, whose objects and refs are on the disk once a call is over."""
        other = Repo(self.git_dir, self.work_tree)
        other._environment = dict(self._environment)
        other._carry([("core.fsync", "all")])
        return other

    def also_reading(self, objects: Path) -> Self:
        """The same repository, which also reads the objects in the folder ``objects``."""
        return self._with_variables({"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects)})

    def reading_first(self, objects: Path) -> Self:
        """The same repository, which looks into the folder ``objects`` before it looks into its
        own: git prefers the packs of the folder that it takes for the repository's. No command that
        writes objects may run on it."""
        own = [_quoted(self.objects_folder)]
        if further := self._environment.get("GIT_ALTERNATE_OBJECT_DIRECTORIES"):
            own.append(further)
        variables = {
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(own),
        }
        return self._with_variables(variables)

    def _with_variables(self, variables: Mapping[str, str]) -> Self:
        other = copy(self)
        other._environment = {**self._environment, **variables}
        return other

    @cached_property
    def objects_folder(self) -> Path:
        """The folder of the object database, which all work trees of a repository share."""
        shared = self.git_dir / "commondir"
        common = self.git_dir / shared.read_text().strip() if shared.is_file() else self.git_dir
        return (common / "objects").resolve()

    # -- running git -----------------------------------------------------------------------

    def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        index: Path | None = None,
        env: Mapping[str, str] | None = None,
        accept: Iterable[int] | None = (0,),
        hear: Callable[[str], None] | None = None,
    ) -> Output:
        """Run one git command on this repository.

        ``accept`` lists the exit statuses that are answers; any other raises CannotRun (None
        accepts all). ``index`` is a private index file. ``hear`` gets stderr line by line.
        """
        options = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            options.append(f"--work-tree={self.work_tree}")
        extra = dict(env or {})
        if index is not None:
            extra["GIT_INDEX_FILE"] = str(index)
        return self._execute([*options, *args], stdin=stdin, env=extra, accept=accept, hear=hear)

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start a git command that answers questions from its stdin, such as ``cat-file --batch``.
        The caller ends it."""
        if not Repo._version_checked:
            _check_version()
        words = [*pinned(), f"--git-dir={self.git_dir}", *args]
        own = environment(self._environment, os.environ)
        return start(words, self._folder, own, subprocess.PIPE)

    def run_as_user(self, *args: str, here: bool = False) -> str:
        """Stdout of a git command under the user's own configuration; empty if it fails. The
        configuration of this repository counts only if the question is about it (``here``)."""
        git_dir = self.git_dir if here else os.devnull
        words = [f"--git-dir={git_dir}", *args]
        out = _run(words, Path("/"), environment_of_user(os.environ), limit=self._limit)
        return out.stdout.decode("utf-8", "surrogateescape") if out.status == 0 else ""

    def _carry(self, settings: Iterable[tuple[str, str]]) -> None:
        """Give every later call these configuration settings, by the environment: they are neither
        written to disk nor shown to whoever lists processes."""
        count = int(self._environment.get("GIT_CONFIG_COUNT", "0"))
        for count, (key, value) in enumerate(settings, count + 1):  # noqa: B020
            self._environment[f"GIT_CONFIG_KEY_{count - 1}"] = key
            self._environment[f"GIT_CONFIG_VALUE_{count - 1}"] = value
        self._environment["GIT_CONFIG_COUNT"] = str(count)

    def _execute(
        self,
        args: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        accept: Iterable[int] | None = (0,),
        bare_call: bool = False,
        hear: Callable[[str], None] | None = None,
    ) -> Output:
        if not Repo._version_checked and not bare_call:
            _check_version()
        own = environment({**self._environment, **(env or {})}, os.environ)
        words = [*pinned(), *args]
        try:
            output = _run(words, self._folder, own, stdin, hear, limit=self._limit)
        except TimeLimit as error:
            raise CannotRun(
                f"git {_verb(args)} did not end within {_duration(self._limit)}",
                where=str(self.work_tree or self.git_dir),
                hint="see whether the disk or the network hangs, then run the same command again",
            ) from error
        # A git that a signal has ended has not answered, whatever its caller takes for an answer.
        if output.status >= 0 and (accept is None or output.status in accept):
            return output
        hint = next((hint for reason, hint in _HINTS.items() if reason in output.stderr), None)
        if hint is None and shutil.disk_usage(self.git_dir).free < _NO_ROOM:
            hint = SYSTEM_HINTS[errno.ENOSPC]  # a checkout names only the file it could not write
        raise CannotRun(
            f"git {_verb(args)} failed: {output.complaint}",
            where=str(self.work_tree or self.git_dir),
            hint=hint,
        )

    # -- commits and blobs -----------------------------------------------------------------

    def commit_id(self, name: str) -> Oid | None:
        """The id of the commit that ``name``, a ref or id, denotes; None if there is none."""
        if is_full_sha(name):
            return self._read_ids(name)
        out = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}",
            accept=None,
        )  # fmt: skip
        return parse_oid(out.text, "git rev-parse") if out.status == 0 else None

    def tree_id(self, treeish: str) -> Oid:
        """The id of the tree of a commit. Raises CannotRun if it is not here."""
        if known := self._trees.get(treeish):
            return known
        out = self.run("rev-parse", "--verify", "--end-of-options", f"{treeish}^{{tree}}")
        return parse_oid(out.text, "git rev-parse")

    @reading_answer("rev-list")
    def _read_ids(self, name: str) -> Oid | None:
        """The commit that the object of the id ``name`` is, or is a tag of; None if there is none.
        The id of its tree comes with it, and most callers ask for that next."""
        words = ("rev-list", "--no-walk", "--no-commit-header", "--format=%H %T")
        out = self.run(*words, "--end-of-options", f"{name}^{{commit}}", accept=None)
        if out.status != 0:
            return None
        commit, tree = out.text.split(" ")
        self._trees[commit] = parse_oid(tree, "git rev-list")
        return parse_oid(commit, "git rev-list")

    def candidates(self, prefix: str) -> list[Oid]:
        """Every commit whose id begins with ``prefix`` (7 to 40 hex digits), tags peeled."""
        ids = self.run("rev-parse", f"--disambiguate={prefix}", accept=None).text.split()
        commits = {self.commit_id(name) for name in ids}
        return sorted(commit for commit in commits if commit)

    def has(self, *objects: Oid) -> bool:
        """Whether every one of the objects is here, without fetching any."""
        return not self.lacks(objects)

    def lacks(self, objects: Iterable[Oid]) -> set[Oid]:
        """Those of ``objects`` that are not here, without fetching any."""
        wanted = sorted(set(objects))
        if not wanted:
            return set()
        out = self._ask_without_remote(wanted, "--batch-check=%(objectname)")
        replies = [line.split(" ") for line in split_lines(out.text)]
        with reading_answer("cat-file"):
            if len(replies) != len(wanted):
                raise ValueError(out.text)
            return {Oid(name) for name, *state in replies if state == ["missing"]}

    def blobs_here(self, blobs: Iterable[Oid]) -> set[Oid]:
        """Those of ``blobs`` that are here and are blobs, without fetching any."""
        wanted = sorted(set(blobs))
        if not wanted:
            return set()
        out = self._ask_without_remote(wanted, "--batch-check=%(objectname) %(objecttype)")
        replies = (line.split(" ") for line in split_lines(out.text))
        return {Oid(name) for name, *kind in replies if kind == ["blob"]}

    def _ask_without_remote(self, objects: Sequence[Oid], form: str) -> Output:
        """What ``git cat-file`` says of ``objects``, without fetching any. No switch does this: a
        partial clone fetches, or git gives up because it must not (GIT_NO_LAZY_FETCH)."""
        return self.run_on_objects("cat-file", form, stdin=_lines(objects))

    def run_on_objects(
        self, *args: str, stdin: bytes | None = None, accept: Iterable[int] | None = (0,)
    ) -> Output:
        """Run a git command on the objects of this repository and nothing else of it: a bare
        repository without refs, whose configuration is empty, lends them. So neither a setting nor
        an attribute counts, no work tree is looked into, and nothing is fetched."""
        with temporary_folder("fixtool-objects-") as folder:
            (folder / "refs").mkdir()
            (folder / "HEAD").write_text("ref: refs/heads/none\n")
            (folder / "config").write_text("[core]\n\tbare = true\n")
            return self._execute(
                # git looks for attributes in the current folder, even if the repository is bare.
                ["-C", str(folder), f"--git-dir={folder}", *args],
                stdin=stdin,
                env={"GIT_OBJECT_DIRECTORY": str(self.objects_folder)},
                accept=accept,
            )

    @reading_answer("cat-file")
    def sizes(self, blobs: Sequence[Oid]) -> dict[Oid, int]:
        """The size of each blob in bytes, from one process."""
        if not blobs:
            return {}
        out = self.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=_lines(blobs))
        return {Oid(blob): int(size) for blob, size in map(str.split, split_lines(out.text))}

    def read_blobs(self, ids: Sequence[Oid]) -> Iterator[bytes]:
        """The contents of the blobs ``ids``, in order, from one process. Raises CannotRun if one is
        missing."""
        if not ids:
            return
        data = self.run("cat-file", "--batch", stdin=_lines(ids)).stdout
        at = 0
        for blob in ids:
            with reading_answer("cat-file"):
                end = data.index(b"\n", at)
                header = data[at:end].split(b" ")
                if header[0] != blob.encode():
                    raise ValueError(header)
                size = int(header[2]) if len(header) == 3 else None
            if size is None:
                raise CannotRun(f"object {blob} is missing", where=str(self.git_dir))
            yield data[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def read_blob(self, blob: Oid) -> bytes:
        """The content of a blob. Raises CannotRun if it is missing."""
        return next(iter(self.read_blobs([blob])))

    @reading_answer("cat-file")
    def commits_here(self, ids: Sequence[Oid]) -> dict[Oid, bytes]:
        """The stored bytes of those commits of ``ids`` that are here, without fetching any."""
        if not ids:
            return {}
        data = self._ask_without_remote(ids, "--batch").stdout
        commits = {}
        at = 0
        for oid in ids:
            end = data.index(b"\n", at)
            header = data[at:end].split(b" ")
            at = end + 1
            if len(header) == 3:
                size = int(header[2])
                if header[1] == b"commit":
                    commits[oid] = data[at : at + size]
                at += size + 1
        return commits

    @reading_answer("cat-file")
    def read_commit(self, commit: Oid) -> Commit:
        """The content of a commit. Raises CannotRun if it is not here."""
        return parse_commit(self.run("cat-file", "commit", commit).stdout)

    def write_commit(self, commit: Commit) -> Oid:
        """Store a commit byte for byte as given: no cleanup, no signature, no user identity."""
        args = ("hash-object", "-t", "commit", "-w", "--stdin")
        return parse_oid(self.run(*args, stdin=commit.raw).text, "git hash-object")

    def ahead_by(self, ancestor: Oid, commit: Oid) -> int | None:
        """How many commits ``commit`` is ahead of ``ancestor``; None if it does not descend from
        ``ancestor``, as far as the history in this repository shows."""
        if not self.descends(commit, ancestor):
            return None
        with reading_answer("rev-list"):
            return int(self.run("rev-list", "--count", f"{ancestor}..{commit}").text)

    def descends(self, commit: Oid, ancestor: Oid) -> bool:
        """Whether ``commit`` descends from ``ancestor``, as far as the history here shows."""
        question = ("merge-base", "--is-ancestor", ancestor, commit)
        return self.has(ancestor) and self.run(*question, accept=(0, 1, 128)).status == 0

    @property
    def shallow(self) -> frozenset[Oid]:
        """The commits whose parents this repository lacks because it is a shallow clone."""
        file = self.objects_folder.with_name("shallow")
        return frozenset(map(Oid, file.read_text().split())) if file.exists() else frozenset()

    def history_is_whole(self, commit: Oid) -> bool:
        """Whether every ancestor of ``commit`` is here: no shallow clone has cut any off. Raises
        CannotRun if ``commit`` is not here."""
        shallow = self.shallow
        return not shallow or shallow.isdisjoint(self.run("rev-list", commit).text.split())

    def is_ancestor(self, ancestor: Oid, commit: Oid) -> bool:
        """Whether the history of ``commit`` holds ``ancestor``. A commit is its own ancestor.

        Raises CannotRun if ``commit`` is not here, or if its history is cut off before the answer
        is known: in a shallow clone "yes" is an answer, and "no" is not.
        """
        if not self.has(commit):
            raise CannotRun(f"the commit {commit} is not here", where=str(self.git_dir))
        if self.has(ancestor):
            question = ("merge-base", "--is-ancestor", ancestor, commit)
            if self.run(*question, accept=(0, 1)).status == 0:
                return True
        if not self.history_is_whole(commit):
            raise CannotRun(
                f"the history of {commit[:12]} is cut off here, so git cannot tell whether it "
                f"holds {ancestor[:12]}",
                where=str(self.git_dir),
                hint="name a source with the full history: --source PATH of a clone",
            )
        return False

    # -- refs and the work tree ------------------------------------------------------------

    def head(self) -> Oid | None:
        return self.commit_id("HEAD")

    def ref(self, name: str) -> Oid | None:
        """The id of the object that a ref points to; None if there is no such ref."""
        out = self.run("rev-parse", "--verify", "--quiet", name, accept=None)
        return parse_oid(out.text, "git rev-parse") if out.status == 0 else None

    def ref_names(self, *prefixes: str) -> list[str]:
        """The full names of the refs below ``prefixes``, the highest version first."""
        words = ("for-each-ref", "--format=%(refname)", "--sort=-version:refname")
        return split_lines(self.run(*words, *prefixes).text)

    def current_branch(self) -> str:
        """The full name of the branch that is checked out, or ``HEAD`` if none is."""
        name = self.run("symbolic-ref", "--quiet", "HEAD", accept=None).text or "HEAD"
        if (name != "HEAD" and not name.startswith("refs/")) or min(name) < " ":
            raise CannotRun(f"git symbolic-ref gives {name!r}, which is not the name of a ref")
        return name

    def update_refs(self, updates: Sequence[tuple[str, Oid, Oid | None]], reason: str) -> None:
        """Move refs in one transaction, all or none. Each update is ``(ref, new id, old id)``; the
        old id None means that the ref must not exist. ``reason`` goes into the reflog."""
        lines = ["start"]
        lines += [f"update {ref} {new} {old or ZERO}" for ref, new, old in updates]
        lines += ["prepare", "commit"]
        self.run("update-ref", "--create-reflog", "-m", reason, "--stdin", stdin=_lines(lines))

    def status(self, *paths: str, remember: bool = False) -> list[str]:
        """The paths that differ from HEAD or are untracked, as ``git status`` sees them: all, or
        those at or below ``paths``. To ``remember`` writes into the index which files git has found
        to be as they were, unless another git is at work: git compares the bytes of files that are
        as young as the index, which are most of a fresh work tree."""
        out = self.run(
            "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", *paths,
            env={"GIT_OPTIONAL_LOCKS": "1"} if remember else None,
        )  # fmt: skip
        entries = out.stdout.decode("utf-8", "surrogateescape").split("\0")
        return [entry[3:] for entry in entries if entry]


def _run(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
    hear: Callable[[str], None] | None = None,
    *,
    limit: float,
) -> Output:
    """The output of one git process. Raises CannotRun if there is no git, and as ``communicate``
    does."""
    process = start(words, folder, environment, None if stdin is None else subprocess.PIPE)
    stdout, stderr = communicate(process, stdin, hear, limit)
    return Output(process.returncode, stdout, stderr.decode("utf-8", "replace"))


def _quoted(folder: Path) -> str:
    """The path of a folder as git reads it in a list of folders."""
    name = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}"'


def _verb(args: Sequence[str]) -> str:
    """The command among the words after ``git``."""
    words = iter(args)
    for word in words:
        if word in ("-c", "-C"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return count(minutes, "minute") if minutes else count(round(seconds), "second")


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogateescape")


def _check_version() -> None:
    hint = "install git 2.38 or newer and put it first on PATH"
    try:
        out = _run(["version"], Path("/"), environment_of_user(os.environ), limit=Repo._limit)
    except TimeLimit as error:
        raise CannotRun("git version does not end", where=shutil.which("git"), hint=hint) from error
    match = re.search(r"(\d+)\.(\d+)", out.text)
    if out.status != 0 or not match:
        raise CannotRun(
            f"the git on PATH does not work: git version: {out.complaint}",
            where=shutil.which("git"), hint=hint,
        )  # fmt: skip
    if tuple(map(int, match.groups())) < OLDEST_GIT:
        raise CannotRun(
            f"{out.text} is too old: fixtool merges in the object database, which came with git "
            f"{'.'.join(map(str, OLDEST_GIT))}",
            hint=hint,
        )
    Repo._version_checked = True
