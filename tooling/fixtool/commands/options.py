"""The options that several commands share, and the context that a command starts with."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fixtool import terminal
from fixtool.commands.recording import record
from fixtool.commands.retype import complete, given
from fixtool.errors import FixtoolError, Mistyped, Refused, UsageError
from fixtool.text import argument

if TYPE_CHECKING:
    from fixtool.apply.home import Home
    from fixtool.apply.worktree import Record
    from fixtool.edit.merging import Favour
    from fixtool.edit.parts import By
    from fixtool.git.objects import Oid
    from fixtool.git.store import Store
    from fixtool.series.context import Context
    from fixtool.series.line import Line, PatchRepository
    from fixtool.sources.source import Source as SourceOfTree

Directory = Annotated[
    Path | None,
    Option("-C", "--repository", metavar="DIR", help="The patch repository, or a folder in it."),
]


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta["json"] = wanted  # cli reads it, to print a failure as JSON too
    return wanted


Json = Annotated[
    bool, Option("--json", callback=_remember, help="Print one JSON document instead of text.")
]
Ref = Annotated[
    str | None,
    Option("--ref", "--sglang-ref", metavar="REF", help="A commit id, tag, branch or release."),
]
LineName = Annotated[
    str | None,
    Option("--line", metavar="NAME", help="The line, a folder in patches/."),
]
Source = Annotated[
    str | None,
    Option("--source", metavar="git|pypi|URL|PATH", help="Where upstream's tree comes from."),
]
Slug = Annotated[str, Argument(metavar="SLUG", help="The patch.")]
Slugs = Annotated[list[str] | None, Argument(metavar="[SLUG...]", help="Patches (default: all).")]
Worktree = Annotated[
    Path | None, Option("--worktree", metavar="DIR", help="The work tree (default: where you are).")
]
Python = Annotated[
    str | None,
    Option("--python", metavar="PY", help="The target's Python, with upstream's dependencies."),
]
NoCommit = Annotated[
    bool, Option("--no-commit", help="Write the line, and leave it to you to commit it.")
]
Pair = Annotated[
    list[str] | None,
    Option("--pair", metavar="SLUG=COMMIT", help="Say which commit is which patch."),
]
Ours = Annotated[
    bool, Option("--ours", help="Where both changed a patch: take the work tree's version.")
]
Theirs = Annotated[bool, Option("--theirs", help="Where both changed a patch: take the line's.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would happen; write nothing.")]
NoPager = Annotated[
    bool, Option("--no-pager", help="Print to the terminal, without git's pager or less.")
]
Verbose = Annotated[bool, Option("-v", "--verbose", help="Show files, hunks and reasons too.")]


def start(ctx: typer.Context, directory: Path | None) -> Context:
    """The context of a command: the patch repository that holds ``directory``, or that the work
    tree there is for, its settings, and progress bars unless the answer is JSON. The default is the
    directory that ``fixtool -C`` names, or else the current directory.

    In a work tree that fixtool made, its line is the one that is meant if none is named.
    """
    from fixtool.series.line import PatchRepository, put_back

    folder = _folder(ctx, directory)
    home = _home(folder)
    if home is None:
        return _context(ctx, PatchRepository.find(folder))
    put_back(home.patches / "patches")
    repository = PatchRepository(home.patches)
    if not repository.line_names:
        raise _gone(home.patches, home.top)
    return _context(ctx, repository, home)


def _gone(patches: Path, worktree: Path | None = None) -> UsageError:
    """The error for a work tree whose patch repository is not at ``patches`` any more. If there is
    only one beside that place, it has probably been renamed to that."""
    from fixtool.files import beside

    found = [path for path in beside(patches) if any(Path(path).glob("patches/*/series"))]
    place = found[0] if len(found) == 1 else "DIR"
    tree = f"the work tree {worktree}" if worktree else "this work tree"
    return UsageError(
        f"{tree} is of the patch repository {patches}, which is gone",
        where=str(worktree or patches),
        hint=f"name the place where it is now: -C {argument(place)}",
    )


def start_of(ctx: typer.Context, directory: Path | None, record: Record) -> Context:
    """Like ``start``, for a command about the work tree of ``record``: the default is the patch
    repository that it was made of."""
    if directory is None and ctx.obj is None and not Path(record.patches).is_dir():
        raise _gone(Path(record.patches))
    return start(ctx, directory or ctx.obj or Path(record.patches))


def start_anywhere(ctx: typer.Context, directory: Path | None) -> Context:
    """Like ``start``, also where no patch repository is yet: it then has no lines."""
    from fixtool.series.line import PatchRepository

    try:
        return start(ctx, directory)
    except UsageError:
        return _context(ctx, PatchRepository(_folder(ctx, directory)))


def start_logged(ctx: typer.Context, directory: Path | None) -> Context:
    """Like ``start``, also where the command that made the patch repository was taken back. Raises
    UsageError if no command ever changed anything there."""
    from fixtool.operations.log import Log

    try:
        return start(ctx, directory)
    except UsageError:
        context = start_anywhere(ctx, directory)
        if not Log(context.repository, context.settings).numbers():
            raise
        return context


def here(ctx: typer.Context, directory: Path | None) -> Path:
    """The folder in the work tree that a command is about if none is named: the directory of `-C`,
    if that is in a work tree of fixtool's, or else the current one."""
    folder = _folder(ctx, directory)
    return folder if _home(folder) else Path.cwd()


def worktree_here(ctx: typer.Context, directory: Path | None) -> Path | None:
    """The work tree that `apply` made in which a command was typed, or that `-C` names; None if
    there is none."""
    home = _home(_folder(ctx, directory))
    return home.top if home and not home.waiting else None


def _home(folder: Path) -> Home | None:
    """The work tree of fixtool's that holds ``folder``; None if there is none, or if a patch
    repository is nearer. What looks like one in the tree itself is upstream's."""
    nearer = False
    for top in (folder, *folder.parents):
        nearer = nearer or any((top / "patches").glob("[!.]*/series"))
        if os.path.lexists(top / ".git"):
            from fixtool.apply.home import home_at, is_checkout

            home = home_at(top)
            if home or nearer:
                # In a checkout of the user's own, it counts while the branch of `apply` does.
                return None if home and home.away and nearer and is_checkout(home.git_dir) else home
    return None


def _folder(ctx: typer.Context, directory: Path | None) -> Path:
    folder = directory or ctx.obj or Path.cwd()
    if not folder.is_dir():
        from fixtool.files import beside

        raise UsageError(
            f"-C {folder}: no such directory",
            where=str(folder),
            hint="name the patch repository: -C DIR; or go to it and leave -C out",
            mistyped=Mistyped(str(folder), beside(folder)),
        )
    return Path(folder).resolve()


def _context(ctx: typer.Context, repository: PatchRepository, home: Home | None = None) -> Context:
    from fixtool.series.context import Context
    from fixtool.settings import load, misspelt

    for name, meant in misspelt(os.environ):
        terminal.warn(f"nothing reads the variable {name}: write {meant} instead")
    settings = load(repository.root)
    if home and home.line in repository.line_names:
        settings = replace(settings, line=home.line)
    _require_line(ctx, repository, settings.line)
    _require_committer(ctx, repository)
    record(ctx, repository, settings, lambda: home or _home(Path.cwd()))
    progress = terminal.progress(quiet=ctx.meta.get("json", False))
    return Context(repository, settings, progress, typed(ctx))


def _require_line(ctx: typer.Context, repository: PatchRepository, line: str | None) -> None:
    """Raise Refused if the settings name a ``line`` that is not there, and the verb of ``ctx`` will
    take it. The place of the setting is known only here."""
    names = repository.line_names
    takes = ctx.params.get("line", "") is None and ctx.info_name not in ("list", "lint", "show")
    if line and names and line not in names and takes:
        from fixtool.settings import place_of

        raise Refused(
            f"the setting line = {line!r} names no line; there are: {', '.join(names)}",
            where=place_of(repository.root, "line"),
            hint="choose a line: --line NAME",
            mistyped=Mistyped(line, tuple(names)),
        )


_COMMITTING = {
    "copy", "drop", "edit", "history", "move", "new", "rebase", "rename", "restore", "reword",
    "split", "squash",
}  # fmt: skip
"""The verbs that fetch or compute before they commit. `import`, `refresh` and `export` look at the
line first by themselves."""


def _require_committer(ctx: typer.Context, repository: PatchRepository) -> None:
    """Raise CannotRun if the verb of ``ctx`` will commit in the patch repository and git does not
    know who commits. To find that out after the work would waste the work."""
    given = ctx.params
    idle = any(given.get(name) for name in ("dry_run", "no_commit", "abort"))
    if ctx.info_name not in _COMMITTING or idle or given.get("record") is False:
        return
    from fixtool.series.commit import committer, open_git

    if git := open_git(repository.root):
        committer(git)


def pager(no_pager: bool) -> AbstractContextManager[None]:
    """What is printed in the block goes to the user's pager, unless ``no_pager``."""
    from fixtool.commands.pager import page

    return nullcontext() if no_pager else terminal.paged(page)


def say_next(text: str, words: Sequence[str], label: str = "next") -> None:
    """Say the command to type next, with the options that the user gave in ``words``."""
    terminal.say(f"{label:9} {complete(text, words)}")


def say_without(slugs: Sequence[str], line: str, words: Sequence[str]) -> None:
    """Say the command that the user typed, ``words``, with ``line`` and without the patches
    ``slugs``."""
    chosen = () if "--line" in given(words) else ("--line", line)
    left_out = (word for slug in slugs for word in ("--without", slug))
    say_next(shlex.join(["fixtool", *words, *chosen, *left_out]), words, label="or")


def say_committed(commit: str) -> None:
    """Say which commit of the patch repository holds what the command changed."""
    terminal.say(f"committed {commit[:12]} in the patch repository")


def say_not_committed(folder: Path) -> None:
    """Say that what was written to the line at ``folder`` was not committed; and what to type, if
    the reason is that no git repository tracks it."""
    terminal.say(f"written   {folder}; nothing was committed")
    say_how_to_track(folder)


def say_how_to_track(folder: Path) -> None:
    """Say what to type if no git repository tracks the line at ``folder``."""
    from fixtool.series.commit import advice_to_track

    with suppress(FixtoolError):  # it was written all the same
        if advice := advice_to_track(folder.parent.parent):
            terminal.say(f"note      {advice}")


def typed(ctx: typer.Context) -> tuple[str, ...]:
    """The words of the command after ``fixtool``, as the user typed them."""
    words: tuple[str, ...] = ctx.meta.get("typed", ())
    return words


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def require_terminal(*, json: bool, hint: str) -> None:
    """Raise UsageError if `--hunks` cannot ask: without a terminal, or where the answer is JSON."""
    if json or not on_terminal():
        raise UsageError("--hunks asks on a terminal, and this is none", hint=hint)


def read_by(text: str | None, option: str) -> By | None:
    """What `--by` or `--split` says: a part for each file, or for each folder."""
    from fixtool.edit.parts import By

    if text is None:
        return None
    if text not in list(By):
        raise UsageError(
            f"{option} {text!r} is neither file nor folder",
            hint=f"{option} file",
            mistyped=Mistyped(text, tuple(By)),
        )
    return By(text)


def read_pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """What `--pair` says: the name of a commit for each slug."""
    pairs = {}
    for text in texts or ():
        slug, equals, name = text.partition("=")
        if not equals or not name or not slug:
            raise UsageError(f"--pair {text!r} is not of the form SLUG=COMMIT")
        pairs[slug.removesuffix(".patch")] = name
    return pairs


def read_favour(*, ours: bool, theirs: bool) -> Favour | None:
    """What `--ours` and `--theirs` say."""
    from fixtool.edit.merging import Favour

    if ours and theirs:
        raise UsageError("--ours and --theirs exclude each other")
    return Favour.OURS if ours else Favour.THEIRS if theirs else None


@dataclass(frozen=True)
class BaseStore:
    """An object store, the id of a line's base in it, and the source whose store it is."""

    repo: Store
    base: Oid
    source: SourceOfTree


def open_base(context: Context, line: Line, source: str | None, *, files: bool = True) -> BaseStore:
    """Fetch the base of ``line`` into a store, and also the ``files`` that its patches change."""
    from fixtool.sources.source import open_source
    from fixtool.sources.target import bring_base, line_source

    settings, progress, upstream = context.settings, context.progress, line.upstream
    name = source or line_source(settings, upstream)
    opened = open_source(
        name, upstream.settings(settings), settings.url or upstream.url, progress, [upstream.base]
    )
    base = bring_base(opened, upstream, settings, progress)
    if files:
        opened.bring(base, line.paths)
    return BaseStore(opened.repo, base, opened)


def pick_line(context: Context, name: str | None) -> Line:
    """The line called ``name``. If that is None, the line that the settings name, or else the only
    line. Raises UsageError if there are several lines and none is named."""
    return context.repository.pick(name or context.settings.line)


def warn_of_credentials() -> None:
    """Warn if the code of others that runs now could find a credential of the user's."""
    from fixtool.isolation import exposed

    if names := exposed(os.environ):
        terminal.warn(
            f"the code that runs now could read {', '.join(names[:3])} of this environment: this "
            "system has no Landlock, so run the command without credentials"
        )
