"""Code of others finds no credential: not in its environment, and not in that of any process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtool import isolation
from fixtool.commands.options import warn_of_credentials
from support.processes import GENEROUS, wait_until_gone, with_enough_time
from support.spy import TOKEN, finds, run_with_token, spy

on_this_kernel = pytest.mark.skipif(
    not isolation.can_isolate(), reason="this kernel has no Landlock domains"
)


@pytest.mark.parametrize(
    "name",
    ["GITHUB_TOKEN", "GH_TOKEN", "HF_TOKEN", "ACTIONS_RUNTIME_URL", "AWS_SECRET_ACCESS_KEY",
     "AWS_ACCESS_KEY_ID", "MY_PAT", "DB_PASSWORD", "SSH_AUTH_SOCK", "GIT_ASKPASS", "SSH_ASKPASS",
     "GOOGLE_APPLICATION_CREDENTIALS", "DOCKER_AUTH_CONFIG", "VSCODE_GIT_IPC_HANDLE", "npm_config__authToken",
     "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GIT_DIR", "GIT_CONFIG_VALUE_0", "session_cookie"],
)  # fmt: skip
def test_a_variable_that_is_left_out(name: str) -> None:
    assert isolation.without_credentials({name: "x", "HOME": "/h"}) == {"HOME": "/h"}


def test_variables_that_stay() -> None:
    kept = {"TOKENIZERS_PARALLELISM": "false", "PATH": "/bin", "HF_HOME": "/h", "AUTHOR": "me",
            "CUDA_VISIBLE_DEVICES": "0", "GITHUB_ACTIONS": "true", "FIXTOOL_RUN": "7",
            "LD_LIBRARY_PATH": "/l", "PIP_INDEX_URL": "https://i.example/simple"}  # fmt: skip
    assert isolation.without_credentials(kept) == kept


def test_a_copy_and_a_login_are_left_out() -> None:
    environment = {
        "CI_JOB_TOKEN": TOKEN, "COPY": f"Bearer {TOKEN}", "MY_KEY": "/etc", "PATH": "/etc:/bin",
        "AWS_SECRET_KEY": "wJalrXUtn/K7MDENG/bPxRfi", "SAME": "x=wJalrXUtn/K7MDENG/bPxRfi",
        "KEY_FILE_KEY": "/home/me/.ssh/id_ed25519", "FILES": "/home/me/.ssh/id_ed25519",
        "SHORT_TOKEN": "1", "COUNT": "1", "PIP_INDEX_URL": "https://me:p@w@i.example/simple",
        "HTTPS_PROXY": "http://u@p.example:3128", "MAIL": "me@i.example",
    }  # fmt: skip
    assert isolation.without_credentials(environment) == {
        "PATH": "/etc:/bin", "COUNT": "1", "PIP_INDEX_URL": "https://i.example/simple",
        "HTTPS_PROXY": "http://p.example:3128", "MAIL": "me@i.example",
        "FILES": "/home/me/.ssh/id_ed25519",
    }  # fmt: skip


def test_the_spy_finds_what_is_not_hidden(tmp_path: Path) -> None:
    ran = run_with_token(words=["-c", spy(tmp_path / "log")])
    assert ran.status == 0, ran.err
    (found,) = finds(tmp_path / "log")
    assert {"GITHUB_TOKEN", "GH_TOKEN", "MY_OWN"} <= set(found)
    assert any(place.endswith("/environ") for place in found)
    assert any(place.startswith("memory of") for place in found)


RUN = """\
import os, sys
from fixtool import isolation
from fixtool.commands.options import warn_of_credentials
done = isolation.run([sys.executable, "-c", sys.argv[1]], folder="/", environment=os.environ)
sys.exit(done.stderr or done.returncode)
"""


@on_this_kernel
def test_an_isolated_process_finds_nothing(tmp_path: Path) -> None:
    ran = run_with_token(words=["-c", RUN, spy(tmp_path / "log")])
    assert (ran.status, finds(tmp_path / "log")) == (0, [[]]), ran.err


def isolated(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return isolation.run([sys.executable, "-c", code, *words], folder=str(folder),
                         environment=os.environ, timeout=GENEROUS)  # fmt: skip


def test_an_isolated_process_can_do_its_work(tmp_path: Path) -> None:
    """A domain of Landlock by itself would not let it move a file to another folder."""
    code = (
        "import os, subprocess, sys, threading\n"
        "os.makedirs('a/b')\n"
        "os.makedirs('c')\n"
        "open('a/b/file', 'w').write('text')\n"
        "os.link('a/b/file', 'c/linked')\n"
        "os.rename('a/b/file', 'c/moved')\n"
        "os.rename('a/b', 'c/folder')\n"
        "subprocess.run([sys.executable, '-c', 'open(\"made\", \"w\").close()'], check=True)\n"
        "thread = threading.Thread(target=print, args=('said',))\n"
        "thread.start()\n"
        "thread.join()\n"
        "open(f'/proc/{os.getpid()}/environ').read()\n"
        "sys.exit(7)\n"
    )
    done = isolated(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["folder", "linked", "moved"]
    assert (tmp_path / "made").exists()


def test_an_isolated_process_leaves_none_behind(tmp_path: Path) -> None:
    script = "sleep 3600 >/dev/null 2>&1 & echo $$; exit 3"
    done = isolation.run(["bash", "-c", script], folder=str(tmp_path), environment=os.environ)
    assert done.returncode == 3
    wait_until_gone(int(done.stdout))


def test_an_isolated_process_that_does_not_end(tmp_path: Path) -> None:
    begun = tmp_path / "group"
    script = f"echo $$ > {begun}; sleep 3600 & wait"

    def run(seconds: int) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            isolation.run(
                ["bash", "-c", script], folder="/", environment=os.environ, timeout=seconds
            )

    with_enough_time(run, lambda _: begun.exists())
    wait_until_gone(int(begun.read_text()))


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = isolation.run(["no-such-program"], folder=str(tmp_path), environment=os.environ)
    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and prctl")
def test_a_hidden_process_is_readable_again_afterwards() -> None:
    """Where the kernel has no domains, its files in /proc belong to root meanwhile."""
    before = isolation._prctl(isolation._GET_DUMPABLE, 0)
    with isolation.hidden():
        assert isolation._prctl(isolation._GET_DUMPABLE, 0) == 0
    assert isolation._prctl(isolation._GET_DUMPABLE, 0) == before


def test_a_person_is_warned_where_the_kernel_cannot_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(isolation, "can_isolate", lambda: False)
    for name in isolation.exposed(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    warn_of_credentials()
    err = capsys.readouterr().err
    assert re.match(r"warning: the code that runs now could read .*GITHUB_TOKEN", err)
    assert TOKEN not in err
    monkeypatch.setattr(isolation, "can_isolate", lambda: True)
    warn_of_credentials()
    assert capsys.readouterr().err == ""
