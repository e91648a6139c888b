"""The shape of the program: who may import whom, and what a command may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fixtool

PACKAGE = Path(fixtool.__file__).parent
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path
    for path in PACKAGE.rglob("*.py")
}

# Each third-party library behind one door. packaging (versions, tags) and typer (declarations) are
# vocabularies that several modules of one layer speak.
DOORS = {
    "git": {"repo"},
    "unidiff": {"patch"},
    "pypi_simple": {"index"},
    "requests": {"index"},
    "pyproject_metadata": {"project"},
    "rich": {"report"},
    "jinja2": {"page"},
    "markupsafe": {"page"},
    "github": {"github"},
    "yaml": {"hooks"},
    "packaging": {
        "releases",
        "index",
        "release",
        "build",
        "wheel",
        "interpreter",
        "source",
        "apply",
    },
    "typer": {"cli", *(name for name in MODULES if name.startswith("commands."))},
}

# The arrows: a module may import only from layers below its own.
LAYERS = [
    {"__init__", "errors", "progress"},
    {"host.__init__", "host.layout", "host.processes", "host.run"},
    {"address", "objects", "process", "markdown"},
    {"settings", "repo", "forge"},
    {"store", "patch", "verdict", "upstream_log", "hooks", "template"},
    {"series", "hunks"},
    {"index", "replay"},
    {"lint", "release", "interpreter", "suite", "history"},
    {"source", "worktree", "wheel", "trees", "deps", "shelf", "absorption", "follow"},
    {"project", "plan"},
    {"build"},
    {"export", "init", "apply", "evidence", "documents"},
    {"intake", "report", "verify", "needs", "bands", "proposal", "figures"},
    {"page", "need", "preflight"},
    {"bundle", "parked", "journal", "description"},
    {"settle", "releases", "drop", "forwarding", "forms", "draft"},
    {"rebase", "standing"},
    {"github", "outcome"},
    {"rolling", "telling"},
    {"announce", "submission"},
    {name for name in MODULES if name.startswith("commands")},
    {"cli"},
    {"__main__"},
]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{one.name}" for one in node.names}
    return found


def test_every_module_has_a_layer() -> None:
    assert set().union(*LAYERS) == set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_point_down(name: str) -> None:
    level = next(n for n, layer in enumerate(LAYERS) if name in layer)
    allowed = set().union(*LAYERS[: level + 1])
    own = {
        one.removeprefix("fixtool.")
        for one in imported(MODULES[name])
        if one.startswith("fixtool.")
    }
    assert {one for one in own if one in MODULES} <= allowed


def test_what_runs_on_a_host_is_the_standard_library_alone() -> None:
    for name in (one for one in MODULES if one.startswith("host.")):
        outside = {one.split(".")[0] for one in imported(MODULES[name])}
        assert outside <= set(sys.stdlib_module_names), name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_libraries_have_one_door(name: str) -> None:
    third = {one.split(".")[0] for one in imported(MODULES[name])} - set(sys.stdlib_module_names)
    third -= {"fixtool", "__future__"}
    assert {one for one in third if name not in DOORS.get(one, set())} == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"report", "cli", "__main__", "host.run"}))
def test_core_never_prints_exits_or_changes_directory(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "sys.exit", "os._exit", "os.chdir", "input"}


@pytest.mark.parametrize(
    "words", [["--help"], ["apply", "--help"], ["upstream", "--help"], ["list"], ["lint"]]
)
def test_core_commands_do_not_load_torch_triton_or_sglang(words: list[str]) -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys\nfrom fixtool.cli import app\n"
        f"sys.argv = ['fixtool', *{words!r}]\n"
        "try: app()\nexcept SystemExit: pass\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'torch', 'triton', 'sglang', 'numpy', 'requests', 'pypi_simple', "
        "'github', 'jinja2', 'yaml', 'pre_commit'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_needs_neither_typer_nor_git() -> None:
    code = (
        "import sys\nfrom fixtool.__main__ import main\nsys.argv = ['fixtool', '--version']\nmain()\n"
        "print(sorted({'typer', 'git', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"fixtool {fixtool.__version__}", "[]"]


def test_no_module_has_grown_too_long() -> None:
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
