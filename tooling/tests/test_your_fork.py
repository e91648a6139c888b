"""docs/your-fork.md, followed word by word: its patches are written, and its commands typed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.package_index import ELF, X86, Server, make_wheel
from support.releases import SO
from support.repositories import ROOT, Ran

PAGE = (ROOT / "docs/your-fork.md").read_text("utf-8")
PATCHES = dict(re.findall(r"<!-- file: (\S+) -->\n```diff\n(.*?)^```", PAGE, re.M | re.S))
NOT_RUN = "<!-- not run -->\n```console\n"


def typed() -> Iterator[tuple[str, str]]:
    """Every command of the page, with what the page says that it prints."""
    for block in re.findall(
        r"^```console\n(.*?)^```", PAGE.replace(NOT_RUN, "```text\n"), re.M | re.S
    ):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


def sides(patch: str) -> tuple[str, str, str]:
    """The file that a patch is of, without the first folder, and its text before and after. Lines
    that the patch does not show are numbered ones."""
    name = re.findall(r"^--- a/python/(\S+)$", patch, re.M)[0]
    before: list[str] = []
    after: list[str] = []
    for start, hunk in re.findall(r"^@@ -(\d+)\S* \S+ @@\n((?:[ +-].*\n)*)", patch, re.M):
        filler = [f"# line {number}" for number in range(len(before) + 1, int(start))]
        before += filler
        after += filler
        lines = hunk.splitlines()
        before += [line[1:] for line in lines if line[0] != "+"]
        after += [line[1:] for line in lines if line[0] != "-"]
    return name, "\n".join(before) + "\n", "\n".join(after) + "\n"


@dataclass
class Shell:
    """The folder that the page is followed in."""

    folder: Path
    fixtool: Callable[..., Ran]
    ran: list[tuple[str, Ran]] = field(default_factory=list)

    def type(self, command: str) -> Ran:
        words = shlex.split(command)
        if words[0] == "fixtool":
            ran = self.fixtool(*words[1:], cwd=self.folder)
        else:
            done = subprocess.run(
                ["bash", "-ec", command],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            ran = Ran(done.returncode, done.stdout, done.stderr)
        self.ran.append((command, ran))
        return ran


@pytest.fixture
def releases(server: Server) -> None:
    """Two releases that differ in these files as 0.5.20 and 0.5.23 do."""
    old: dict[str, bytes] = {SO: ELF, "sglang/__init__.py": b""}
    new = dict(old)
    for name, patch in PATCHES.items():
        file, before, after = sides(patch)
        if "serial-encoding" in name:
            before = after = before.replace(
                "# line 15\n", "        self.skip_special_tokens_in_output = True\n"
            )
        elif "count-prompt" in name:
            line = "messages, tokenize=True, add_generation_prompt=True"
            assert line in before
            after = before.replace(line, f"{line}, return_dict=False")
        old[file], new[file] = before.encode(), after.encode()
    make_wheel(server.folder, "0.5.20", X86, old)
    make_wheel(server.folder, "0.5.23", X86, new)


def normal(text: str) -> str:
    """``text`` without what differs between the real releases and those of this test."""
    text = re.sub(r"\b[0-9a-f]{4}…[0-9a-f]{4}\b|\b[0-9a-f]{8,64}\b", "ID", text)
    text = re.sub(r"(~|/\S*?)/\.?(local/|cache/)?(state|cache|fixtool)/\S*", "PLACE", text)
    return re.sub(r"[ ]+", " ", text)


def test_the_page_works_as_it_is_typed(
    fixtool: Callable[..., Ran], releases: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada Example")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    folder = tmp_path / "page"
    (folder / "patches").mkdir(parents=True)
    for name, patch in PATCHES.items():
        (folder / name).write_text(patch)
    shell = Shell(folder, fixtool)
    for command, shown in typed():
        ran = shell.type(command)
        asks = "needs you" in shown or " conflict " in shown
        assert ran.status == (3 if asks else 0), (command, ran.out, ran.err)
        for line in shown.splitlines():
            if line != "…":
                assert normal(line) in [normal(printed) for printed in ran.out.splitlines()], (
                    command
                )
    lines = {path.parent.name for path in (folder / "my-fork/patches").glob("*/series")}
    assert lines == {"v0.5.20", "v0.5.23"}
    shelf = folder / "my-fork/patches/v0.5.23/shelf"
    gone = {"count-prompt-tokens.patch", "wide-cache-offsets.patch"}
    assert {path.name for path in shelf.glob("*.patch")} == gone
    status = subprocess.run(
        ["git", "-C", folder / "my-fork", "status", "--porcelain"], capture_output=True, check=True
    )
    assert status.stdout == b""
