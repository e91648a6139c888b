"""What `fixtool init` makes: a line, and a probe that a team without any file of ours can run."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import fixtool as fixtool_package
from fixtool.edit import init
from fixtool.progress import Silence
from support.json_documents import document
from support.repositories import NUMBERS, ROOT, Git, Ran

EXAMPLE = Path(init.__file__).parent / "templates/example_probe.py"
Run = Callable[..., Ran]


@pytest.fixture
def own(fixtool: Run, upstream: Git, tmp_path: Path) -> Path:
    """A fresh repository with one patch, whose probe is the example."""
    folder = tmp_path / "own"
    base = upstream("rev-parse", "v1.0")
    assert document(fixtool("init", folder, "--upstream", upstream.path, "--base", base, "--json"))
    upstream.commit(
        "model: fix five\n\nWhy.\n\nProbe: probes/example.py python/model.py 'line 5 fixed'\n"
        "Signed-off-by: A Person <person@example.org>",
        python__model_py=NUMBERS.replace("line 5\n", "line 5 fixed\n"),
    )
    imported = fixtool("import", f"{base}..main", "--from", upstream.path, cwd=folder)
    assert (imported.status, imported.err) == (0, "")
    return folder


def test_the_example_probe_proves_a_patch(
    fixtool: Run, own: Path, upstream: Git, tmp_path: Path
) -> None:
    """Also where no Python has torch: a plain project needs none."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    words = ["verify", "--prove", "--source", upstream.path, "--json"]
    verified = document(fixtool(*words, cwd=own, PYTHONPATH=str(tmp_path)))
    assert (verified["exit_code"], verified["proofs"][0]["proof"]) == (0, "proved")
    assert [step["said"] for step in verified["steps"]][::2] == [
        "python/model.py does not hold 'line 5 fixed'", "python/model.py holds 'line 5 fixed'",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [".gitattributes", ".gitignore", "pyproject.toml", "series"])
def test_after_a_write_that_failed_the_same_command_works(
    fixtool: Run, upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "own"
    words = ["init", folder, "--upstream", upstream.path, "--base", "v1.0", "--line", "main"]
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        patched.setattr("fixtool.series.write.write_durably", lambda path, _: fail(path, path))
        ran = fixtool(*words)
    assert (ran.status, "No space left" in ran.err) == (4, True)
    assert not list(folder.glob("patches/*"))
    assert fixtool(*words).status == 0
    assert (folder / ".gitignore").read_text() == "patches/.lock\n"
    assert (folder / "patches/main/series").exists()
    assert fixtool(*words).status == 2


def test_a_verify_folder_of_ones_own_is_kept(fixtool: Run, own: Path, upstream: Git) -> None:
    (own / "verify/probes/example.py").unlink()
    words = ["init", own, "--upstream", upstream.path, "--base", "v1.0", "--line", "second"]
    assert fixtool(*words).status == 0
    assert [path.name for path in (own / "verify/probes").iterdir()] == ["README.md"]


def test_the_version_of_a_line(upstream: Git, tmp_path: Path) -> None:
    """The one that was asked for, else the one that the base is called by, else none at all."""
    source, wanted = str(upstream.path), {"1.2.3": ("v1.0", "1.2.3"), "1.0": ("v1.0", None)}
    wanted["0.0.0"] = (upstream.head(), None)
    for version, (base, wheel_version) in wanted.items():
        request = init.InitRequest(
            tmp_path / "own", source, base, f"for-{version}", wheel_version=wheel_version
        )
        line = init.init(request, Silence()).line
        assert (line.upstream.version, line.upstream.release) == (version, None)


def test_files_of_ones_own_are_kept(upstream: Git, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / ".gitignore").write_text("mine\n")
    init.init(init.InitRequest(own, str(upstream.path), "v1.0"), Silence())
    assert (own / ".gitignore").read_text() == "mine\n"
    assert (own / ".gitattributes").read_text().endswith("\npatches/** -text\n")
    assert (own / "pyproject.toml").read_text() == '[tool.fixtool]\nprofile = "plain"\n'


def test_the_wheel_carries_the_templates(own: Path) -> None:
    text = (own / "verify/probes/example.py").read_text()
    assert text == EXAMPLE.read_text()
    # The package may be installed away from the checkout, so its path is told from the package.
    inside = EXAMPLE.relative_to(Path(fixtool_package.__file__).parent)
    tracked = subprocess.run(
        ["git", "-C", ROOT / "tooling/fixtool", "ls-files"], capture_output=True, text=True
    )
    assert f"{inside}" in tracked.stdout.split()


def test_the_sample_in_the_documents_is_the_example() -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs/probes.md").read_text())
    assert EXAMPLE.read_text() in blocks


def test_the_first_import_commits_the_line_that_init_made(
    fixtool: Run, upstream: Git, tmp_path: Path
) -> None:
    """Whoever ran `git init` before was refused, and told to type a command that git refused too."""
    own = tmp_path / "own"
    words = ("init", own, "--upstream", upstream.path, "--base", "v1.0", "--line", "main")
    assert fixtool(*words).status == 0
    git = Git(own)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    upstream.commit("fix five", python__model_py=NUMBERS.replace("line 5\n", "line five\n"))
    came = document(fixtool("import", "v1.0..main", "--from", upstream.path, "-C", own, "--json"))
    assert came["committed"] == git.head()
    names = git("ls-tree", "--name-only", "HEAD:patches/main").split()
    assert names == ["fix-five.patch", "series", "upstream.toml"]

    (own / "patches/other").mkdir()
    for path in (own / "patches/main").iterdir():
        (own / "patches/other" / path.name).write_bytes(path.read_bytes())
    refused = fixtool("drop", "fix-five", "--line", "other", "--reason", "x", "-C", own)
    assert (refused.status, "patches/other/ is not committed" in refused.err) == (1, True)
    assert f"git -C {own} add {own}/patches/other && git -C {own} commit" in refused.err


def test_without_a_git_repository_it_says_that_nothing_is_committed(
    fixtool: Callable[..., Ran], upstream: Git, tmp_path: Path
) -> None:
    """The command that it names makes one, and commits all that is there."""
    words = ("init", "own", "--upstream", upstream.path, "--base", "v1.0", "--line", "main")
    (note,) = (
        note for note in document(fixtool(*words, "--json"))["notes"] if "is committed" in note
    )
    commands = note.partition("nothing is committed: ")[2]
    person = {f"GIT_{who}_{key}": "a@example.org"
              for who in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}  # fmt: skip
    env = {**os.environ, **person}
    subprocess.run(commands, shell=True, cwd=tmp_path, env=env, check=True)
    assert Git(tmp_path / "own")("status", "--porcelain") == ""
    again = fixtool(*words[:-1], "other")
    assert (again.status, "nothing is committed" in again.out) == (0, False)
