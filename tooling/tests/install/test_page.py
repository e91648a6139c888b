"""The page about installing says what works: its Dockerfiles, and the action for GitHub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtool.settings import Settings
from support.installed import FILES, Environment, environment, made_environment, make_checkout
from support.repositories import ROOT, Git

__all__ = ["environment", "made_environment"]  # fixtures
PAGE = (ROOT / "docs/install.md").read_text("utf-8")
ACTION = ROOT / "ci/action/action.yml"
OWN_ENVIRONMENT = "python3 -m venv /opt/fixtool && /opt/fixtool/bin/pip install sglang-fixtool"


def dockerfile(name: str) -> list[tuple[str, str]]:
    text = PAGE.split(f"<!-- dockerfile: {name} -->\n```dockerfile\n")[1].split("```")[0]
    pairs = (line.split(" ", 1) for line in text.splitlines())
    return [(word, rest) for word, rest in pairs]


def shell(script: str, environment: Environment, **env: str) -> None:
    """Run a script as the shell of a container does, with the environment's Python first."""
    path = f"{environment.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=environment.team,
        env={**os.environ, **env, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def in_container(environment: Environment, name: str) -> list[str]:
    """Run the lines of a Dockerfile. What installs fixtool is left out, for it would need the
    network, and the one at hand stands in for it."""
    ran = []
    for word, rest in dockerfile(name):
        if word == "COPY":
            assert rest == "patches /series/patches"
        elif word == "RUN" and rest != OWN_ENVIRONMENT:
            script = rest.replace("/opt/fixtool/bin/fixtool", f"{sys.executable} -m fixtool")
            script = script.replace("/series", str(environment.team))
            script = re.sub(r"^pip ", "python3 -m pip ", script)  # a link, and no command, here
            shell(script.replace("sglang==0.5.23", "sglang==1.0"), environment)
            ran.append(rest)
    return ran


def test_the_dockerfile_for_a_release(environment: Environment) -> None:
    for folder in (environment.packages / "sglang", environment.info):
        subprocess.run(["rm", "-r", str(folder)], check=True)
    ran = in_container(environment, "pip")
    assert [line.split()[0] for line in ran] == ["pip", *["/opt/fixtool/bin/fixtool"] * 2]
    installed = (environment.packages / "sglang/srt/model.py").read_bytes()
    assert installed != FILES["sglang/srt/model.py"]


def test_the_dockerfile_for_an_image(tmp_path: Path, upstream: Git, settings: Settings) -> None:
    environment = make_checkout(tmp_path, upstream, settings)
    assert len(in_container(environment, "image")) == 2
    assert (upstream.path / "python/sglang/srt/extra/added.py").exists()


def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ACTION.read_text("utf-8"))
    return loaded


def test_the_steps_of_the_action_work(tmp_path: Path, upstream: Git, settings: Settings) -> None:
    environment = make_checkout(tmp_path, upstream, settings)
    fixtool = tmp_path / "runner/fixtool/bin/fixtool"
    fixtool.parent.mkdir(parents=True)
    fixtool.write_text(f'#!/bin/sh\nexec {sys.executable} -m fixtool "$@"\n')
    fixtool.chmod(0o755)
    step = action()["runs"]["steps"][1]
    assert set(step["env"]) == {"TARGET", "REPOSITORY", "FIXTOOL_LINE"}
    output = tmp_path / "output"
    shell(
        step["run"], environment, TARGET="python3", REPOSITORY=".", FIXTOOL_LINE="",
        RUNNER_TEMP=str(tmp_path / "runner"), GITHUB_OUTPUT=str(output),
    )  # fmt: skip
    assert re.fullmatch(r"tree=[0-9a-f]{40}\n", output.read_text())


def test_no_expression_is_pasted_into_a_script_of_the_action() -> None:
    assert [step for step in action()["runs"]["steps"] if "${{" in step["run"]] == []


@pytest.mark.parametrize("tool", ["check-jsonschema", "zizmor"])
def test_linters_of_actions_agree(tool: str) -> None:
    words = {
        "check-jsonschema": ["--builtin-schema", "vendor.github-actions", str(ACTION)],
        "zizmor": ["--offline", "--no-progress", str(ACTION)],
    }[tool]
    program = str(Path(sys.executable).parent / tool)
    ran = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
