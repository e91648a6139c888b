"""The shape of the program: which package may import which, and what a command may load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fixtool
from fixtool.verify import kit
from support.repositories import ROOT

PACKAGE = Path(fixtool.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if "example" not in path.relative_to(PACKAGE).parts  # an installed package holds our series
}

# The packages, lowest first: a package imports only what stands before it, and root modules.
PACKAGES = [
    "git",
    "series",
    "github",
    "sources",
    "replay",
    "history",
    "judgement",
    "wheel",
    "apply",
    "operations",
    "verify",
    "install",
    "incoming",
    "edit",
    "rebase",
    "upstream",
    "report",
    "announce",
    "commands",
]
# Root modules that any package may import. terminal, cli and __main__ are for the command line.
SHARED = {
    "__init__",
    "documents",
    "errors",
    "files",
    "interpreter",
    "isolation",
    "markdown",
    "profile",
    "progress",
    "settings",
    "text",
}
COMMAND_LINE = {"terminal", "signals", "cli", "__main__"}
# Packages that must not know each other although one stands before the other, and the modules that
# are excepted: the report shows what a rebase did, so it reads that from rebase's own types.
APART = [
    {"sources", "replay"},
    {"github", "series"},
    *({one, other} for one in ("edit", "rebase", "upstream", "report")
      for other in ("edit", "rebase", "upstream", "report") if one < other),
]  # fmt: skip
EXCEPTED = {"report": {"rebase.result"}}

# Each third-party library has one door. packaging (versions, tags) and typer (declarations) are
# vocabularies that several modules of one layer use.
DOORS = {
    "git": {"git.store"},
    "gitdb": {"git.pack"},
    "pypi_simple": {"sources.index"},
    "requests": {"sources.index"},
    "urllib3": {"sources.index"},
    "pyproject_metadata": {"wheel._metadata"},
    "rich": {"terminal"},
    "jinja2": {"report.page"},
    "markupsafe": {"report.page"},
    "github": {"github.client"},
    "yaml": {"upstream._hooks"},
    "torch": {"verify.sglang_on_cpu", "verify.test_file"},
    "transformers": {"verify.test_file"},
    "typer": {"cli", *(module for module in MODULES if module.startswith("commands."))},
}
PACKAGING = {"apply", "history", "interpreter", "judgement", "series", "sources", "verify",
             "wheel"}  # fmt: skip


# What runs as a program of its own, in the target's Python.
SCRIPTS = {"verify.answer", "verify.runner.run", "verify.runner.script"}


def imports(path: Path) -> set[str]:
    """Every module, and every name of a module, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(module: str) -> set[str]:
    """The modules of fixtool that a module imports, without the package's name."""
    names = {name.removeprefix("fixtool.") for name in imports(MODULES[module])}
    return {name for name in names if name in MODULES}


def package_of(module: str) -> str:
    """The package that holds a module, or the root module itself."""
    return module.partition(".")[0]


def test_every_package_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(PACKAGES)
    assert {module for module in MODULES if "." not in module} == SHARED | COMMAND_LINE


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_one_way(module: str) -> None:
    package = package_of(module)
    if package in COMMAND_LINE - {"terminal", "signals"}:
        return
    lower = PACKAGES[: PACKAGES.index(package)] if package in PACKAGES else []
    apart = {name for pair in APART if package in pair for name in pair} - {package}
    allowed = {package, *SHARED, *lower} - apart
    if package in {"commands"}:
        allowed |= {"terminal", *lower}
    others = own_imports(module) - EXCEPTED.get(package, set())
    assert {name for name in others if package_of(name) not in allowed} == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_inner_modules_stay_inside_their_package(module: str) -> None:
    inner = {name for name in own_imports(module) if name.rpartition(".")[2].startswith("_")}
    inner -= {"__init__"}
    assert {name for name in inner if package_of(name) != package_of(module)} == set()


def test_a_package_file_is_a_docstring_alone() -> None:
    for path in PACKAGE.glob("*/**/__init__.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree), path
        assert len(tree.body) == 1, path


def test_the_probe_kit_is_the_standard_library_alone() -> None:
    """What runs in the target's Python: at import, nothing that this Python may lack. It may be a
    3.10."""
    for name in kit._FILES:
        tree = ast.parse((PACKAGE / name).read_text("utf-8"), feature_version=(3, 10))
        modules = {
            name
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""] * (not node.level)
            )
        }
        own = {name for name in modules if name.startswith("fixtool.")}
        assert {f"{name.removeprefix('fixtool.').replace('.', '/')}.py" for name in own} <= set(
            kit._FILES
        )
        assert {name.split(".")[0] for name in modules - own} <= set(sys.stdlib_module_names), name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_libraries_have_one_door(module: str) -> None:
    libraries = {name.split(".")[0] for name in imports(MODULES[module])}
    libraries -= {*sys.stdlib_module_names, "fixtool", "__future__"}
    if package_of(module) in PACKAGING:
        libraries.discard("packaging")
    assert {name for name in libraries if module not in DOORS.get(name, set())} == set()


@pytest.mark.parametrize("module", sorted(set(MODULES) - COMMAND_LINE - SCRIPTS))
def test_core_never_prints_exits_or_changes_directory(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "sys.exit", "os._exit", "os.chdir", "input"}


@pytest.mark.parametrize(
    "words", [["--help"], ["apply", "--help"], ["upstream", "--help"], ["list"], ["lint"]]
)
def test_core_commands_do_not_load_torch_triton_or_sglang(words: list[str]) -> None:
    code = (
        "import sys\nfrom fixtool.cli import app\n"
        f"sys.argv = ['fixtool', *{words!r}]\n"
        "try: app()\nexcept SystemExit: pass\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'torch', 'triton', 'sglang', 'numpy', 'requests', 'pypi_simple', "
        "'github', 'jinja2', 'yaml', 'pre_commit'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]"


# The modules that start processes. What runs code of others, such as probes, tests, hooks and
# builds, goes through isolation; the others start git, pip, the user's editor and interpreters.
STARTERS = {"commands.pager", "commands.editor", "git.process", "git.repo", "interpreter", "isolation", "sources.index",
            "verify._execute", "verify.runner.run"}  # fmt: skip


@pytest.mark.parametrize("module", sorted(set(MODULES) - STARTERS))
def test_processes_are_started_in_few_places(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    starting = re.compile(r"subprocess\.(run|Popen|call|check_\w+|getoutput)|os\.(system|popen|exec\w+"
                          r"|spawn\w+|posix_spawn\w*|fork\w*)|pty\.\w+")  # fmt: skip
    assert {name for name in called if starting.fullmatch(name)} == set()


def test_version_needs_neither_typer_nor_git() -> None:
    code = (
        "import sys\nfrom fixtool.__main__ import main\nsys.argv = ['fixtool', '--version']\nmain()\n"
        "print(sorted({'typer', 'git', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"fixtool {fixtool.__version__}", "[]"]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_lines_end_at_newlines_alone(module: str) -> None:
    """str.splitlines cuts at form feeds and U+2028 too, which the lines of a patch, a path or a
    subject may hold: ``text.split_lines`` cuts as git does."""
    calls = [node for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8")))
             if isinstance(node, ast.Attribute) and node.attr in ("splitlines", "readlines")]  # fmt: skip
    assert [node.lineno for node in calls] == []


# mypy takes a script for a module of its name. A library has this name too, and the script needs it.
NOT_TYPED = {"ci/conformance/coverage"}


def python_scripts() -> set[str]:
    """The files of the repository that Python runs, and that have no suffix to say so."""
    found = set()
    for folder in ("ci", "tooling", "verify", "docs", ".ci", ".github"):
        for path in (ROOT / folder).rglob("*"):
            if not path.suffix and path.is_file():
                with path.open("rb") as file:
                    first = file.readline(80)
                if first.startswith(b"#!") and b"python" in first:
                    found.add(path.relative_to(ROOT).as_posix())
    return found


ASKING = {"Send it"}  # of a person at a terminal


def test_no_message_is_a_question() -> None:
    """An error says what is wrong; what to do about it stands in its hint."""
    asked = [
        f"{module}: {node.value}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and (found := re.search(r"(?<![|\\[\]()])\b([A-Za-z]+ [a-z]+)\?(?= [a-z-]|\n|$)", node.value))
        and not {found[1]} & ASKING and "\n" not in node.value.strip()
    ]  # fmt: skip
    assert not [text for text in asked if text not in DOCSTRINGS]


DOCSTRINGS = {
    f"{module}: {text}"
    for module, path in MODULES.items()
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    and (text := ast.get_docstring(node, clean=False))
}


def test_scripts_without_a_suffix_are_checked_like_other_files() -> None:
    """ruff and mypy find Python files by their suffix, so scripts without one must be named to them."""
    scripts, configured = python_scripts(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    shown = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", str(ROOT)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    checked = {Path(name).relative_to(ROOT).as_posix() for name in shown.split("\n") if name}
    unusual = {name for name in checked if not Path(name).suffix}
    assert scripts
    assert unusual == scripts
    typed = {name for name in configured["tool"]["mypy"]["files"] if (ROOT / name).is_file()}
    assert typed == scripts - NOT_TYPED


def test_no_script_has_the_name_of_a_module_beside_scripts() -> None:
    """mypy takes a script for a module of its name: it read `ci/conformance/commits` in place of
    `tooling/bench/commits.py`, and checked neither that file nor what imports it."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    folders = [ROOT / folder for folder in configured["mypy_path"].split(":")]
    modules = {path.stem for folder in folders for path in folder.glob("*.py")}
    assert {"real_commits", "outcomes"} <= modules
    assert modules & {Path(name).name for name in configured["files"]} == set()


@pytest.mark.parametrize("folder", ["tooling/tests", "verify/tests"])
def test_no_test_imports_another(folder: str) -> None:
    """What several tests share is in support/."""
    shared = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imports(path)
        if re.search(r"^(?!fixtool\.).*\b(test_|tests\b)", name)
    ]
    assert shared == []


@pytest.mark.parametrize("module", ["apply.sides", "apply.run", "commands.export", "commands.build",
                                    "commands.refresh", "edit.export", "edit.refresh", "edit.new"])  # fmt: skip
def test_the_record_of_a_work_tree_says_how_it_is_made(module: str) -> None:
    """A command that a message put together lacked the source that the work tree was made from."""
    assert not re.findall("fixtool apply --.*", MODULES[module].read_text())
