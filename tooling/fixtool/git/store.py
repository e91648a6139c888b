"""A store: a bare repository of fixtool's own, filled from elsewhere and written by nobody else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fixtool.errors import CannotRun
from fixtool.files import write_atomically
from fixtool.git.names import public_url, redact
from fixtool.git.objects import Oid, parse_oid
from fixtool.git.repo import Output, Repo
from fixtool.git.trees import missing_files

# What a user needs to reach the network: proxies, certificates, credentials, mirrors. Nothing else
# of their configuration may shape a result.
_NETWORK_KEYS = r"^(http|https|credential|url|ssh)\.|^core\.(sshcommand|askpass|gitproxy)$"

_IGNORED = "__pycache__/\n*.py[cod]\n*.so\n*.egg-info/\n_version.py\n"  # what a build leaves


class Store(Repo):
    """A store that is ``online`` may fetch missing objects from inside any command (it is a partial
    clone), so it carries the user's network settings on every call."""

    def __init__(self, git_dir: Path, *, online: bool = False) -> None:
        super().__init__(git_dir)
        if online:
            self._carry(self._network_settings())

    @classmethod
    def create(cls, git_dir: Path, *, online: bool = False) -> Store:
        """A bare repository at ``git_dir``, made if it is not there; safe against a killed run."""
        store = cls(git_dir, online=online)
        if not (git_dir / "HEAD").exists():
            git_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(
                prefix=f".{git_dir.name}.", dir=git_dir.parent
            ) as staging:
                fresh = Path(staging) / "repo.git"
                fresh.mkdir()
                cls(fresh)._execute(
                    ["init", "--quiet", "--bare", "--template=", str(fresh)], bare_call=True
                )
                (fresh / "info").mkdir(exist_ok=True)
                (fresh / "info" / "exclude").write_text(_IGNORED)
                try:
                    fresh.rename(git_dir)
                except OSError:
                    if not (git_dir / "HEAD").exists():  # else another run was first
                        raise
        return store

    def borrow(self, lender: Repo) -> None:
        """Read the objects of ``lender`` without copying them."""
        folder = str(lender.objects_folder)
        listed = self.git_dir / "objects" / "info" / "alternates"
        known = listed.read_text().splitlines() if listed.exists() else []
        if folder not in known:
            listed.parent.mkdir(exist_ok=True)
            write_atomically(listed, "".join(f"{one}\n" for one in [*known, folder]))
        shallow = lender.objects_folder.with_name("shallow")
        if shallow.exists():  # else git would miss the parents that a shallow clone does not have
            (self.git_dir / "shallow").write_bytes(shallow.read_bytes())

    def log_in(self, url: str) -> str:
        """``url`` without the login that it may hold, which every later call uses: it is neither
        written to disk nor shown to whoever lists processes."""
        public = public_url(url)
        if public != url:
            self._carry([(f"url.{url}.insteadOf", public)])
        return public

    def remote_refs(self, url: str, *patterns: str) -> dict[str, Oid]:
        """``ref -> id`` of the branches and tags at ``url``, tags peeled; CannotRun where it cannot
        be reached. (SGLang's repository has fifty refs of pull requests to one of these.)"""
        out = self.run(
            "ls-remote", "--quiet", "--heads", "--tags", "--end-of-options", url, *patterns,
            accept=None,
        )  # fmt: skip
        if out.status != 0:
            raise CannotRun(f"cannot reach {url}: {redact(out.complaint)}", where=url)
        refs: dict[str, Oid] = {}
        for line in out.text.splitlines():
            sha, _, name = line.partition("\t")
            # The line of what an annotated tag points to comes after the tag's own line.
            refs[name.removesuffix("^{}")] = parse_oid(sha, url)
        return refs

    def fetch(
        self, url: str, wants: Sequence[str], *, hear: Callable[[str], None] | None = None
    ) -> Output:
        """Fetch ``wants`` (full ids or refs) from ``url``, one commit deep, without blobs: what a
        checkout or a merge then needs comes in one batch. The status is the caller's to judge."""
        self._promise(url)
        quiet = ["--progress"] if hear else ["--quiet"]
        return self.run(
            "-c", "fetch.unpackLimit=1", "fetch", *quiet, "--no-tags", "--no-write-fetch-head",
            "--depth=1", "--filter=blob:none", "--no-auto-maintenance",
            "--end-of-options", "origin", *wants, accept=None, hear=hear,
        )  # fmt: skip

    def fetch_files(self, commit: str, *paths: str) -> Output:
        """Fetch the files of ``commit``, all or under ``paths``, that are not here: in one request,
        from where the last fetch went. The status is the caller's to judge."""
        return self.fetch_blobs(missing_files(self, commit, *paths))

    def fetch_history(self, url: str, wants: Sequence[str], since: str) -> Output:
        """Fetch ``wants`` with the commits after the day ``since`` (ISO 8601) that lead to them,
        without blobs. The status is the caller's to judge."""
        self._promise(url)
        return self.run(
            "-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            f"--shallow-since={since}", "--filter=blob:none", "--no-auto-maintenance",
            "--end-of-options", "origin", *wants, accept=None,
        )  # fmt: skip

    def fetch_blobs(self, missing: Iterable[Oid]) -> Output:
        """Fetch blobs by their ids, in one request, from where the last fetch went."""
        missing = set(missing)
        if not missing:
            return Output(0, b"", "")
        return self.run(
            "-c", "fetch.unpackLimit=1", "-c", "fetch.negotiationAlgorithm=noop", "fetch",
            "--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none",
            "--no-auto-maintenance", "--recurse-submodules=no", "--stdin", "origin",
            stdin="".join(f"{one}\n" for one in sorted(missing)).encode(), accept=None,
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
        """The user's own settings that reach the network, as ``(key, value)``."""
        out = self.run_as_user("config", "--includes", "--null", "--get-regexp", _NETWORK_KEYS)
        pairs = [one.partition("\n") for one in out.split("\0")]
        return [(key, value) for key, newline, value in pairs if newline]
