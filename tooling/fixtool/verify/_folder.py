"""The folder from which a runner runs a plan: here, or packed with a site of wheels on a GPU host
without a network."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from fixtool.files import require_plain
from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.progress import Progress
from fixtool.sources.target import python_folder
from fixtool.verify._plan import Planned
from fixtool.verify.kit import lay_kit
from fixtool.verify.runner.run import SCHEMA

_BATCH = 512  # blobs read at a time
_START = "import sys\n\nfrom fixtool.verify.runner.run import main\n\nsys.exit(main())\n"
_OLD = 315532800  # 1980: an archive's bytes depend on its files alone


def write_folder(planned: Planned, folder: Path, progress: Progress, *, xz: bool) -> None:
    """Write what the runner needs to ``folder``. ``xz`` compresses it, for another host. Raises
    Refused if verify/ holds a link or a device, which could lead to any file of the user's."""
    require_plain(planned.suite.folder)
    plan, repo = planned.plan, planned.repo
    onto = plan.about["onto"]
    files = list_tree(repo, onto, *filter(None, [python_folder(repo, onto)]))
    document = {
        "schema": SCHEMA,
        "about": plan.about,
        "trees": {
            tree.name: {
                "folder": tree.name, "how": tree.how, "python_tree": tree.python_tree,
                "changes": tree.changes, "touched": plan.touched,
            }
            for tree in plan.trees
        },
        "missing": [asdict(tree) for tree in plan.missing],
        "steps": [asdict(step) for step in plan.steps],
    }  # fmt: skip
    (folder / "blobs").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(document, indent=1), "utf-8")
    lay_kit(folder)
    (folder / "run.py").write_text(_START, "utf-8")
    shutil.copytree(
        planned.suite.folder, folder / "verify",
        ignore=shutil.ignore_patterns("results", "__pycache__", "*.pyc"),
    )  # fmt: skip
    new = {blob: data for tree in plan.trees for blob, data in tree.new_blobs.items()}
    changed = {entry.blob for tree in plan.trees for entry in tree.changes.values() if entry}
    stored = sorted(changed - set(new))
    for blob, data in (*zip(stored, repo.read_blobs(stored), strict=True), *new.items()):
        (folder / "blobs" / blob).write_bytes(data)
    name, mode = ("base.tar.xz", "w:xz") if xz else ("base.tar", "w")
    with (
        progress.task("packing the base", len(files)) as task,
        tarfile.open(folder / name, mode) as tar,  # type: ignore[call-overload]
    ):
        for path, kind, data in _contents(repo, files):
            add_file(tar, path, data, kind)
            task.advance(1)


def add_file(tar: tarfile.TarFile, path: str, data: bytes, mode: str = "100644") -> None:
    """Add a file of git's ``mode``. Its header holds nothing that differs between machines."""
    info = tarfile.TarInfo(path)
    info.mtime = _OLD
    if mode == "120000":
        info.type, info.linkname = tarfile.SYMTYPE, data.decode("utf-8", "surrogateescape")
        tar.addfile(info)
        return
    info.size, info.mode = len(data), 0o755 if mode == "100755" else 0o644
    tar.addfile(info, io.BytesIO(data))


def _contents(repo: Repo, files: Mapping[str, TreeEntry]) -> Iterator[tuple[str, str, bytes]]:
    """Path, mode and content of every file; a submodule has none."""
    items = [(path, entry) for path, entry in sorted(files.items()) if entry.mode != "160000"]
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        contents = repo.read_blobs([entry.blob for _, entry in batch])
        for (path, entry), data in zip(batch, contents, strict=True):
            yield path, entry.mode, data
