"""Stands in for `git`, `quilt` or `stg` while another project's tests run, and records patches.

    recorder.py TOOL REAL FOLDER WORD...

runs ``REAL WORD...`` as it is. If the words apply a patch (`git apply`, `git am`, `quilt push`,
`stg push`), it appends a line to ``FOLDER/samples.jsonl``: the patch, what it was applied to, what
that made, the options and the exit status. Trees and patches are objects of the repository
``FOLDER/objects.git``. What cannot be recorded is left out: the test itself must never notice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

# The options of `git apply` and `git am` that take the next word, and the options of git itself.
_WITH_WORD = {"-p", "-C", "--exclude", "--include", "--directory", "--whitespace",
              "--build-fake-ancestor", "--patch-format", "--resolvemsg"}  # fmt: skip
_GLOBAL_WITH_WORD = {"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path"}
_STG_MOVES = ("push", "goto", "float", "sink", "rebase", "pull", "pick", "delete", "pop", "undo")
_QUILT_OWN = ("patches", ".pc")


class Recorder:
    def __init__(self, real: str, folder: Path) -> None:
        self.real, self.folder = real, folder
        kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
        self.clean = {**kept, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}

    def git(self, *words: str, stdin: bytes | None = None, index: Path | None = None,
            work_tree: Path | None = None) -> str:  # fmt: skip
        """git on the recorder's own repository."""
        environment = {**self.clean, **({"GIT_INDEX_FILE": str(index)} if index else {})}
        place = [f"--git-dir={self.folder / 'objects.git'}"]
        place += [f"--work-tree={work_tree}"] if work_tree else []
        done = subprocess.run(
            ["git", *place, *words], env=environment, input=stdin, cwd=work_tree,
            capture_output=True, check=False,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def keep(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def tree_of_files(self, top: Path, without: tuple[str, ...] = ()) -> str:
        """The files below ``top`` as they are, whatever attributes or settings say."""
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder) / "index"
            left_out = [f":(exclude,top){name}" for name in without]
            self.git("-c", "core.autocrlf=false", "add", "-A", "-f", "--ignore-errors", "--", ".",
                     *left_out, index=index, work_tree=top)  # fmt: skip
            return self.git("write-tree", index=index)

    def tree_of_index(self, words: list[str]) -> str:
        """The tree of the test's own index, brought into the recorder's repository."""
        return self.bring(words, self.ask(words, "write-tree"))

    def bring(self, words: list[str], name: str) -> str:
        tree = self.ask(words, "rev-parse", "--verify", "--quiet", f"{name}^{{tree}}")
        if tree:
            self.bring_history(tree, words)
        return tree

    def bring_history(self, name: str, words: Sequence[str] = ()) -> None:
        """Bring an object and everything that it names into the recorder's repository."""
        command = [self.real, *words]
        listed = subprocess.run(
            [*command, "rev-list", "--objects", name], capture_output=True, check=False
        ).stdout
        pack = subprocess.run(
            [*command, "pack-objects", "-q", "--stdout"],
            input=listed, capture_output=True, check=False,
        ).stdout  # fmt: skip
        self.git("unpack-objects", "-q", stdin=pack)

    def ask(self, words: Sequence[str], *question: str) -> str:
        """The answer of git in the test's own repository; empty if it fails."""
        done = subprocess.run([self.real, *words, *question], capture_output=True, check=False)
        return (
            done.stdout.decode("utf-8", "surrogateescape").strip() if done.returncode == 0 else ""
        )

    def add(self, sample: dict[str, Any]) -> None:
        sample["test"] = Path(os.environ.get("CONFORMANCE_TEST", os.getcwd())).name  # noqa: PTH109
        with (self.folder / "samples.jsonl").open("a") as file:
            file.write(json.dumps(sample) + "\n")


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """git's own options, the command, and its words."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _GLOBAL_WITH_WORD else 1
    return words[:at], words[at] if at < len(words) else "", words[at + 1 :]


def _options_and_files(words: list[str]) -> tuple[list[str], list[str]]:
    options: list[str] = []
    files: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            files += words[at + 1 :]
            break
        if word.startswith("-") and word != "-":
            options.append(word)
            if word in _WITH_WORD and at + 1 < len(words):
                at += 1
                options.append(words[at])
        else:
            files.append(word)
        at += 1
    return options, files


def _run(real: str, words: list[str], stdin: bytes | None) -> int:
    sys.stdout.flush()
    done = subprocess.run([real, *words], input=stdin, check=False)
    # Killed by a signal: a shell would say 128 and the number.
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def record_git(real: str, folder: Path, words: list[str]) -> int:
    before_command, command, rest = _split(words)
    options, files = _options_and_files(rest)
    going_on = {"--continue", "-r", "--resolved", "--skip", "--abort", "--quit", "--retry"}
    if command not in ("apply", "am") or going_on & set(options) or (
        any(each.startswith(("--show-current", "-h")) for each in options)
    ):  # fmt: skip
        return _run(real, words, None)
    recorder = Recorder(real, folder)
    stdin = sys.stdin.buffer.read() if "-" in files or not files else None
    sample: dict[str, Any] = {"command": command, "options": options}
    try:
        start = Path.cwd()
        for name, value in pairwise(before_command):
            start = start / value if name == "-C" else start
        contents = [
            stdin if file == "-" else (start / file).read_bytes() for file in files or ["-"]
        ]
        sample["patches"] = [recorder.keep(content or b"") for content in contents]
        top = recorder.ask(before_command, "rev-parse", "--show-toplevel") or str(start)
        sample["prefix"] = recorder.ask(before_command, "rev-parse", "--show-prefix")

        def look() -> str:
            if command == "am":
                return recorder.bring(before_command, "HEAD")
            if "--cached" in options:
                return recorder.tree_of_index(before_command)
            return recorder.tree_of_files(Path(top))

        sample["before"] = look()
    except (OSError, ValueError):
        return _run(real, words, stdin)
    status = sample["status"] = _run(real, words, stdin)
    sample["after"] = look()
    recorder.add(sample)
    return status


def record_quilt(real: str, folder: Path, words: list[str]) -> int:
    """Record each patch that `quilt push` applies, as quilt has it in ``patches/``."""
    if not words or words[0] != "push":
        return _run(real, words, None)
    recorder = Recorder(real, folder)
    top = Path.cwd()
    while not (top / "patches").is_dir() and top != top.parent:
        top = top.parent
    if top == top.parent:  # quilt finds no series either
        return _run(real, words, None)

    def applied() -> list[str]:
        path = top / ".pc/applied-patches"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    had, before = applied(), recorder.tree_of_files(top, _QUILT_OWN)
    series = (top / "patches/series").read_text() if (top / "patches/series").exists() else ""
    status = _run(real, words, None)
    new = applied()[len(had) :]
    patches = {}
    for name in series.split("\n"):
        fields = name.split()
        path = top / "patches" / fields[0] if fields else top
        if path.is_file():
            patches[fields[0]] = {"patch": recorder.keep(path.read_bytes()), "options": fields[1:]}
    recorder.add({
        "command": "push", "options": words[1:], "before": before, "status": status,
        "after": recorder.tree_of_files(top, _QUILT_OWN), "had": had, "applied": new,
        "series": [name.split()[0] for name in series.split("\n") if name.split()],
        "patches": patches,
    })  # fmt: skip
    return status


def record_stg(real: str, folder: Path, words: list[str]) -> int:
    """Record each patch that a command of StGit moved to another parent: its old and new commit."""
    if not words or words[0] not in _STG_MOVES:
        return _run(real, words, None)
    recorder = Recorder("git", folder)

    def patches() -> dict[str, str]:
        listed = recorder.ask(
            [], "for-each-ref", "--format=%(refname) %(objectname)", "refs/patches"
        )
        return dict(line.split(" ") for line in listed.split("\n") if line)

    before = patches()
    status = _run(real, words, None)
    for name, commit in patches().items():
        old, new = (recorder.ask([], "rev-parse", f"{each}^", f"{each}^{{tree}}").split()
                    for each in (before.get(name, commit), commit))  # fmt: skip
        if len(old) == len(new) == 2 and old[0] != new[0]:
            for each in (before[name], commit):
                recorder.bring_history(each)
            recorder.add({"command": words[0], "status": status, "patch": before[name],
                          "base": old[0], "onto": new[0], "after": new[1],
                          "name": name.rpartition("/")[2]})  # fmt: skip
    return status


def main() -> int:
    tool, real, folder, *words = sys.argv[1:]
    recorders = {"git": record_git, "quilt": record_quilt, "stg": record_stg}
    return recorders[tool](real, Path(folder), words)


if __name__ == "__main__":
    sys.exit(main())
