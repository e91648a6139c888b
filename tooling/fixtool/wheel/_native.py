"""Builds a git tree with the project's own build system, which compiles its native code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fixtool import isolation
from fixtool.errors import CannotRun
from fixtool.files import temporary_folder
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, scratch_index
from fixtool.interpreter import absolute, last_line
from fixtool.progress import Progress
from fixtool.sources.release import open_wheel
from fixtool.wheel._archive import (
    File,
    WheelPlan,
    is_native_member,
    module_name,
    read_info,
    root_of,
    split_members,
)
from fixtool.wheel._metadata import plan_from_tree


@contextmanager
def compiled_plan(
    repo: Repo, commit: str, version: str, python: str, progress: Progress
) -> Iterator[WheelPlan]:
    """The plan of a wheel with all files of the wheel that the project's own build makes of
    ``commit`` for ``python``. It is usable inside the block only.

    Raises CannotRun if a compiler is missing or the build fails, and what ``plan_from_tree`` does.
    """
    for program in ("cargo", "protoc"):
        if not shutil.which(program):
            raise CannotRun(
                f"--native compiles Rust, and there is no {program} on PATH",
                hint=f"install {program}, or leave --native out: Python-only patches need no "
                "compiler",
            )
    plan = plan_from_tree(repo, commit, version)
    with temporary_folder("fixtool-native-") as folder:
        with progress.task(f"compile {plan.name} {version}"):
            path = _compile(repo, commit, version, python, folder)
        with open_wheel(path) as archive:
            info, content = split_members(archive)
            plan.tag = path.stem.split("-", 2)[2]
            plan.info = read_info(archive, info, version)
            plan.files = [
                File(
                    member.filename,
                    partial(archive.read, member),
                    bool(member.external_attr >> 16 & 0o111),
                )
                for member in content
            ]
            plan.kept = [member.filename for member in content if is_native_member(archive, member)]
            built = {module_name(name) for name in plan.kept}
            plan.missing = [module for module in plan.missing if module not in built]
            plan.notes = [note for note in plan.notes if note.split(" ")[0] not in built]
            yield plan


def _compile(repo: Repo, commit: str, version: str, python: str, folder: Path) -> Path:
    """Build in a checkout below ``folder``, and return the wheel, which is there too."""
    tree, wheels = folder / "tree", folder / "wheels"
    tree.mkdir()
    with scratch_index(repo, commit) as scratch:
        repo.with_work_tree(tree).run("checkout-index", "--all", index=scratch)
    root = tree / root_of(list_tree(repo, commit))
    for name in ("README.md", "LICENSE"):  # as upstream's release script does
        if (tree / name).is_file() and not (root / name).exists():
            shutil.copy(tree / name, root / name)
    process = isolation.run(
        [absolute(python), "-m", "pip", "wheel", "--no-deps", "--no-input",
         "--wheel-dir", str(wheels), str(root)],
        folder=os.sep, environment={**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": version},
    )  # fmt: skip
    built = list(wheels.glob("*.whl"))
    if process.returncode != 0 or len(built) != 1:
        raise CannotRun(
            f"the native build failed: {last_line(process)}",
            hint="crates come from the network: see that cargo can reach its registry, or leave "
            "--native out",
        )
    return built[0]
