"""fixtool report"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fixtool import __version__, terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, Refused, UsageError
from fixtool.text import printable

if TYPE_CHECKING:
    from fixtool.report.documents import Failure, History, Rebase
    from fixtool.report.todo import Kept, Plot
    from fixtool.series.context import Context
    from fixtool.series.line import Line

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 4 << 20  # bytes of a plot; it is in the page
_NAMES = ("report.html", "report.md")


def report(
    ctx: typer.Context,
    line: options.LineName = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", metavar="FILE", help="What `history --json` printed; else made."),
    ] = None,
    rebase: Annotated[
        Path | None,
        typer.Option("--rebase", metavar="FILE", help="What `rebase --json` printed."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", help="Kept results; default: verify/results."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="The kernel's; default: the newest result's."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Where the two files go.")
    ] = Path("fixtool-report"),
    source: options.Source = None,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Draw the picture: one HTML page and a Markdown twin, what needs a person first.

    Example: fixtool report --history history.json --rebase rebase.json --output public
    """
    from fixtool.report import documents, page
    from fixtool.report.todo import Report, find_todos

    context = options.start(ctx, directory)
    repository = context.repository
    told = documents.read_history(history) if history else None
    moved = documents.read_rebase(rebase) if rebase else None
    name = _line_name(line, told, moved)
    carried = repository.line(name) if name in repository.line_names else None
    if name is None or told is None:
        carried = options.pick_line(context, name)
        name = carried.name
        told = told or _history(context, source, carried)
    folder = results or repository.root / "verify" / "results"
    if results and not results.is_dir():
        raise UsageError(f"no such folder: {results}", where=str(results))
    about = Report(
        name, carried.upstream.url if carried else None,
        datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), __version__,
        told, _here(moved), _kept(folder, name, carried),
        _plot(plot, folder, repository.root, output),
    )  # fmt: skip
    texts = [page.html(about), page.markdown(about)]
    _write(output, dict(zip(_NAMES, texts, strict=True)))
    found = find_todos(about)
    html, markdown = (output / one for one in _NAMES)
    if json:
        body = [
            {"act": one.act, "patch": one.patch, "what": one.what, "why": one.why, "next": one.next}
            for one in found
        ]
        where = {"html": html.resolve(), "markdown": markdown.resolve(), "needs_person": body}
        terminal.print_document("report", ExitCode.OK, {"line": name, "report": where})
        return
    terminal.say(f"html      {html}")
    terminal.say(f"markdown  {markdown}")
    for one in found:
        terminal.say(f"{'to do' if one.act else 'look':<9} {printable(one.what)}")
        if one.next:
            terminal.say(f"next      {printable(one.next)}")
    if not found:
        terminal.say("nothing needs a person")


def _history(context: Context, source: str | None, line: Line) -> History | Failure:
    """What `fixtool history` would say now."""
    import json

    from fixtool.commands.history import body, look
    from fixtool.report import documents

    found = look(context, line, source, None, None)
    text = terminal.document("history", ExitCode.OK, body(line.name, found, None, set()))
    return documents.history_of(json.loads(text), "fixtool history")


def _here(rebase: Rebase | Failure | None) -> Rebase | Failure | None:
    """A rebase that waits for a person waits on one machine; elsewhere it is to be started anew."""
    from fixtool.report.documents import Rebase

    if isinstance(rebase, Rebase) and rebase.session and not Path(rebase.session.worktree).is_dir():
        return replace(rebase, session=None)
    return rebase


def _line_name(
    wanted: str | None, history: History | Failure | None, rebase: Rebase | Failure | None
) -> str | None:
    """The line that the words and the documents speak of; of different ones there is no picture."""
    from fixtool.report.documents import History, Rebase

    names: list[tuple[str, ...]] = [(wanted,)] if wanted else []
    if isinstance(history, History):
        names.append((history.line,))
    if isinstance(rebase, Rebase):
        names.append((rebase.line, *([rebase.new_line] if rebase.new_line else [])))
    common = set(names[0]).intersection(*names[1:]) if names else set()
    if names and not common:
        said = ", ".join(one[0][:100] for one in names)
        raise UsageError(f"these are of different lines: {said}", hint="give one line's files")
    return names[0][0] if len(common) > 1 else min(common, default=None)


def _kept(folder: Path, name: str, line: Line | None) -> tuple[Kept, ...]:
    """The results that hold the newest answer of some step on such a device, the newest first: a
    laptop's does not hide a GPU's, nor a run of one check what the others said before it. A check
    that a newer one has answered is left out; probes stay, since a matrix is of one run."""
    from fixtool.report.todo import Kept
    from fixtool.verify import result as evidence

    patches = line.patches if line else ()
    now = [(one.slug, one.digest) for one in patches]
    read = [
        (result, path.name)
        for path in folder.glob("*.json")
        if path.is_file()
        and (result := evidence.read_kept(path)) is not None
        and result.about["line"] == name
    ]
    found: list[Kept] = []
    told: set[tuple[str, str]] = set()
    for result, file in sorted(read, key=lambda one: (one[0].started, one[1]), reverse=True):
        new = [one for one in result.steps if (one.name, result.place) not in told]
        told |= {(one.name, result.place) for one in new}
        if new:
            seen = [(one["slug"], one["sha256"]) for one in result.about["patches"]]
            steps = tuple(one for one in result.steps if one in new or one.kind == "probe")
            found.append(Kept(file, replace(result, steps=steps), seen == now))
    return tuple(found)


def _plot(given: Path | None, results: Path, root: Path, output: Path) -> Plot | None:
    """The plot asked for, or the newest by name beside the results, or beside the benchmark."""
    from fixtool.report.todo import Plot

    beside = [results, root / "verify" / "bench" / "results", root / "verify" / "bench"]
    found = next((all_ for one in beside if (all_ := sorted(one.glob("*.png")))), [None])
    path = given or found[-1]
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"no such file: {path}", where=str(path))
    if path.stat().st_size > _LARGEST:
        raise Refused(f"{path.name} is over {_LARGEST >> 20} MiB", where=str(path))
    raw = path.read_bytes()
    if not raw.startswith(_PNG) or raw[12:16] != b"IHDR" or len(raw) < 33:
        raise Refused(f"{path.name} is not a PNG", where=str(path))
    return Plot(path.name, raw, os.path.relpath(path.resolve(), output.resolve()))


def _write(folder: Path, files: dict[str, str]) -> None:
    """Both files or neither: each is written whole beside its place, then both are moved in, and
    what was there comes back where the second cannot be. The folder is held open and nothing in it
    is followed, so that no link leads a page elsewhere."""
    if folder.is_symlink():
        raise Refused(f"{folder} is a link; name a folder", where=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    new, old = (".{}.new".format, ".{}.old".format)
    moved: list[str] = []
    try:
        for name in files:
            _require_plain(at, name, folder)
        try:
            for name, text in files.items():
                _make(at, new(name), text.encode())
            for name in files:
                with suppress(FileNotFoundError):
                    _forget(at, old(name))
                    os.link(name, old(name), src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
            for name in files:
                moved.append(name)
                os.replace(new(name), name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            for name in moved:
                try:
                    os.replace(old(name), name, src_dir_fd=at, dst_dir_fd=at)
                except FileNotFoundError:  # there was none before
                    _forget(at, name)
            raise
        finally:
            for name in files:
                _forget(at, new(name))
                _forget(at, old(name))
    finally:
        os.close(at)


def _require_plain(at: int, name: str, folder: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise Refused(
                f"{name} is there already, and is no plain file", where=str(folder / name)
            )


def _make(at: int, name: str, data: bytes) -> None:
    _forget(at, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=at), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _forget(at: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=at)
