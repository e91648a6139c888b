"""Stores: bare repositories to which only fixtool writes, with objects from a source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from fixtool.errors import CannotRun
from fixtool.files import temporary_folder, write_atomically
from fixtool.git.objects import Oid, parse_oid
from fixtool.git.process import ALLOWED_PROTOCOLS
from fixtool.git.repo import Output, Repo
from fixtool.git.trees import missing_files
from fixtool.text import late_pattern, public_url, redact, split_lines

# The user's settings that reach the network: proxies, certificates, credentials, mirrors. No other
# setting of theirs may affect a result.
_NETWORK_KEYS = r"^(http|https|credential|url|ssh)\.|^core\.(sshcommand|askpass|gitproxy)$"

_NO_FILTER = "filtering not recognized by server"  # git's warning before it fetches everything
# The settings that a store may have: its format, what ``fetch`` writes, and what people set in work
# trees of it. No value of these is run as a program.
_STORED_KEYS = late_pattern(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode"
    r"|symlinks|commentchar|abbrev|sparsecheckout|sparsecheckoutcone)"
    r"|extensions\.(objectformat|worktreeconfig|relativeworktrees)"
    r"|remote\..*\.(url|pushurl|fetch|promisor|partialclonefilter|tagopt|prune)"
    r"|branch\..*\.(remote|merge|pushremote|rebase|description)"
    r"|(user|author|committer)\.(name|email|signingkey)"
    r"|(pull|push|rebase|rerere|advice|color|column|index|pack|status|versionsort|commit)\..*"
    r"|merge\.(conflictstyle|renames|directoryrenames|ff|log|stat)"
    r"|diff\.(algorithm|renames|context|colormoved|mnemonicprefix|noprefix)"
)
_AS_MADE = late_pattern(
    rb"\[core\]\n(\t(repositoryformatversion = [01]|(filemode|bare|ignorecase|precomposeunicode) = "
    rb"(true|false))\n)*"
)
"""A configuration with nothing but settings that a store may have, as ``git init`` writes it."""


def restore_settings_behind(tree: Repo, stores: Path) -> None:
    """Like ``Store.restore_settings``, for the store that the work tree ``tree`` belongs to, if it
    is one of fixtool's ``stores``. A checkout of the user's keeps its settings."""
    common = tree.objects_folder.parent
    if common.parent == stores.resolve():
        Store(common).restore_settings()


_IGNORED = "__pycache__/\n*.py[cod]\n*.so\n*.egg-info/\n_version.py\n"  # what a build leaves


def _patience(timeout: float) -> list[tuple[str, str]]:
    """The settings with which git gives up a connection that brings nothing. A server that computes
    sends a few bytes every five seconds."""
    seconds = str(max(1, round(timeout)))
    settings = [("http.lowSpeedLimit", "1"), ("http.lowSpeedTime", seconds)]
    if "GIT_SSH" not in os.environ:  # which a setting would outdo
        alive = f"-o ConnectTimeout={seconds} -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        settings.append(("core.sshCommand", f"ssh {alive}"))
    return settings


class Store(Repo):
    """A bare repository that borrows or fetches objects. An ``online`` store is a partial clone:
    any git command may fetch missing objects, so every call gets the user's network settings.

    ``received`` is how many bytes of commits have been fetched (`CommitStore.fetch_commit`).
    """

    received = 0

    def __init__(self, git_dir: Path, *, online: bool = False, timeout: float = 60.0) -> None:
        """``timeout`` is after how many seconds without a byte a connection is given up, unless the
        user's own git settings say so. A whole call may take sixty times as long."""
        super().__init__(git_dir)
        self._online = online
        if online:
            self._limit = 60 * timeout
            self._environment["GIT_ALLOW_PROTOCOL"] = ALLOWED_PROTOCOLS
            self._carry(_patience(timeout))
            self._carry(self._network_settings())

    @classmethod
    def create(cls, git_dir: Path, *, online: bool = False, timeout: float = 60.0) -> Self:
        """The store at ``git_dir``, which is made if it is not there: whole, or not at all."""
        store = cls(git_dir, online=online, timeout=timeout)
        if not (git_dir / "HEAD").exists():
            git_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with temporary_folder(f".{git_dir.name}.", git_dir.parent) as staging:
                fresh = staging / "repo.git"
                fresh.mkdir()
                cls(fresh)._execute(
                    # The entries of work trees are written in the format of these refs.
                    [
                        "-c",
                        "init.defaultRefFormat=files",
                        "init",
                        "--quiet",
                        "--bare",
                        "--template=",
                        str(fresh),
                    ],
                    bare_call=True,
                )
                (fresh / "info").mkdir(exist_ok=True)
                (fresh / "info" / "exclude").write_text(_IGNORED)
                try:
                    fresh.rename(git_dir)
                except OSError:
                    if not (git_dir / "HEAD").exists():  # otherwise another run was first
                        raise
        store.restore_settings()
        return store

    def restore_settings(self) -> None:
        """Remove what is in the store's configuration beside the settings that a store may have.
        Code of others that ran in a work tree of this store may have named programs there, which
        the next fetch or push would run, and so the next look at the files of a work tree."""
        for file in (self.git_dir / "config", *self.git_dir.glob("worktrees/*/config.worktree")):
            with suppress(OSError):
                if _AS_MADE.fullmatch(file.read_bytes()):
                    continue  # to ask git takes longer
            config = ("config", "--file", str(file))
            listed = self.run(*config, "--no-includes", "--null", "--list").stdout
            entries = listed.decode("utf-8", "surrogateescape").split("\0")
            for key in dict.fromkeys(entry.partition("\n")[0] for entry in entries if entry):
                if not _STORED_KEYS.fullmatch(key):
                    self.run(*config, "--unset-all", key, accept=(0, 5))

    def borrow(self, lender: Repo) -> None:
        """Make the objects of ``lender`` readable here without copying them."""
        folder = str(lender.objects_folder)
        alternates = self.git_dir / "objects" / "info" / "alternates"
        folders = split_lines(alternates.read_text()) if alternates.exists() else []
        if folder not in folders:
            alternates.parent.mkdir(exist_ok=True)
            write_atomically(alternates, "\n".join([*folders, folder, ""]))
        self._borrow_shallow([*folders, folder])

    def _borrow_shallow(self, folders: Sequence[str]) -> None:
        """Note which parents the lenders lack: otherwise git would look for what a shallow clone
        does not have. What a lender has had fetched since the last time is no longer lacking."""
        files = [Path(folder).with_name("shallow") for folder in folders]
        lacking = {line for file in files if file.exists() for line in file.read_text().split()}
        if self._online:
            lacking |= self.shallow  # what this store itself has fetched one commit deep
        if lacking and lacking != self.shallow:
            text = "".join(f"{commit}\n" for commit in sorted(lacking))
            write_atomically(self.git_dir / "shallow", text)
        elif not lacking:
            (self.git_dir / "shallow").unlink(missing_ok=True)

    def log_in(self, url: str) -> str:
        """Use the login in ``url``, if it has one, in every later call, and return ``url`` without
        it. The login is neither written to disk nor visible in a list of processes."""
        public = public_url(url)
        if public != url:
            self._carry([(f"url.{url}.insteadOf", public)])
        return public

    def remote_refs(self, url: str, *patterns: str) -> dict[str, Oid]:
        """The branches and tags at ``url`` by their full names, tags peeled. Raises CannotRun if it
        cannot be reached. (SGLang's repository has fifty refs of pull requests to one of these.)"""
        out = self.run(
            "ls-remote", "--quiet", "--heads", "--tags", "--end-of-options", url, *patterns,
            accept=None,
        )  # fmt: skip
        if out.status != 0:
            raise CannotRun(f"cannot reach {url}: {redact(out.complaint)}", where=url)
        refs: dict[str, Oid] = {}
        for line in split_lines(out.text):
            sha, _, name = line.partition("\t")
            # The line of what an annotated tag points to comes after the tag's own line.
            refs[name.removesuffix("^{}")] = parse_oid(sha, url)
        return refs

    def fetch(
        self, url: str, wants: Sequence[str], *, advance: Callable[[int], None] | None = None
    ) -> Output:
        """Fetch ``wants`` (full ids or refs) from ``url``, one commit deep and without blobs: a
        checkout or a merge then fetches the blobs that it needs in one batch. ``advance`` gets the
        number of objects that have come since its last call. The caller has to check the status."""
        self._promise(url)
        hear = _hearer(advance) if advance else None
        loudness = "--progress" if hear else "--quiet"
        return self._fetch(loudness, "--depth=1", "--end-of-options", "origin", *wants, hear=hear)

    def fetch_files(self, commit: str, *paths: str) -> Output:
        """Fetch the missing files of ``commit`` at or below ``paths`` (none: all its files), with
        one request, from the URL of the last fetch. The caller has to check the status."""
        return self.fetch_blobs(missing_files(self, commit, *paths))

    def fetch_history(self, url: str, wants: Sequence[str], since: str) -> Output:
        """Fetch ``wants`` and their history since the day ``since`` (ISO 8601), without blobs. The
        caller has to check the status."""
        self._promise(url)
        since = f"--shallow-since={since}"
        return self._fetch("--quiet", since, "--end-of-options", "origin", *wants)

    def fetch_blobs(self, missing: Iterable[Oid]) -> Output:
        """Fetch blobs by their ids, with one request, from the URL of the last fetch. The caller
        has to check the status."""
        missing = set(missing)
        if not missing:
            return Output(0, b"", "")
        ids = "".join(f"{blob}\n" for blob in sorted(missing)).encode()
        return self._fetch(
            "--quiet", "--recurse-submodules=no", "--stdin", "origin",
            negotiate=False, stdin=ids,
        )  # fmt: skip

    def _fetch(
        self,
        *args: str,
        negotiate: bool = True,
        stdin: bytes | None = None,
        hear: Callable[[str], None] | None = None,
    ) -> Output:
        settings = ["-c", "fetch.unpackLimit=1"]
        settings += [] if negotiate else ["-c", "fetch.negotiationAlgorithm=noop"]
        return self.run(
            *settings, "fetch", "--no-tags", "--no-write-fetch-head", "--filter=blob:none",
            "--no-auto-maintenance", *args, stdin=stdin, accept=None, hear=hear,
        )  # fmt: skip

    def _promise(self, url: str) -> None:
        wanted = {
            "remote.origin.url": url,
            "remote.origin.promisor": "true",
            "remote.origin.partialCloneFilter": "blob:none",
        }
        for key, value in wanted.items():
            if self.run("config", "--get", key, accept=None).text != value:
                self.run("config", key, value)

    def _network_settings(self) -> list[tuple[str, str]]:
        """The user's settings that reach the network."""
        out = self.run_as_user("config", "--includes", "--null", "--get-regexp", _NETWORK_KEYS)
        pairs = [entry.partition("\n") for entry in out.split("\0")]
        return [(key, value) for key, newline, value in pairs if newline]


class CommitStore(Store):
    """A bare repository of commits, each with all its ancestors, and without trees and files.

    No git command on it fetches what it lacks, since git is not told where that could be had.
    """

    def fetch_commit(self, url: str, commit: Oid, hear: Callable[[str], None]) -> Output:
        """Fetch ``commit`` and those of its ancestors that are not here. ``hear`` gets git's
        progress. The caller has to check the status, and lets one run at a time fetch.

        Raises CannotRun if the server cannot send commits alone. git would then fetch all files of
        the whole history.
        """

        def listen(line: str) -> None:
            if _NO_FILTER in line:
                raise CannotRun(
                    f"{url} cannot send commits without their files (it does not support filters)",
                    where=url,
                )
            hear(line)

        for partial in self._packs_folder.glob("tmp_*"):
            partial.unlink()  # a run that was killed left it
        before = self._packs()
        ref = f"refs/commits/{commit}"  # by the refs, git tells the server what is here
        remote = {"url": url, "promisor": "true", "partialCloneFilter": "tree:0"}
        settings = [word for key, value in remote.items()
                    for word in ("-c", f"remote.origin.{key}={value}")]  # fmt: skip
        out = self.run(
            *settings, "-c", "fetch.unpackLimit=1", "fetch", "--progress", "--no-tags",
            "--no-write-fetch-head", "--no-auto-maintenance", "--recurse-submodules=no",
            "--filter=tree:0", "--end-of-options", "origin",
            f"{commit}:{ref}",
            accept=None, hear=listen,
            # Parents that a shallow server does not have would be asked for again and again.
            env={"GIT_NO_LAZY_FETCH": "1"},
        )  # fmt: skip
        new = self._packs() - before
        if out.status == 0 and self.ref(ref):
            self.received += sum(pack.stat().st_size for pack in new)
        else:  # what a shallow server sent, and git refused, must not look whole
            for file in (file for pack in new for file in pack.parent.glob(f"{pack.stem}.*")):
                file.unlink()
        return out

    def _packs(self) -> set[Path]:
        return set(self._packs_folder.glob("*.pack"))

    @property
    def _packs_folder(self) -> Path:
        return self.git_dir / "objects" / "pack"


def _hearer(advance: Callable[[int], None]) -> Callable[[str], None]:
    """What reads the lines of git's progress, and tells ``advance`` how many more objects came."""
    # GitPython runs `git version` when it is imported. It must take the git on PATH, like every
    # call of ours.
    os.environ.pop("GIT_PYTHON_GIT_EXECUTABLE", None)
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    from git.util import RemoteProgress  # it takes longer to import than most commands take

    class Received(RemoteProgress):
        known = 0

        def update(self, op_code: int, cur_count: str | float, *_: object) -> None:
            if op_code & self.OP_MASK == self.RECEIVING:
                advance(int(cur_count) - self.known)
                self.known = int(cur_count)

    return Received().new_message_handler()
