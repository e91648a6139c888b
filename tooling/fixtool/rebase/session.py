"""A rebase that waits for a person: a work tree with conflict markers, and what is decided so far.

The session holds decisions, not results: going on is replaying with them, so a crash or a reboot
costs nothing. Resolutions are git's own (rerere), kept with the line in ``resolutions/`` as diffs,
and offered again to whoever meets the same conflict.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fixtool.apply.worktree import remove
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.files import private_folder, write_atomically
from fixtool.git.process import remove_stale_locks
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import apply_to_index, list_tree, scratch_index, write_tree, write_trees
from fixtool.series.line import Line, PatchRepository
from fixtool.settings import Settings

RESOLUTIONS = "resolutions"
_IMAGE = "image"  # the name of a file in a resolution
_RERERE = ("-c", "rerere.enabled=true", "-c", "rerere.autoupdate=true")
_MARKER = re.compile(rb"^(<{7}|>{7})( |$)", re.MULTILINE)
_WHO = {f"GIT_COMMITTER_{key}": "fixtool" for key in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class Session:
    """``store`` and ``worktree`` are paths; ``parent`` is the last good commit, on which patch
    ``slug`` is to be resolved; ``resolved`` slug -> tree, ``skipped`` slug -> why; ``remembered``:
    an earlier resolution was put in, for a person to look at."""

    line: str
    patches: str
    ref: str
    onto: str
    source: str
    store: str
    worktree: str
    parent: str
    slug: str
    position: int
    of: int
    conflicts: tuple[str, ...]
    memory: tuple[str, ...] = ()  # what git calls these conflicts in its rr-cache
    new_line: str | None = None
    probe: bool = False
    python: str | None = None
    remembered: bool = False
    resolved: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, str] = field(default_factory=dict)  # file name -> base64


def load(repository: PatchRepository, settings: Settings, line: str) -> Session | None:
    """The parked rebase of ``line``, if there is one."""
    path = _file(repository, settings, line)
    try:
        data = json.loads(path.read_text("utf-8"))
        lists = {name: tuple(data[name]) for name in ("conflicts", "memory")}
        return Session(**{**data, **lists})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CannotRun(
            f"the session of this rebase is not readable: {error}",
            where=str(path),
            hint=f"start again: rm {path}",
        ) from error


def the_session(repository: PatchRepository, settings: Settings, line: str | None) -> Session:
    """The one that ``--continue``, ``--skip`` and ``--abort`` mean; UsageError where none is."""
    names = [line] if line else repository.line_names
    found = [one for name in names if (one := load(repository, settings, name))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"rebases of {', '.join(one.line for one in found)} are parked: which one?",
            hint="add --line NAME",
        )
    raise UsageError("no rebase is parked here", hint="start one: fixtool rebase --onto REF")


def save(repository: PatchRepository, settings: Settings, session: Session) -> None:
    path = _file(repository, settings, session.line)
    private_folder(path.parent)
    write_atomically(path, json.dumps(asdict(session), indent=1))


def forget(repository: PatchRepository, settings: Settings, session: Session) -> None:
    """End a session: its work tree goes, with all that is in it."""
    remove(Repo(Path(session.store)), Path(session.worktree))
    _file(repository, settings, session.line).unlink(missing_ok=True)


def worktree_for(repository: PatchRepository, settings: Settings, line: str) -> Path:
    return settings.worktrees / f"{repository.root.name}-{repository.digest[:6]}" / f"rebase-{line}"


def park(
    store: Store, line: Line, folder: Path, parent: str, own: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make ``folder`` a work tree at ``parent``, in the middle of picking ``own``; return the paths
    that are in conflict, none where an earlier resolution settled them all, and git's names of the
    conflicts."""
    remove(store, folder)
    private_folder(folder.parent)
    store.run("worktree", "add", "--quiet", "--detach", "--force", str(folder), parent)
    tree = Repo.open(folder)
    for known in (tree.objects_folder.parent / "rr-cache").glob("*/postimage*"):
        known.unlink()  # the line's memory counts, which the team shares, not this machine's
    tree.run(*_RERERE, "cherry-pick", "--allow-empty", own, env=_WHO, accept=(0, 1))
    memory = _memory_of(tree)
    for conflict, path in memory.items():
        text = _remembered(tree, line, conflict)
        if text is not None and not _MARKER.search(text):
            (folder / path).write_bytes(text)
            tree.run("add", "--", f":(literal){path}")
    return unmerged(tree), tuple(sorted(memory))


def _memory_of(tree: Repo) -> dict[str, str]:
    """git's name of each conflict in its rr-cache -> the file that it is in."""
    listed = tree.git_dir / "MERGE_RR"
    text = listed.read_text("utf-8", "surrogateescape") if listed.is_file() else ""
    pairs = (one.partition("\t") for one in text.split("\0"))
    return {conflict: path for conflict, tab, path in pairs if tab}


def unmerged(tree: Repo) -> tuple[str, ...]:
    out = tree.run("diff", "--name-only", "--diff-filter=U", "-z").stdout
    return tuple(out.decode("utf-8", "surrogateescape").split("\0")[:-1])


def collect(session: Session) -> tuple[str, dict[str, bytes]]:
    """The tree that a person made in the work tree, and the resolutions to keep with the line, by
    file name in it, earlier ones of the session included. Raises Refused, with file:line, where
    markers are left or a new file is not added."""
    folder = Path(session.worktree)
    if not folder.is_dir():
        raise CannotRun(
            f"the work tree {folder} is gone",
            where=str(folder),
            hint=f"fixtool rebase --abort --line {session.line}, then rebase again",
        )
    tree = Repo.open(folder)
    remove_stale_locks(tree.git_dir, "index", "MERGE_RR", "HEAD")
    head = tree.head()
    if head != session.parent:
        return _committed(tree, session, head), _learned(tree, session)
    changed = {*session.conflicts, *unmerged(tree)}
    for path in sorted(changed):
        _require_no_markers(folder, path)
    entries = tree.run("status", "--porcelain", "-z", "--untracked-files=all").stdout
    new = [one[3:].decode() for one in entries.split(b"\0") if one.startswith(b"??")]
    if new:
        raise Refused(
            f"{new[0]} is new, and not added",
            where=str(folder / new[0]),
            hint=f"git -C {folder} add {new[0]}, or remove it",
        )
    tree.run("add", "--update", "--", ".")
    tree.run(*_RERERE, "rerere")
    return tree.run("write-tree").text, _learned(tree, session)


def _committed(tree: Repo, session: Session, head: str | None) -> str:
    """Where the person committed, that commit is the resolution: one, on the last good one."""
    commit = tree.read_commit(head) if head else None
    if commit is None or commit.parents != (session.parent,):
        raise Refused(
            f"the work tree is not at {session.parent[:12]}, nor one commit after it",
            where=session.worktree,
            hint=f"git -C {session.worktree} reset --soft {session.parent[:12]}",
        )
    if dirty := tree.status():
        raise Refused(
            f"{dirty[0]} is not committed",
            where=session.worktree,
            hint=f"git -C {session.worktree} commit --amend --all --no-edit",
        )
    return commit.tree


def _require_no_markers(folder: Path, path: str) -> None:
    file = folder / path
    data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    if match := _MARKER.search(data):
        line = data.count(b"\n", 0, match.start()) + 1
        raise Refused(
            "a conflict marker is left",
            where=f"{file}:{line}",
            hint="edit the file, then: fixtool rebase --continue",
        )


# -- resolutions -----------------------------------------------------------------------------


def packed(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


def learned(session: Session) -> dict[str, bytes]:
    """The resolutions of the patches that this session settled before the one at hand."""
    return {name: base64.b64decode(data) for name, data in session.learned.items()}


def _learned(tree: Repo, session: Session) -> dict[str, bytes]:
    """The resolutions of this session's conflicts, by their file name in the line."""
    found = learned(session)
    for known in session.memory:
        images = [_image(tree, known, name) for name in ("preimage", "postimage")]
        if not all(one.is_file() for one in images):
            continue
        blobs = [tree.run("hash-object", "-w", str(one)).text for one in images]
        trees = write_trees(tree, [{_IMAGE: ("100644", one)} for one in blobs])
        diff = tree.run("diff-tree", "-p", "--no-renames", "--no-color", *trees).stdout
        about = f"# {session.slug} onto {session.onto}\n".encode()
        found[_file_of(known)] = about + diff
    return found


def _remembered(tree: Repo, line: Line, conflict: str) -> bytes | None:
    """The file as somebody resolved it, where the line remembers how: git keeps the whole file
    before and after, the line only how they differ."""
    known = line.folder / _file_of(conflict)
    image = _image(tree, conflict, "preimage")
    if not known.is_file() or not image.is_file():
        return None
    blob = tree.run("hash-object", "-w", str(image)).text
    (start,) = write_trees(tree, [{_IMAGE: ("100644", blob)}])
    with scratch_index(tree, start) as index:
        if apply_to_index(tree, index, known.read_bytes()).status != 0:
            return None
        end = write_tree(tree, index)
    return next(iter(tree.read_blobs([list_tree(tree, end)[_IMAGE][1]])))


def _file_of(conflict: str) -> str:
    return f"{RESOLUTIONS}/{conflict.partition('.')[0]}.diff"


def _image(tree: Repo, conflict: str, name: str) -> Path:
    """A file of git's rr-cache. A conflict that was met before and not resolved has a number:
    ``<id>.1`` means ``<id>/preimage.1``."""
    folder, dot, number = conflict.partition(".")
    return tree.objects_folder.parent / "rr-cache" / folder / f"{name}{dot}{number}"


def _file(repository: PatchRepository, settings: Settings, line: str) -> Path:
    return settings.state / "rebase" / f"{repository.digest[:10]}-{line}.json"
