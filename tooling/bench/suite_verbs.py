"""Suite `verbs`: each verb that edits a series or shows it, on a long series of real commits.

Everything is in memory if the machine has a file system for that, and fixtool's store and cache are
warm. Each verb begins with the same committed series, and with a fresh work tree if it needs one;
to make these is not measured. A patch in the middle of the series is the one that is edited.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from place import Place, both, temporary_place
from real_commits import choose
from suite_four import series_of
from timing import CommandFailed, Contestant, Group, take_turns

SIZE = 200
_LONG = 10  # characters of a line that is told apart from others
_EDITING = 1.1  # seconds
_MESSAGE = ("-m", "area: say why\n\nIt is needed.")
_NEW = ("new", "fresh", *_MESSAGE)
VERBS = (
    "list", "show", "diff", "log", "lint", "status", "import", "export", "export --mbox",
    "export --combined", "export --series", "new", "new --continue", "new of edits", "edit",
    "edit --continue", "edit --abort", "refresh", "absorb", "absorb --dry-run", "move", "rename",
    "reword", "squash", "split", "copy", "drop", "restore", "undo", "redo", "rebase --dry-run",
)  # fmt: skip
"""The rows. What follows a verb is an option of it, or says on what it works."""


def run(given: Namespace) -> list[Group]:
    size = min(SIZE, max(given.sizes))
    with temporary_place(given.memory, given.fixtool) as place:
        contestants = _Verbs(place, given, size).contestants()
        return [take_turns("verbs", f"A series of {size} patches", contestants, place.environment,
                           given.runs, warm_up=not given.quick, limit=given.limit)]  # fmt: skip


class _Verbs:
    """A series, and the patches that the verbs are about."""

    def __init__(self, place: Place, given: Namespace, size: int) -> None:
        self.place, self.given, self.fixtool, self.size = place, given, given.fixtool, size
        self.clone = place.shared_clone(given.repo)
        chosen = choose(place, self.clone, given.last, [size], 0, None)
        self.base, self.tip = chosen.base, chosen.tips[size]
        words = (f"{self.base}..{self.tip}", "--from", self.clone, "--first-parent", "--skip-empty")
        self.kept = place.patch_repository("kept", self.clone, self.base, *words)
        self.slugs = [path.stem for path in series_of(self.kept, "sample")]
        if len(self.slugs) != size:
            raise CommandFailed(f"{len(self.slugs)} patches were imported instead of {size}")
        self.line, self.tree = place.folder / "line", place.folder / "tree"
        commits = place.git(self.clone, "rev-list", "--reverse", "--first-parent",
                            f"{self.base}..{self.tip}").split()  # fmt: skip
        self.commits = [commit for commit in commits if self._files(f"{commit}^", commit)]
        self.middle, self.file, self.text = self._edited_line()
        self._anew()
        self._fixtool("rename", self.slugs[0], "renamed")  # the store and the cache are warm then

    def contestants(self) -> list[Contestant]:
        place = self.place.folder
        slug, last, edited = self.slugs[self.middle], self.slugs[-1], self._edit
        waits = partial(self._waits, "edit", slug)
        at_tree = ("--worktree", str(self.tree))
        one, other = self._neighbours()
        apart = self._of_two_files()
        dropped = partial(self._fixtool, "drop", last, "--reason", "why")
        undone = both(dropped, partial(self._fixtool, "undo"))
        words: Mapping[str, tuple[tuple[str | Path, ...], Callable[[], object] | None]] = {
            "list": (("list",), None),
            "show": (("show", slug, "--no-pager"), None),
            "diff": (("diff", slug, "--no-pager"), None),
            "log": (("log", "--no-pager"), dropped),
            "lint": (("lint",), None),
            "status": (("status", *at_tree), edited),
            "import": (("import", self._patch(last)), dropped),
            "export": (("export", *at_tree), both(edited, self._commit)),
            "export --mbox": (("export", "--mbox", place / "all.mbox"), None),
            "export --combined": (("export", "--combined", place / "all.diff"), None),
            "export --series": (("export", "--series", place / "all"), None),
            "new": (_NEW, None),
            "new --continue": (("new", "--continue"), partial(self._waits, *_NEW)),
            "new of edits": ((*_NEW, *at_tree), edited),
            "edit": (("edit", slug), None),
            "edit --continue": (("edit", "--continue"), waits),
            "edit --abort": (("edit", "--abort"), waits),
            "refresh": (("refresh", slug, *at_tree), edited),
            "absorb": (("absorb", *at_tree), edited),
            "absorb --dry-run": (("absorb", "--dry-run", *at_tree), edited),
            "move": (("move", one, "--after", other), None),
            "rename": (("rename", slug, "renamed"), None),
            "reword": (("reword", slug, *_MESSAGE), None),
            "squash": (("squash", one, other), None),
            "split": (("split", apart, "--by", "file"), None),
            "copy": (("copy", self.slugs[0], "--line", "sample", "--to", "other"), self._other),
            "drop": (("drop", last, "--reason", "why"), None),
            "restore": (("restore", last), dropped),
            "undo": (("undo",), dropped),
            "redo": (("redo",), undone),
            "rebase --dry-run": (("rebase", "--dry-run", "--onto", self.base), None),
        }
        return [
            Contestant(
                f"fixtool {name}", [[self.fixtool, "-C", self.line, *words[name][0]]], place,
                before=both(self._anew, words[name][1] or (lambda: None)), after=self._end,
                # Exit code 1 of lint means that it has findings about the real patches, and of
                # status that the work tree is edited.
                accepts=frozenset({0, 1} if name in ("lint", "status") else {0}),
                absent="" if apart or name != "split" else "no patch changes two files",
            )
            for name in VERBS
        ]  # fmt: skip

    # -- before and after a verb ----------------------------------------------------------------

    def _anew(self) -> None:
        for folder in (self.line, self.tree, self.place.folder / "all"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.kept, self.line, symlinks=True)

    def _fixtool(self, *words: str | Path) -> None:
        self.place.run(self.fixtool, "-C", self.line, *words)

    def _edit(self) -> None:
        """Make a work tree in which a line of a patch in the middle is edited."""
        self._fixtool("apply", "--no-build", "--sglang-ref", self.base, "--worktree", self.tree)
        self._write(self.tree)

    def _write(self, tree: Path) -> None:
        file = tree / self.file
        text = file.read_text()
        end = f"{self.text}\n"
        file.write_text(text.replace(end, f"{self.text} edited\n") if end in text else
                        f"{text}edited\n")  # fmt: skip
        # Git cannot tell two times of one second apart, and until a second is over, it reads all
        # files again in each command. Nobody edits and types a command within it.
        if not self.given.quick:
            time.sleep(_EDITING)

    def _commit(self) -> None:
        self.place.git(self.tree, "commit", "--quiet", "--all", "--message=area: one more")

    def _waits(self, *words: str) -> None:
        self._fixtool(*words)
        (tree,) = (self.place.state / "worktrees").glob("line-*/edit-sample")
        self._write(tree)

    def _other(self) -> None:
        words = ("--upstream", self.clone, "--base", self.base, "--wheel-version", "0.0.1")
        self._fixtool("init", self.line, "--line", "other", *words)
        self.place.git(self.line, "add", "--all")
        self.place.git(self.line, "commit", "--quiet", "--allow-empty",
                       "--message=other")  # fmt: skip

    def _end(self) -> None:
        if any((self.place.state / "edit").glob("*.json")):
            self._fixtool("edit", "--abort")

    # -- the patches that the verbs are about ---------------------------------------------------

    def _patch(self, slug: str) -> Path:
        return self.kept / "patches" / "sample" / f"{slug}.patch"

    def _files(self, old: str, new: str, *options: str) -> list[str]:
        words = ("diff-tree", "-r", "--no-renames", "--name-only", *options, old, new)
        return self.place.git(self.clone, *words).splitlines()

    def _edited_line(self) -> tuple[int, str, str]:
        """The number of a patch in the middle, and a line that it added, which is there at the end:
        in a file that no later patch changes, if there is one."""
        for alone in (True, False):
            for number in range(self.size // 2, self.size):
                commit = self.commits[number]
                later = set(self._files(commit, self.tip)) if alone else set()
                for path in self._files(f"{commit}^", commit, "--diff-filter=AM"):
                    if path not in later and (line := self._added(commit, path)):
                        return number, path, line
        raise CommandFailed("no patch adds a line of text that stays")

    def _added(self, commit: str, path: str) -> str:
        """A line that ``commit`` added to a file, and that is in there once at the end."""
        try:
            lines = self.place.git(self.clone, "show", f"{self.tip}:{path}").splitlines()
        except CommandFailed:
            return ""
        diff = self.place.git(self.clone, "diff", f"{commit}^", commit, "--", path).splitlines()
        added = (line[1:] for line in diff if line.startswith("+") and not line.startswith("+++"))
        return next((line for line in added if len(line) >= _LONG and lines.count(line) == 1), "")

    def _neighbours(self) -> tuple[str, str]:
        """Two patches that stand side by side and have no file in common, if there are such."""
        files = [set(self._files(f"{commit}^", commit)) for commit in self.commits]
        pairs = [at for at in range(self.size - 1) if not files[at] & files[at + 1]]
        at = min(pairs or [0], key=lambda at: abs(at - self.size // 3))
        return self.slugs[at], self.slugs[at + 1]

    def _of_two_files(self) -> str:
        """A patch that changes two files or three; an empty text if there is none."""
        for slug, commit in zip(self.slugs, self.commits, strict=True):
            if len(self._files(f"{commit}^", commit)) in (2, 3):
                return slug
        return ""
