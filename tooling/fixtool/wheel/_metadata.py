"""Plans the wheel of a git tree, as its pyproject.toml describes it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fixtool.documents import Field, FieldError, parse_toml
from fixtool.errors import CannotRun, NothingToBuild, Refused
from fixtool.files import temporary_folder
from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree
from fixtool.wheel._archive import (
    PURE_TAG,
    WheelPlan,
    add_version_file,
    missing_note,
    read_file,
    root_of,
    tracked,
    wheel_text,
)

_LONGEST_PATTERN = 200  # characters; fnmatch takes quadratic time for some patterns


def plan_from_tree(repo: Repo, commit: str, version: str) -> WheelPlan:
    """The plan of a wheel of ``commit``, as its pyproject.toml describes it.

    The wheel has the files that setuptools and setuptools-scm would choose: every tracked file
    below a package directory, namespace packages too.

    Raises NothingToBuild if the tree has no pyproject.toml with a [project] table, CannotRun if its
    pyproject.toml is not of the form that fixtool can follow, Refused if the metadata is not valid.
    """
    entries = list_tree(repo, commit)
    root = root_of(entries)
    where = f"{root}pyproject.toml"
    if where not in entries:
        raise NothingToBuild(
            f"the tree has no {where}, so nothing says how to build it",
            where=commit,
            hint="use the work tree as it is: fixtool apply --no-build --worktree DIR",
        )
    try:
        table = parse_toml(read_file(repo, entries, where), where)
        if "project" not in table:
            message = f"{where} has no [project] table, so nothing says how to build a wheel"
            raise NothingToBuild(message, where=where)
        tool = _ToolTables(Field(table))
        plan = WheelPlan(tool.name, version, PURE_TAG, where)
        in_package = _package_rule(tool.setuptools, where)
        version_file, modules = tool.version_file, tool.rust_modules
    except (FieldError, KeyError) as error:
        raise Refused(f"not valid project metadata: {error}", where=where) from error
    plan.files = list(tracked(repo, entries, root, in_package, plan.notes))
    try:
        plan.info = _dist_info(repo, entries, root, table, version, plan.notes)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        # pyproject_metadata checks what the standard says, and believes the types of the rest.
        raise Refused(f"not valid project metadata: {error}", where=where) from error
    plan.info["WHEEL"] = wheel_text(PURE_TAG)
    tops = sorted({file.path.split("/")[0] for file in plan.files})
    plan.info["top_level.txt"] = "".join(f"{top}\n" for top in tops).encode()
    if version_file:
        add_version_file(plan, posixpath.normpath(version_file))
    for module in modules:
        plan.missing.append(module)
        plan.notes.append(missing_note(module, "to be built with --native"))
    return plan


@dataclass(frozen=True)
class _ToolTables:
    """What a pyproject.toml says, each value of the type that is expected. A property raises
    FieldError, which names the key, if its value is not."""

    table: Field

    @property
    def name(self) -> str:
        return self.table["project"]["name"].text()

    def _tool(self, name: str) -> Field:
        tables = self.table["tool"]
        tool = tables[name] if tables.value is not None else tables
        return Field({}, tool.key) if tool.value is None else tool

    @property
    def setuptools(self) -> Field:
        return self._tool("setuptools")

    @property
    def version_file(self) -> str | None:
        scm = self._tool("setuptools_scm")
        names = (scm[key].optional(Field.text) for key in ("version_file", "write_to"))
        return next(filter(None, names), None)

    @property
    def rust_modules(self) -> tuple[str, ...]:
        modules = self._tool("setuptools-rust")["ext-modules"]
        modules = Field([], modules.key) if modules.value is None else modules
        return modules.each(lambda module: module["target"].text())


def _package_rule(setuptools: Field, where: str) -> Callable[[str], bool]:
    """A function that takes the path of a file in python/, and says whether the file is in a
    package or is data below one. Raises FieldError if a value is not of its type."""
    packages = setuptools["packages"]
    find = packages["find"] if isinstance(packages.value, dict) else Field(None)
    if find.value is None or find["where"].value not in (None, ["."], []):
        raise CannotRun(
            "[tool.setuptools.packages.find] is not of the form that fixtool can follow",
            where=where,
            hint="build with --native: the project's own build decides then",
        )
    include = find["include"].optional(Field.texts) or ("*",)
    exclude = find["exclude"].optional(Field.texts) or ()
    if max(map(len, (*include, *exclude)), default=0) > _LONGEST_PATTERN:
        raise find.wrong(f"patterns of at most {_LONGEST_PATTERN} characters")

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
    root: str,
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
            where=f"{root}pyproject.toml",
            hint="build with --native: the project's own build decides then",
        )
    with temporary_folder("fixtool-metadata-") as folder:
        info = _named_files(repo, entries, root, project, folder, notes)
        for path in entries:  # what license-files patterns may match
            if path.startswith(root) and path.count("/") == root.count("/"):
                (folder / path[len(root) :]).write_bytes(read_file(repo, entries, path))
        try:
            metadata = pyproject_metadata.StandardMetadata.from_pyproject(
                table | {"project": project}, folder
            )
            info["METADATA"] = bytes(metadata.as_rfc822())
        except ConfigurationError as error:
            raise Refused(str(error), where=f"{root}pyproject.toml") from error
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
    root: str,
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
            data = read_file(repo, entries, posixpath.normpath(root + file), base)
        except KeyError:
            del project[key]
            notes.append(f"the tree has no {file}: the wheel's metadata goes without {key}")
            continue
        (folder / base).write_bytes(data)
        project[key] = dict(named, file=base) if isinstance(named, dict) else base
        if key == "license":
            licenses[f"licenses/{base}"] = data
    return licenses
