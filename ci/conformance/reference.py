"""What git makes of a patch on a tree, and how fixtool's answer compares."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine import Answer
from outcomes import Outcome

Trees = tuple[str, ...]


@dataclass
class Reference:
    """The git command ``real``, on the objects of the git directory ``objects``."""

    real: Path | str
    objects: Path

    def _run(
        self, folder: Path, *words: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
        who = {f"GIT_{role}_{what}": "x@x.invalid" for role in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")}  # fmt: skip
        environment = {**clean, **who, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(folder),
                       "GIT_INDEX_FILE": str(folder / "index")}  # fmt: skip
        return subprocess.run([self.real, *words], input=stdin, cwd=folder, env=environment,
                              capture_output=True, check=False)  # fmt: skip

    def applied(self, tree: str, patch: bytes, *options: str) -> tuple[str, ...]:
        """The tree after `git apply` with ``options``; none if it refuses."""
        place = f"--git-dir={self.objects}"
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._run(folder, place, "read-tree", tree)
            done = self._run(folder, place, "apply", "--cached", *options, "-", stdin=patch)
            made = self._run(folder, place, "write-tree").stdout.decode().split()
        return tuple(made) if done.returncode == 0 else ()

    def other_ways(self, tree: str, patch: bytes) -> list[Callable[[], Trees]]:
        """`git apply` with what `fixtool import` finds out by itself and notes: a three-way merge,
        how many folders the names lose, and the line ends of the files or of a whole diff."""
        options = [("--3way",), *((f"-p{strip}",) for strip in range(6))]
        ways = [partial(self.applied, tree, patch, *words) for words in options]
        with_return = re.sub(rb"(?m)^((?!--- |\+\+\+ )[ +-].*[^\r\n])$", rb"\1\r", patch)
        contents = (patch.replace(b"\r\n", b"\n"), with_return)
        return [*ways, *(partial(self.applied, tree, content) for content in contents)]

    def at_noted_place(self, tree: str, patch: bytes, answer: Answer) -> Trees:
        """`git apply` at the place that a note of import names, `applied with -p 2 --directory x`;
        nothing if it names none."""
        for note in answer.notes:
            if match := re.match(r"applied with( -p (\d+))?( --directory (\S+))?$", note):
                words = [f"-p{match[2]}"] if match[2] else []
                words += [f"--directory={match[4]}"] if match[4] else []
                return self.applied(tree, patch, *words)
        return ()

    def other_mails(self, tree: str, mail: bytes) -> list[Callable[[], Trees]]:
        """`git am` with what `fixtool import` finds out by itself."""
        options = ("--3way", "--keep-cr", "--quoted-cr=strip")
        return [partial(self.mailed, tree, mail, option) for option in options]

    def paths(self, patch: bytes) -> frozenset[str]:
        """The files that `git apply` says the patch touches."""
        return frozenset(self.ordered_paths(patch))

    def ordered_paths(self, patch: bytes) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            out = self._run(Path(name), "apply", "--numstat", "-z", "-", stdin=patch).stdout
        records = out.decode("utf-8", "surrogateescape").split("\0")[:-1]
        return [record.split("\t", 2)[2] for record in records if record.count("\t") > 1]

    def mailed(self, tree: str, mail: bytes, *options: str) -> tuple[str, ...]:
        """The tree after each commit that `git am` makes of ``mail``; none if it stops."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._run(folder, "init", "--quiet", "work")
            work = folder / "work"
            (work / ".git/objects/info/alternates").write_text(f"{self.objects / 'objects'}\n")
            base = self._run(work, "commit-tree", tree, "-m", "base").stdout.decode().strip()
            self._run(work, "reset", "--quiet", "--hard", base)
            (folder / "mail").write_bytes(mail)
            done = self._run(work, "am", "--quiet", *options, str(folder / "mail"))
            made = self._run(work, "log", "--reverse", "--format=%T", f"{base}..HEAD").stdout
        return tuple(made.decode().split()) if done.returncode == 0 else ()


def judge(theirs: Trees, answer: Answer, *others: Callable[[], Trees]) -> tuple[Outcome, str]:
    """Compare the trees that git made, none if it refused, with fixtool's answer. ``others`` give
    what else git can make of the patch, with an option that fixtool may find out itself."""
    if answer.crash:
        return Outcome.CRASH, answer.crash
    if answer.trees == theirs:
        return (Outcome.EQUAL if theirs else Outcome.BOTH_REFUSE), ""
    if not answer.trees:
        return Outcome.STRICTER, answer.reason
    if any(answer.trees == other() for other in others):
        return Outcome.EQUAL, ""
    return Outcome.WRONG, f"git made {theirs or 'nothing'}, and fixtool {answer.trees}"
