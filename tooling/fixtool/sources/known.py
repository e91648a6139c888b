"""The names of refs and releases that this machine has seen. No network is asked for them: they are
for completion, and for a guess at what a person meant."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fixtool.errors import FixtoolError
from fixtool.files import read_at_most
from fixtool.git.repo import Repo
from fixtool.series.line import Upstream
from fixtool.settings import Settings
from fixtool.sources.resolve import short_name
from fixtool.sources.source import KEPT_REFS, remote_store
from fixtool.text import split_lines

_LARGEST = 16 << 20  # bytes
_RELEASES = "refs/fixtool/releases"


def known_refs(upstream: Upstream, settings: Settings, source: str = "") -> tuple[str, ...]:
    """The tags, branches and releases of ``upstream`` that are known without a network, in the
    ``source`` of that name, or else in the line's own; none if nothing can be read."""
    name = source or settings.source or ("pypi" if upstream.release else "git")
    settings = upstream.settings(settings)
    with suppress(FixtoolError, OSError):
        if name == "pypi":
            return _releases(settings)
        if "/" in name and "://" not in name and (path := Path(name).expanduser()).is_dir():
            return _of_clone(path)
        return _kept(remote_store(settings, upstream.url if name == "git" else name))
    return ()


def _releases(settings: Settings) -> tuple[str, ...]:
    """The releases that were imported, and those whose wheels lie in the cache."""
    project = settings.indexed
    stores = settings.stores.glob(f"pypi-{project}*.git")
    refs = [name for store in stores for name in Repo(store).ref_names(_RELEASES)]
    found = [name.rpartition("/")[2] for name in refs]
    wheels = (settings.cache / "releases").glob("*/*.whl")
    prefix = f"{project.replace('-', '_')}-"
    found += [
        path.name.split("-")[1]
        for path in wheels
        if path.name.lower().startswith(prefix) and path.name.count("-") >= 4
    ]
    return tuple(dict.fromkeys(found))


def _of_clone(path: Path) -> tuple[str, ...]:
    clone = Repo.open(path, bare=True)
    names = clone.ref_names("refs/tags", "refs/heads", "refs/remotes/origin")
    return tuple(dict.fromkeys(map(short_name, names)))


def _kept(store: Path) -> tuple[str, ...]:
    """The refs of a remote, as they were when fixtool last looked one up."""
    text = read_at_most(store / KEPT_REFS, _LARGEST).decode("utf-8", "replace")
    return tuple(dict.fromkeys(map(short_name, split_lines(text))))
