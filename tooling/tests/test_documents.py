"""The documents say what is true: links resolve, and commands, options and tables match the code."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from fixtool.cli import app
from fixtool.errors import ExitCode, Refused
from fixtool.rebase.result import Action
from fixtool.replay.verdict import Verdict
from fixtool.series.line import Upstream, read_upstream
from fixtool.settings import Settings, load
from fixtool.verify.proof import Proof
from support.repositories import ROOT

EVERYWHERE = {"--help", "-h"}
KEYS = [field for field in fields(Settings) if field.name not in ("state", "cache")]


def documents() -> list[Path]:
    """Every Markdown file of the repository that a person reads."""
    patterns = ("*.md", "docs/*.md", "ci/*.md", "tooling/bench/*.md", "verify/**/*.md")
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


DOCUMENTS = documents()
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def without_code(text: str) -> str:
    """``text`` without fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "`code`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a document."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return frozenset(heading.replace(" ", "-") for heading in plain)


@cache
def verbs() -> dict[str, frozenset[str]]:
    """The options of each verb, by the verb's name; the program's own under the empty name."""
    group: Any = typer.main.get_command(app)
    found = {"": group, **{verb: group.get_command(None, verb) for verb in group.commands}}
    return {
        verb: frozenset(
            name
            for option in one.params
            for name in (*option.opts, *option.secondary_opts)
            if name.startswith("-")
        )
        - EVERYWHERE
        for verb, one in found.items()
    }


def console_commands() -> list[tuple[str, str]]:
    """Every line of a document that begins with ``$ fixtool`` inside a console block."""
    found = []
    for name in NAMES:
        for block in re.findall(r"^```console\n(.*?)^```", read(name), re.M | re.S):
            found += [
                (name, line[2:])
                for line in block.splitlines()
                if re.match(r"\$ (\w+=\S* )*fixtool ", line)
            ]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(read(name))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if target.is_dir():
            assert not anchor, link
        elif anchor:
            assert anchor in anchors(target), link


def test_the_readme_is_short() -> None:
    assert len(read("README.md").split()) <= 1500


def test_the_index_names_every_page() -> None:
    index = read("docs/README.md")
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


def test_every_verb_has_its_section_and_no_other() -> None:
    page = read("docs/commands.md")
    table = set(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \|", page, re.M))
    sections = {heading for heading in re.findall(r"^## (.*)$", page, re.M) if heading.islower()}
    assert table == sections == set(verbs()) - {""}


@pytest.mark.parametrize("verb", sorted(set(verbs()) - {""}))
def test_the_options_of_a_verb_are_the_ones_in_the_code(verb: str) -> None:
    page = read("docs/commands.md")
    section = re.split(r"^## ", page.split(f"\n## {verb}\n", 1)[1], flags=re.M)[0]
    rows = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `-")]
    common = next(line for line in section.splitlines() if line.startswith("Common options: "))
    named = {word for text in (*rows, common) for word in re.findall(r"`(--?[\w-]+)", text)}
    long = {option for option in verbs()[verb] if option.startswith("--")}
    assert named == long


@pytest.mark.parametrize(("name", "line"), console_commands())
def test_commands_in_the_documents_exist(name: str, line: str) -> None:
    command = re.split(r" (?:[|>;]|&&) ", line)[0]
    words = shlex.split(command)[1 + command.split("fixtool ")[0].count(" ") :]
    while words and words[0].startswith("-"):
        assert words[0] in verbs()[""], words[0]
        words = words[2:] if words[0] == "-C" else words[1:]
    verb, *rest = words
    assert verb in verbs(), f"{name}: no verb {verb}"
    options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert options <= verbs()[verb] | EVERYWHERE, f"{name}: {line}"


def test_the_exit_codes_are_the_ones_in_the_code() -> None:
    for name, heading in (("README.md", "## Exit codes"), ("docs/commands.md", "### Exit codes")):
        section = read(name).split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
        rows = re.findall(r"^\| (\d+) \| ", section, re.M)
        assert [int(row) for row in rows] == [int(code) for code in ExitCode], name


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(each for extra in extras.values() for each in extra)]
    names = [re.split(r"[<>=]", requirement)[0] for requirement in named]
    page = read("docs/dependencies.md")
    assert [name for name in names if name not in page and not name.startswith("types-")] == []


def test_every_extra_that_is_named_belongs_to_our_own_package() -> None:
    """The package index has a project called fixtool, which is not ours."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    command = ["git", "-C", ROOT, "grep", "-hoE", r"[a-z-]*fixtool\[[a-z]+\]", "--", ":!patches"]
    named = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    packages, extras = zip(*(name.rstrip("]").split("[") for name in named), strict=True)
    assert set(packages) == {project["name"]} == {"sglang-fixtool"}
    assert set(extras) <= set(project["optional-dependencies"])


def test_ci_runs_the_readmes_test_command() -> None:
    script = read(".ci/run")
    extract = next(line for line in script.splitlines() if line.startswith("tests="))
    shell = subprocess.run(
        ["bash", "-c", f'{extract}; printf %s "$tests"'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shell.stdout.endswith("&& .venv/bin/pytest -n 3")
    assert f"$ {shell.stdout}\n" in read("README.md")
    assert 'eval "$install"' in script
    assert 'eval "$tests"' in script


def test_the_packages_are_described_in_their_order() -> None:
    source = ast.parse(read("tooling/tests/test_boundaries.py"))
    order = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACKAGES"
    )
    table = read("ARCHITECTURE.md").split("## The packages")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)/` \|", table, re.M) == order
    listed = (
        read("CONTRIBUTING.md").split("## The order of the packages")[1].split("A new package")[0]
    )
    assert re.findall(r"`(\w+)`", listed) == order


def test_the_glossary_is_in_order_and_defines_what_it_uses() -> None:
    page = read("GLOSSARY.md")
    terms = re.findall(r"^\| (.+?) \| ", page, re.M)[1:]
    assert terms == sorted(terms, key=lambda term: term.lower().replace("'", ""))
    used = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page)
    assert [
        term for term in used if term not in terms and term.removesuffix("s") not in terms
    ] == []


def test_the_glossary_has_every_verdict_action_and_proof() -> None:
    terms = set(re.findall(r"^\| (.+?) \| ", read("GLOSSARY.md"), re.M))
    assert {word.value for word in (*Verdict, *Action)} <= terms
    assert {proof.value for proof in Proof} <= set(re.findall(r"`([\w-]+)`", read("docs/proof.md")))


@pytest.mark.parametrize("script", ["ci/json-docs", "ci/man"])
def test_the_pages_that_a_script_makes_are_up_to_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / script, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def settings_table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading of docs/settings.md, without marks."""
    section = read("docs/settings.md").split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_every_setting_is_described_with_its_variable_and_its_default() -> None:
    rows = settings_table("Keys of `[tool.fixtool]`")
    shown = {key: (variable, default) for key, variable, default, _ in rows}
    assert list(shown) == [field.name for field in KEYS]
    for field in KEYS:
        variable, default = shown[field.name]
        assert variable == f"FIXTOOL_{field.name.upper()}"
        match field.default:
            case None:
                assert default in ("none", "the line's", "the profile's", "recognised")
            case float(seconds):
                assert default == f"{seconds:g}"
            case text:
                assert default == text


def test_the_example_of_the_settings_has_every_key_and_is_accepted(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", read("docs/settings.md"), re.M | re.S)
    (tmp_path / "pyproject.toml").write_text(block)
    loaded = load(tmp_path, {"HOME": str(tmp_path)})
    table = tomllib.loads(block)["tool"]["fixtool"]
    assert list(table) == [field.name for field in KEYS]
    values = {key: getattr(loaded, key) for key in table}
    taken = {key: getattr(value, "name", str(value)) for key, value in values.items()}
    assert taken == {**table, "timeout": "120.0"}


def test_every_variable_of_ours_in_the_code_is_described() -> None:
    """Those that begin with FIXTOOL_: the code builds the names of the settings from their keys."""
    sources = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "tooling/fixtool").rglob("*.py")
    )
    named = set(re.findall(r"\bFIXTOOL_[A-Z_]*[A-Z]\b", sources))
    built = {f"FIXTOOL_{field.name.upper()}" for field in KEYS}
    rows = re.findall(r"^\|.*?`(FIXTOOL_[A-Z_]+)`", read("docs/settings.md"), re.M)
    page = set(rows)
    assert len(rows) == len(page)
    assert page == named | built | {"FIXTOOL_STATE_DIR", "FIXTOOL_CACHE_DIR"}


def messages() -> frozenset[str]:
    """Every text in the code, with … for each value that is put into it."""
    found = set()
    for path in (ROOT / "tooling/fixtool").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                ]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(found)


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    headings = re.findall(r"^### `(.*)`$", read("docs/troubleshooting.md"), re.M)
    assert len(headings) == len(set(headings)) > 20
    known = messages()
    assert [
        heading for heading in headings if not any(heading in message for message in known)
    ] == []


def test_every_key_of_upstream_toml_is_described() -> None:
    rows = settings_table("`upstream.toml`")
    example = "".join(f'{key} = "{example}"\n' for key, _, _, example in rows)
    assert {key for key, *_ in rows} == {field.name for field in fields(Upstream)}
    read_upstream(example.encode(), "docs/settings.md")
    for key, required, *_ in rows:
        without = "".join(
            line for line in example.splitlines(True) if not line.startswith(f"{key} ")
        )
        if required == "yes":
            with pytest.raises(Refused, match=key):
                read_upstream(without.encode(), "docs/settings.md")
        else:
            read_upstream(without.encode(), "docs/settings.md")


def test_the_files_that_pages_describe_are_there() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", read("verify/README.md"), re.M)
    names = [name for row in rows for name in re.findall(r"`([\w./]+(?:\.py|\.toml|/))`", row)]
    assert names
    assert [name for name in names if not any((ROOT / "verify").glob(f"**/{name}"))] == []
    starts = re.findall(r"^\| `(\w+/)` \|.*\| ([^|]*) \|$", read("ARCHITECTURE.md"), re.M)
    modules = [
        f"{package}{name}" for package, cell in starts for name in re.findall(r"`(.*?)`", cell)
    ]
    assert modules
    package = ROOT / "tooling/fixtool"
    assert [name for name in modules if not (package / name).is_file()] == []
