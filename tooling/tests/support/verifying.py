"""A series with probes and checks that look at text instead of importing SGLang: the planning, the
running and the judging are real."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.json_documents import document
from support.processes import GENEROUS
from support.repositories import NUMBERS, Ran, Team, format_patch

Run = Callable[..., Ran]
PY = sys.executable
TWENTY = NUMBERS.replace("line 20\n", "line 20 fixed\n")
FIVE = NUMBERS.replace("line 5\n", "line 5 fixed\n")

PROBE = """\
import os, pathlib, sys
text = (pathlib.Path(os.environ["FIXTOOL_TREE"]) / "python/model.py").read_text()
fixed = {mark!r} in text
print("saw", "the fix" if fixed else "the bug")
sys.exit(0 if fixed else 1)
"""


def write_probe(team: Team, slug: str, text: str) -> None:
    path = team.root / "verify/probes" / f"{slug}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_patch(team: Team, slug: str, text: str) -> None:
    """A patch with a Probe: trailer."""
    git = team.upstream
    branch = git("symbolic-ref", "--short", "HEAD")
    git("checkout", "--quiet", "--detach", "v1.0")
    trailers = f"Origin: vendor\nForwarded: no\nProbe: probes/{slug}.py\nDrop-When: never"
    git.commit(
        f"{slug}\n\nWhy.\n\n{trailers}\nSigned-off-by: A Person <p@example.org>",
        python__model_py=text,
    )
    team.add(slug, format_patch(git))
    git("checkout", "--quiet", branch)


@pytest.fixture
def proved(team: Team) -> Team:
    """Two patches, each with a probe that sees its own mark."""
    for slug, text, mark in (("five", FIVE, "line 5 fixed"), ("twenty", TWENTY, "line 20 fixed")):
        write_patch(team, slug, text)
        write_probe(team, slug, PROBE.format(mark=mark))
    return team


def run_checks(
    fixtool: Run,
    team: Team,
    *args: str | Path,
    ref: str = "v1.0",
    source: str | Path | None = None,
    **env: str,
) -> dict[str, Any]:
    """The JSON document of ``fixtool verify``, with the Python of the tests as the target's."""
    words = ["verify", "--sglang-ref", ref, "--source", source or team.upstream.path]
    return document(fixtool(*words, "--python", PY, "--json", "-C", team.root, *args, **env))


def prove(fixtool: Run, team: Team, *args: str | Path, **options: Any) -> dict[str, Any]:
    return run_checks(fixtool, team, "--prove", *args, **options)


def read_back(fixtool: Run, team: Team, folder: Path, *args: str | Path) -> dict[str, Any]:
    """The document of the result that a bundle in ``folder`` left."""
    words = ["verify", "--import", folder / "result.json", "--json", "-C", team.root]
    return document(fixtool(*words, *args))


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in result["steps"]}


def answers(result: dict[str, Any]) -> dict[str, list[int | None]]:
    return {row["tree"]: row["answers"] for row in result["matrix"]["rows"]}


def proofs(result: dict[str, Any]) -> dict[str, str]:
    return {patch["slug"]: patch["proof"] for patch in result["proofs"]}


def store_path() -> Path:
    """The one store of the user's state folder."""
    (store,) = (Path(os.environ["FIXTOOL_STATE_DIR"]) / "repos").glob("*.git")
    return store


def processes() -> list[str]:
    """The command lines of all processes of this machine."""
    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return commands


CHECK = """\
[[check]]
name = "text"
script = "text.py"
[[check]]
name = "card"
script = "text.py"
needs = "gpu"
[[check]]
name = "many"
script = "text.py"
needs = "gpu"
parallel = true
"""
LOOK = """\
import pathlib, sys
import fixtool.verify.sglang_on_cpu, fixtool.verify.test_file
from fixtool.verify.answer import FAILED, PASSED, Answer, answer, tree
from fixtool.verify.runner.git_ids import blob_id
from verify.marks import MARK
text = pathlib.Path(tree(), "python/model.py").read_text()
kit = pathlib.Path(fixtool.__file__).parents[1] / "plan.json"
details = {"lines": len(text.splitlines()), "own": kit.is_file()}
answer(lambda: Answer(PASSED if MARK in text else FAILED, f"args {sys.argv[1:]}", details))
"""


@pytest.fixture
def checked(proved: Team) -> Team:
    folder = proved.root / "verify"
    (folder / "checks.toml").write_text(CHECK)
    (folder / "text.py").write_text(LOOK)
    (folder / "marks.py").write_text('MARK = "line 20 fixed"\n')
    (folder / "mutants").mkdir()
    (folder / "mutants/some.toml").write_text(
        "".join(
            f'[[mutant]]\nname = "{name}"\npatch = "twenty"\nwhat = "x"\nkiller = "{killer}"\n'
            f"[[mutant.edit]]\nfiles = ['python/model.py']\nfind = '{find}'\nreplace = '{to}'\n"
            for name, killer, find, to in (
                ("dropped", "text", "line 20 fixed", "line 20"),
                ("dropped-too", "probe", "line (20) fixed", r"line \1"),
                ("by-path", "probes/twenty.py", "line 20 fixed", "line"),
                ("misfit", "probe", "no such line", ""),
            )
        )
    )
    return proved


@pytest.fixture
def bundled(fixtool: Run, checked: Team, tmp_path: Path) -> Path:
    """A bundle, unpacked where there is no fixtool."""
    ran = fixtool(
        "verify", "--prove", "--checks", "--sglang-ref", "v1.0", "--source", checked.upstream.path,
        "--bundle", tmp_path / "out.tar", "--json", "-C", checked.root,
    )  # fmt: skip
    result = document(ran)
    assert result["bundle"]["size"] == (tmp_path / "out.tar").stat().st_size
    assert result["bundle"]["run"] == "tar xf out.tar && python3 fixtool-verify/run.py"
    host = tmp_path / "host"
    host.mkdir()
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(host, filter="data")
    return host / "fixtool-verify"


def on_host(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {key: os.environ[key] for key in ("PATH", "HOME")}
    return subprocess.run(
        [PY, "-S", str(folder / "run.py"), *args],
        env=env, capture_output=True, text=True, check=False, timeout=GENEROUS,
    )  # fmt: skip
