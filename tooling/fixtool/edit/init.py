"""Starting a patch repository, or a line in one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fixtool.errors import Refused, UsageError
from fixtool.files import temporary_folder, write_atomically
from fixtool.progress import Progress
from fixtool.series.line import Line, Upstream, read_line
from fixtool.series.patch import is_slug
from fixtool.series.write import rewrite, upstream_toml
from fixtool.settings import load
from fixtool.sources.resolve import day_of, version_of
from fixtool.sources.source import open_source

_UPSTREAM = "https://github.com/sgl-project/sglang.git"
_SERIES = "# One patch file a line, in the order in which they apply; quilt reads this file too.\n"
_FILES = {
    ".gitattributes": "# Patch files are data: no tool may touch their bytes.\npatches/** -text\n",
    ".gitignore": "patches/.lock\n",
    "pyproject.toml": '[tool.fixtool]\nsource = "git"\n',
}
_TEMPLATES = Path(__file__).with_name("templates")
_PROBES = {"README.md": "probes.md", "example.py": "example_probe.py"}


def init(
    folder: Path,
    upstream: str,
    base: str,
    name: str | None,
    why: str,
    progress: Progress,
    *,
    wheel_version: str | None = None,
) -> Line:
    """Make ``folder/patches/<name>/`` with an empty series on ``base``, and an example probe in
    ``folder/verify/``. Existing files, and an existing verify/, are kept. Raises Refused if the
    line exists."""
    settings = load(None)
    source = open_source(upstream, settings, upstream, progress)
    target = source.resolve(base)
    version = target.version if target.release else None
    if wheel_version and version_of(wheel_version) != wheel_version:
        raise UsageError(f"--wheel-version {wheel_version!r} is not a release such as 0.5.23")
    name = name or (f"v{version}" if version else target.commit[:9])
    if not is_slug(name):
        raise UsageError(f"{name!r} is not usable as a folder's name", hint="--line NAME")
    line = folder / "patches" / name
    if line.exists():
        raise Refused(f"line {name} exists already", where=str(line), hint="--line OTHER-NAME")
    about = Upstream(
        url=upstream if re.match(r"[a-z]+://|[\w.-]+@", upstream) else _UPSTREAM,
        base=target.commit,
        tree=target.tree,
        release=version,
        version=version or wheel_version or target.version or "0.0.0",
        date=day_of(target, source.repo),
    )
    why = why or f"patches on SGLang {version or target.commit[:12]}"
    _write_files_around(folder)
    # The line comes last: once it is there, the same command is refused.
    rewrite(line, {"series": _SERIES.encode(), "upstream.toml": upstream_toml(about, why).encode()})
    return read_line(line)


def _write_files_around(folder: Path) -> None:
    """Write the files of a new patch repository that are not there yet, each whole or not at all:
    those that a run wrote which then failed are kept by the next one."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in _FILES.items():
        if not (folder / file).exists():
            write_atomically(folder / file, text)
    if not (folder / "verify").exists():
        with temporary_folder(".verify.new-", folder) as scratch:
            (scratch / "verify/probes").mkdir(parents=True)
            for file, template in _PROBES.items():
                shutil.copyfile(_TEMPLATES / template, scratch / "verify/probes" / file)
            (scratch / "verify").rename(folder / "verify")
