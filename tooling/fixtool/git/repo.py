"""Git, behind one door: every call hermetic, results judged by status and objects, never by prose.

GitPython runs the processes. The environment is scrubbed as pre-commit does it, because each of
these has changed somebody's result: hooks (``git am`` runs ``applypatch-msg`` from
``core.hooksPath``), ``commit.gpgsign``, ``core.autocrlf``, ``diff.*``, and the ``GIT_DIR`` of a
hook that called us.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # else the import itself runs `git version`
from git.cmd import Git
from git.exc import GitCommandNotFound

from fixtool.errors import SYSTEM_HINTS, CannotRun
from fixtool.git.names import is_full_sha
from fixtool.git.objects import MACHINE, ZERO, Commit, FileChange, Merge, parse_signature
from fixtool.git.process import ENVIRONMENT, PINNED, communicate, is_foreign

OLDEST_GIT = (2, 38)  # the first with `merge-tree --write-tree`

_NO_ROOM = 1 << 20  # bytes
_HINTS = {os.strerror(number): hint for number, hint in SYSTEM_HINTS.items()}


@dataclass(frozen=True)
class Output:
    """What one git process said."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape").strip()

    @property
    def complaint(self) -> str:
        """The line of stderr that says why, for people only: the system's reason, else the last."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        why = [line for line in lines if any(said in line for said in _HINTS)]
        return (why or lines or [f"git exited with {self.status}"])[-1]


class Repo:
    """One repository, bare or with a work tree, reached only through plumbing."""

    _version_checked = False

    def __init__(self, git_dir: Path, work_tree: Path | None = None) -> None:
        self.git_dir = git_dir
        self.work_tree = work_tree
        self._git = Git(str(work_tree or git_dir))
        self._environment = dict(ENVIRONMENT)

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Repo:
        """The repository at or above ``path``; CannotRun where there is none."""
        if not path.is_dir():
            raise CannotRun(f"{path} is not a directory", where=str(path))
        probe = cls(path)
        probe._git = Git(str(path))
        question = ["rev-parse", "--absolute-git-dir", "--is-bare-repository", "--show-cdup"]
        out = probe._execute(question, accept=None)
        if out.status != 0:
            # Somebody else's, as in a container, perhaps: git reads it where the user said so.
            trusted = probe.run_as_user("config", "--null", "--get-all", "safe.directory")
            probe._carry(("safe.directory", one) for one in trusted.split("\0") if one)
            out = probe._execute(question, accept=None)
        if out.status != 0:
            why = out.stderr.strip().split("\n")[0]
            raise CannotRun(
                f"{path} is not a git repository that this user may read ({why})",
                where=str(path),
                hint=f"if you trust it: git config --global --add safe.directory {path.resolve()}"
                if "ownership" in why
                else None,
            )
        git_dir, bare, *cdup = out.text.split("\n")
        top = None if bare == "true" else (path / (cdup[0] if cdup else "")).resolve()
        return cls(Path(git_dir), top)

    def with_work_tree(self, folder: Path) -> Repo:
        """The same repository with its files in ``folder``."""
        other = Repo(self.git_dir, folder)
        other._environment = self._environment
        return other

    # -- running ---------------------------------------------------------------------------

    def _carry(self, settings: Iterable[tuple[str, str]]) -> None:
        """Give every later call these configuration settings, by the environment: they are neither
        written to disk nor shown to whoever lists processes."""
        count = int(self._environment.get("GIT_CONFIG_COUNT", "0"))
        for count, (key, value) in enumerate(settings, count + 1):  # noqa: B020
            self._environment[f"GIT_CONFIG_KEY_{count - 1}"] = key
            self._environment[f"GIT_CONFIG_VALUE_{count - 1}"] = value
        self._environment["GIT_CONFIG_COUNT"] = str(count)

    def run_as_user(self, *args: str) -> str:
        """Stdout of a git command with the user's own configuration; empty where it fails."""
        _, out, _ = Git("/").execute(
            ["git", *args], with_extended_output=True, with_exceptions=False
        )
        return str(out)

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
        # GitPython hands the caller's environment down and can only add to it, so what a hook or
        # a shell has set (GIT_DIR, GIT_INDEX_FILE, GIT_EXTERNAL_DIFF …) is taken off by env(1).
        unset = [name for name in os.environ if is_foreign(name)]
        command = ["env", *(word for name in unset for word in ("-u", name))] if unset else []
        command.append("git")
        for key, value in PINNED.items():
            command += ["-c", f"{key}={value}"]
        try:
            process = self._git.execute(
                [*command, *args],
                istream=subprocess.PIPE if stdin is not None else None,
                as_process=True,
                env={**self._environment, **(env or {})},
            )
            assert process.proc is not None
            stdout, stderr = communicate(process.proc, stdin, hear)
            status = process.proc.returncode
        except GitCommandNotFound as error:
            raise CannotRun("git is not on PATH", hint="install git 2.38 or newer") from error
        output = Output(status, stdout, stderr.decode("utf-8", "replace"))
        if accept is not None and status not in accept:
            verb = next((one for one in args if not one.startswith("-")), "")
            hint = next((hint for said, hint in _HINTS.items() if said in output.stderr), None)
            if hint is None and shutil.disk_usage(self.git_dir).free < _NO_ROOM:
                hint = SYSTEM_HINTS[
                    errno.ENOSPC
                ]  # a checkout says only which file it could not write
            raise CannotRun(
                f"git {verb} failed: {output.complaint}",
                where=str(self.work_tree or self.git_dir),
                hint=hint,
            )
        return output

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
        place = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            place.append(f"--work-tree={self.work_tree}")
        extra = dict(env or {})
        if index is not None:
            extra["GIT_INDEX_FILE"] = str(index)
        return self._execute([*place, *args], stdin=stdin, env=extra, accept=accept, hear=hear)

    @cached_property
    def objects_folder(self) -> Path:
        """Where the objects lie, which all work trees of a repository share."""
        shared = self.git_dir / "commondir"
        common = self.git_dir / shared.read_text().strip() if shared.is_file() else self.git_dir
        return (common / "objects").resolve()

    # -- reading ---------------------------------------------------------------------------

    def commit_id(self, name: str) -> str | None:
        """The full id of the commit that ``name`` (a ref or sha, not checked here) denotes."""
        out = self.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{name}^{{commit}}",
            accept=None,
        )
        return out.text if out.status == 0 and is_full_sha(out.text) else None

    def tree_id(self, commit: str) -> str:
        return self.run("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}").text

    def candidates(self, prefix: str) -> list[str]:
        """Every commit whose id begins with ``prefix`` (7 to 40 hex digits), tags peeled."""
        ids = self.run("rev-parse", f"--disambiguate={prefix}", accept=None).text.split()
        found = {self.commit_id(one) for one in ids}
        return sorted(one for one in found if one)

    def has(self, *objects: str) -> bool:
        """Whether every object is here now, without fetching any."""
        if not objects:
            return True
        out = self.run(
            "cat-file", "--batch-check=%(objectname)", stdin="\n".join(objects).encode() + b"\n",
            env={"GIT_NO_LAZY_FETCH": "1"},
        )  # fmt: skip
        return b"missing" not in out.stdout

    def lacks(self, objects: Iterable[str]) -> set[str]:
        """Those of ``objects`` that are not here now, found without fetching any: an old git knows
        no GIT_NO_LAZY_FETCH, so it is told that nobody promised them."""
        wanted = sorted(set(objects))
        if not wanted:
            return set()
        out = self.run(
            "-c", "remote.origin.promisor=false", "cat-file", "--batch-check=%(objectname)",
            stdin="\n".join(wanted).encode() + b"\n",
        )  # fmt: skip
        said = (line.split(" ") for line in out.text.splitlines())
        return {one[0] for one in said if one[1:] == ["missing"]}

    def read_blobs(self, ids: Sequence[str]) -> Iterator[bytes]:
        """The contents of ``ids``, in order, from one process."""
        if not ids:
            return
        data = self.run("cat-file", "--batch", stdin="\n".join(ids).encode() + b"\n").stdout
        at = 0
        for wanted in ids:
            end = data.index(b"\n", at)
            head = data[at:end].split(b" ")
            if len(head) != 3:
                raise CannotRun(f"object {wanted} is missing", where=str(self.git_dir))
            size = int(head[2])
            yield data[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def read_commit(self, commit: str) -> Commit:
        """Parse a commit; raises CannotRun where it is not here."""
        raw = self.run("cat-file", "commit", commit).stdout.decode("utf-8", "surrogateescape")
        head, _, message = raw.partition("\n\n")
        fields: dict[str, list[str]] = {}
        for line in head.split("\n"):
            key, _, value = line.partition(" ")
            fields.setdefault(key, []).append(value)
        return Commit(
            tree=fields["tree"][0],
            parents=tuple(fields.get("parent", ())),
            author=parse_signature(fields["author"][0]),
            committer=parse_signature(fields["committer"][0]),
            message=message,
        )

    def entries(self, treeish: str, *paths: str) -> dict[str, tuple[str, str]]:
        """``path -> (mode, blob id)`` of the files of a tree, all or under ``paths``."""
        out = self.run("ls-tree", "-r", "-z", "--full-tree", treeish, "--", *paths).stdout
        found = {}
        for record in out.split(b"\0")[:-1]:
            meta, _, path = record.partition(b"\t")
            mode, _, blob = meta.decode().split(" ")
            found[path.decode("utf-8", "surrogateescape")] = (mode, blob)
        return found

    def missing_files(self, commit: str, *paths: str) -> set[str]:
        """The blobs of ``commit``'s files, all or under ``paths``, that a partial clone lacks."""
        out = self.run(  # the one command of old that looks for a blob without fetching it
            "rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk", commit
        )  # fmt: skip
        missing = {line[1:] for line in out.text.splitlines() if line.startswith("?")}
        wanted = self.entries(commit, *paths).values() if missing else ()
        return missing & {blob for _, blob in wanted}

    def changes(self, old: str, new: str) -> list[FileChange]:
        """The files that differ between two trees or commits; renames are not followed."""
        out = self.run("diff-tree", "-r", "-z", "--no-renames", "--raw", old, new).stdout
        fields = out.decode("utf-8", "surrogateescape").split("\0")[:-1]
        if fields and not fields[0].startswith(":"):
            fields = fields[1:]
        return [
            FileChange(meta.split(" ")[4], path, meta.split(" ")[2], meta.split(" ")[3])
            for meta, path in zip(fields[::2], fields[1::2], strict=True)
        ]

    def ahead_by(self, ancestor: str, commit: str) -> int | None:
        """How many commits ``commit`` is ahead of ``ancestor``; None where it does not descend
        from it, as far as the history that is here can tell."""
        if not self.has(ancestor):
            return None
        ancestry = self.run("merge-base", "--is-ancestor", ancestor, commit, accept=(0, 1, 128))
        if ancestry.status != 0:
            return None
        return int(self.run("rev-list", "--count", f"{ancestor}..{commit}").text)

    def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """``blob id -> bytes``, from one process."""
        if not blobs:
            return {}
        asked = "\n".join(blobs).encode() + b"\n"
        out = self.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
        return {blob: int(size) for blob, size in map(str.split, out.text.splitlines())}

    # -- writing objects -------------------------------------------------------------------

    @contextmanager
    def scratch_index(self, treeish: str) -> Iterator[Path]:
        """A private index holding ``treeish``; removed at the end."""
        with tempfile.TemporaryDirectory(prefix="fixtool-index-") as folder:
            index = Path(folder) / "index"
            self.run("read-tree", treeish, index=index)
            yield index

    def apply_to_index(self, index: Path, diff: bytes) -> Output:
        """`git apply --cached`: all of ``diff`` or nothing. Status 0 is applied, 1 is does not
        fit, anything else is a diff that git cannot read."""
        return self.run("apply", "--cached", "--binary", "-", stdin=diff, index=index, accept=None)

    def write_tree(self, index: Path) -> str:
        # Without --missing-ok, git looks every blob up, and a partial clone fetches the whole tree.
        return self.run("write-tree", "--missing-ok", index=index).text

    def write_trees(self, contents: Sequence[Mapping[str, tuple[str, str]]]) -> list[str]:
        """Store trees of ``path -> (mode, blob id)``: one process for each depth of folders,
        however many trees. The blobs need not be here."""
        folders: dict[tuple[int, str], dict[str, str]] = {}  # (which, folder) -> name -> entry
        for which, files in enumerate(contents):
            folders.setdefault((which, ""), {})
            for path, (mode, blob) in files.items():
                parts = path.split("/")
                for depth in range(1, len(parts)):
                    folders.setdefault((which, "/".join(parts[:depth])), {})
                kind = "commit" if mode == "160000" else "blob"
                place = folders[which, "/".join(parts[:-1])]
                place[parts[-1]] = f"{mode} {kind} {blob}\t{parts[-1]}"
        deepest = max((_depth(folder) for _, folder in folders), default=0)
        made: dict[tuple[int, str], str] = {}
        for depth in range(deepest, -1, -1):
            level = [one for one in folders if _depth(one[1]) == depth]
            lists = ["".join(f"{entry}\0" for entry in folders[one].values()) for one in level]
            text = "\0".join(lists).encode("utf-8", "surrogateescape")
            ids = self.run("mktree", "-z", "--missing", "--batch", stdin=text + b"\0").text.split()
            for (which, folder), tree in zip(level, ids, strict=True):
                made[which, folder] = tree
                if folder:
                    parent, _, name = folder.rpartition("/")
                    folders[which, parent][name] = f"040000 tree {tree}\t{name}"
        return [made[which, ""] for which in range(len(contents))]

    def write_commit(self, commit: Commit) -> str:
        """Store a commit, byte for byte as given: no cleanup, no signature, no user identity."""
        lines = [f"tree {commit.tree}"]
        lines += [f"parent {parent}" for parent in commit.parents]
        lines += [f"author {commit.author}", f"committer {commit.committer}", "", commit.message]
        raw = "\n".join(lines).encode("utf-8", "surrogateescape")
        return self.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).text

    def merge(self, base: str, ours: str, theirs: str) -> Merge:
        """Merge commit ``theirs`` (a child of ``base``) into the tree of commit ``ours``.

        git 2.39 has no `merge-tree --merge-base`, so the merge is given a stand-in for ``ours``:
        its tree, as a child of ``base``, which makes ``base`` the only merge base.
        """
        stand_in = self.write_commit(
            Commit(
                self.tree_id(ours), (base,), MACHINE, MACHINE, "stand-in for a three-way merge\n"
            )
        )
        out = self.run(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", stand_in, theirs,
            accept=(0, 1),
        )  # fmt: skip
        fields = out.stdout.decode("utf-8", "surrogateescape").split("\0")
        return Merge(fields[0], tuple(path for path in fields[1:] if path))

    # -- refs and work trees ---------------------------------------------------------------

    def update_refs(self, updates: Sequence[tuple[str, str, str | None]], reason: str) -> None:
        """Move refs in one transaction: ``(ref, new, old)``; ``old`` None means it may not exist.
        All move or none does."""
        lines = ["start"]
        lines += [f"update {ref} {new} {old or ZERO}" for ref, new, old in updates]
        lines += ["prepare", "commit", ""]
        self.run(
            "update-ref",
            "--create-reflog",
            "-m",
            reason,
            "--stdin",
            stdin="\n".join(lines).encode(),
        )

    def ref(self, name: str) -> str | None:
        out = self.run("rev-parse", "--verify", "--quiet", name, accept=None)
        return out.text if out.status == 0 else None

    def status(self) -> list[str]:
        """Paths that differ from HEAD or are untracked, as `git status` sees them."""
        out = self.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal")
        return [
            entry[3:]
            for entry in out.stdout.decode("utf-8", "surrogateescape").split("\0")
            if entry
        ]

    def head(self) -> str | None:
        return self.commit_id("HEAD")


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _check_version() -> None:
    try:
        text = Git().execute(["git", "version"], with_extended_output=False)
    except GitCommandNotFound as error:
        raise CannotRun("git is not on PATH", hint="install git 2.38 or newer") from error
    match = re.search(r"(\d+)\.(\d+)", str(text))
    if not match or tuple(map(int, match.groups())) < OLDEST_GIT:
        raise CannotRun(
            f"{str(text).strip()} is too old: fixtool merges in the object database, which came "
            f"with git {'.'.join(map(str, OLDEST_GIT))}",
            hint="install git 2.38 or newer and put it first on PATH",
        )
    Repo._version_checked = True
