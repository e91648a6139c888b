"""The README says what is true."""

from __future__ import annotations

import re
import subprocess
import tomllib

from fixtool.cli import app
from fixtool.errors import ExitCode
from support.repositories import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_every_command_is_named_and_no_other() -> None:
    table = README.split("## Commands")[1].split("\n\n**Verdicts.**")[0]
    named = {
        word
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for word in re.findall(r"`(\w+)", row)
    }
    assert named == {one.name for one in app.registered_commands}


def test_the_exit_codes_are_the_ones_in_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = [
        re.split(r"[<>=]", one)[0]
        for one in [*project["dependencies"], *extras["verify"], *extras["upstream"]]
    ]
    table = README.split("| dependency | why |")[1].split("\n\n")[0]
    assert [name for name in names if name not in table] == []


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text()
    extract = next(line for line in script.splitlines() if line.startswith("tests="))
    done = subprocess.run(
        ["bash", "-c", f'{extract}; printf %s "$tests"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("&& .venv/bin/pytest -n 2")
    assert f"$ {done.stdout}\n" in README
    assert 'eval "$tests"' in script


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
