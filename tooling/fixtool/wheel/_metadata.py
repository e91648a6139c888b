"""Plans the wheel of a git tree, as its python/pyproject.toml describes it."""

from __future__ import annotations

import posixpath
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fixtool.errors import CannotRun, Refused
from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.wheel._archive import (
    PURE_TAG,
    ROOT,
    WheelPlan,
    add_version_file,
    missing_note,
    read_file,
    tracked,
    wheel_text,
)


def plan_from_tree(repo: Repo, commit: str, version: str) -> WheelPlan:
    """The plan of a wheel of ``commit``, as its python/pyproject.toml describes it.

    The wheel has the files that setuptools and setuptools-scm would choose: every tracked file
    below a package directory, namespace packages too.

    Raises CannotRun if the tree or its pyproject.toml is not of the form that fixtool can follow,
    Refused if the metadata is not valid.
    """
    entries = list_tree(repo, commit)
    where = f"{ROOT}pyproject.toml"
    if where not in entries:
        raise CannotRun(f"the tree has no {where}, so nothing says how to build it", where=commit)
    try:
        table = tomllib.loads(read_file(repo, entries, where).decode("utf-8"))
        tool, project = table.get("tool", {}), table["project"]
        name = str(project["name"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise Refused(f"not valid project metadata: {error}", where=where) from error
    plan = WheelPlan(name, version, PURE_TAG, where)
    in_package = _package_rule(tool.get("setuptools", {}), where)
    plan.files = list(tracked(repo, entries, in_package, plan.notes))
    plan.info = _dist_info(repo, entries, table, version, plan.notes)
    plan.info["WHEEL"] = wheel_text(PURE_TAG)
    tops = sorted({file.path.split("/")[0] for file in plan.files})
    plan.info["top_level.txt"] = "".join(f"{top}\n" for top in tops).encode()
    scm = tool.get("setuptools_scm", {})
    if version_file := scm.get("version_file") or scm.get("write_to"):
        add_version_file(plan, posixpath.normpath(version_file))
    for module in tool.get("setuptools-rust", {}).get("ext-modules", ()):
        plan.missing.append(str(module["target"]))
        plan.notes.append(missing_note(plan.missing[-1], "to be built with --native"))
    return plan


def _package_rule(setuptools: Mapping[str, Any], where: str) -> Callable[[str], bool]:
    """A function that takes the path of a file in python/, and says whether the file is in a
    package or is data below one."""
    packages = setuptools.get("packages")
    find = packages.get("find") if isinstance(packages, dict) else None
    if find is None or find.get("where", ["."]) not in (["."], []):
        raise CannotRun(
            "[tool.setuptools.packages.find] is not of the form that fixtool can follow",
            where=where,
            hint="build with --native: the project's own build decides then",
        )
    include, exclude = find.get("include", ["*"]), find.get("exclude", [])

    def is_package(folder: str) -> bool:
        name = folder.replace("/", ".")
        return (
            "." not in folder
            and any(fnmatchcase(name, pattern) for pattern in include)
            and not any(fnmatchcase(name, pattern) for pattern in exclude)
        )

    def rule(path: str) -> bool:
        parts = path.split("/")
        return any(is_package("/".join(parts[:depth])) for depth in range(1, len(parts)))

    return rule


def _dist_info(
    repo: Repo,
    entries: Mapping[str, TreeEntry],
    table: dict[str, Any],
    version: str,
    notes: list[str],
) -> dict[str, bytes]:
    """METADATA, entry_points.txt and licenses by the ``[project]`` table, by file name."""
    import pyproject_metadata
    from pyproject_metadata.errors import ConfigurationError

    project = dict(table["project"], version=version)
    project["dynamic"] = [key for key in project.get("dynamic", ()) if key != "version"]
    if project["dynamic"]:
        raise CannotRun(
            f"[project] leaves {', '.join(project['dynamic'])} to the build",
            where=f"{ROOT}pyproject.toml",
            hint="build with --native: the project's own build decides then",
        )
    with tempfile.TemporaryDirectory(prefix="fixtool-metadata-") as name:
        folder = Path(name)
        info = _named_files(repo, entries, project, folder, notes)
        for path in entries:  # what license-files patterns may match
            if path.startswith(ROOT) and path.count("/") == 1:
                (folder / path[len(ROOT) :]).write_bytes(read_file(repo, entries, path))
        try:
            metadata = pyproject_metadata.StandardMetadata.from_pyproject(
                table | {"project": project}, folder
            )
            info["METADATA"] = bytes(metadata.as_rfc822())
        except ConfigurationError as error:
            raise Refused(str(error), where=f"{ROOT}pyproject.toml") from error
        for license_file in metadata.license_files or ():
            info[f"licenses/{license_file}"] = (folder / license_file).read_bytes()
    groups = {
        "console_scripts": metadata.scripts,
        "gui_scripts": metadata.gui_scripts,
        **metadata.entrypoints,
    }
    text = "\n".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(pairs.items()))
        for group, pairs in sorted(groups.items())
        if pairs
    )
    return info | ({"entry_points.txt": text.encode()} if text else {})


def _named_files(
    repo: Repo,
    entries: Mapping[str, TreeEntry],
    project: dict[str, Any],
    folder: Path,
    notes: list[str],
) -> dict[str, bytes]:
    """Put the readme and license files that ``project`` names into ``folder``, change ``project``
    to name them there, and return the licenses for dist-info. A file that the tree lacks is left
    out, which ``notes`` then says."""
    licenses = {}
    for key in ("readme", "license"):
        named = project.get(key)
        file = named.get("file") if isinstance(named, dict) else named
        if file is None or (key == "license" and not isinstance(named, dict)):
            continue
        # The git tree has no python/README.md: upstream's release script copies it, and LICENSE,
        # from the top.
        base = posixpath.basename(file)
        try:
            data = read_file(repo, entries, posixpath.normpath(ROOT + file), base)
        except KeyError:
            del project[key]
            notes.append(f"the tree has no {file}: the wheel's metadata goes without {key}")
            continue
        (folder / base).write_bytes(data)
        project[key] = dict(named, file=base) if isinstance(named, dict) else base
        if key == "license":
            licenses[f"licenses/{base}"] = data
    return licenses
