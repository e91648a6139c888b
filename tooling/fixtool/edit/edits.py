"""The uncommitted edits of a work tree, and the commits of its series with some of them folded in.

An edit is made on the newest commit, and a patch's commit is below it. So the edit is put onto the
tree of that commit and of each later one: three-way, with the newest tree as the base. git sees a
conflict also where other changed lines only stand beside the edited ones; the edit is then put at
the lines that it replaces. The last tree is exactly what the work tree holds of the edits, so no
file of the work tree is ever written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fixtool.apply.resolving import marker_line, unmerged
from fixtool.edit.parts import Part, Unit, tree_with, units_of
from fixtool.errors import ExitCode, FixtoolError, Refused
from fixtool.files import write_atomically
from fixtool.git.database import ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import MACHINE, Oid, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import copied_index, write_tree
from fixtool.series.diff import FilePatch, Hunk, read_diff
from fixtool.series.lines import lines_of
from fixtool.series.patch import diff_between
from fixtool.text import argument, split_lines


@dataclass(frozen=True)
class Edits:
    """What is not committed in a work tree: the tree ``tree`` on the commit ``head``. ``files`` are
    the difference, and ``untracked`` the new files that git does not track, which stay as they
    are."""

    head: Oid
    tree: Oid
    files: tuple[FilePatch, ...]
    untracked: tuple[str, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(unit for file in self.files for unit in units_of(file))


@dataclass(frozen=True)
class Folded:
    """The commits of a series with edits in them, by slug and in order."""

    commits: Mapping[str, Oid]
    tree: Oid


@dataclass(frozen=True)
class Taken:
    """Edits of the work tree ``worktree`` that are to go into a patch: the change of ``commit``,
    whose parent was checked out there. ``tree`` holds all that was not committed there."""

    worktree: str
    commit: Oid
    head: Oid
    tree: Oid


class Unfit(FixtoolError):
    """The edits of ``paths`` conflict in the patch ``slug``: the one that they are for, or a later
    one."""

    exit_code = ExitCode.CONFLICT

    def __init__(self, slug: str, paths: Collection[str], where: str) -> None:
        self.slug, self.paths = slug, tuple(sorted(paths))
        super().__init__(
            f"the edits of {', '.join(self.paths)} conflict in {slug}",
            where=where,
            hint=f"see whose lines they are: fixtool absorb --worktree {argument(where)} --dry-run",
        )


def read_edits(tree: Repo, objects: ObjectDatabase, context: int = 3) -> Edits:
    """The uncommitted edits of a work tree: of all files that git tracks, and of new files that
    were added. ``objects`` holds what is written for that. ``context`` is how many lines around
    a change belong to its hunk."""
    head = tree.head()
    assert head is not None
    for path in unmerged(tree):
        assert tree.work_tree is not None
        if line := marker_line(tree.work_tree / path):
            raise Refused("a conflict marker is left", where=f"{tree.work_tree / path}:{line}",
                          hint="edit the file, then run the same command again")  # fmt: skip
    with copied_index(tree) as index:
        objects.repo.run("add", "--update", "--", ":/", index=index)
        edited = write_tree(objects.repo, index)
    listed = tree.run("ls-files", "-z", "--others", "--exclude-standard", "--", ":/").stdout
    untracked = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return Edits(head, edited, _files(objects.repo, head, edited, context), tuple(untracked))


def without_context(objects: ObjectDatabase, edits: Edits) -> Edits:
    """The same edits, in hunks without any context."""
    return replace(edits, files=_files(objects.repo, edits.head, edits.tree, 0))


def _files(repo: Repo, head: Oid, tree: Oid, context: int) -> tuple[FilePatch, ...]:
    diff = diff_between(repo, f"{head}^{{tree}}", tree, context)
    return read_diff(diff, where=str(repo.work_tree)) if diff else ()


def fold(
    objects: ObjectDatabase,
    edits: Edits,
    series: Mapping[str, Oid],
    targets: Mapping[str, Collection[Unit]],
) -> Folded:
    """The ``series`` of a work tree, commits by slug that end in its newest one, with the edits in
    the patches that ``targets`` says.

    Raises Unfit if the edits do not fit a commit; Refused if a patch would change nothing any more.
    """
    slugs = list(series)
    first = min(slugs.index(slug) for slug in targets)
    head = objects.tree_of(edits.head)
    wanted: list[Oid] = []
    units: set[Unit] = set()
    for slug in slugs[first:]:
        units.update(targets.get(slug, ()))
        wanted.append(tree_with_edits(objects, edits, units))
    placed = _placed(objects, slugs[first:], series, head, wanted)
    trees = []
    for after in placed:
        if isinstance(after, Unfit):
            raise after
        trees.append(after)
    commits = dict(series)
    parent = objects.commit(series[slugs[first]]).parents[0]
    for slug, after in zip(slugs[first:], trees, strict=True):
        old = objects.commit(series[slug])
        if after == objects.tree_of(parent):
            raise Refused(
                f"with these edits, {slug} would change nothing any more",
                where=str(objects.repo.work_tree),
                hint=f"take it out: fixtool drop {slug} --reason WHY",
            )
        # The committer tells which commits are a person's: those that were stay so.
        ours = old.committer.email == MACHINE.email
        committer = replace(MACHINE, date=old.author.date) if ours else old.committer
        commit = replace(old, tree=after, parents=(parent,), committer=committer)
        parent = objects.add_commit(commit)
        commits[slug] = parent
    return Folded(commits, trees[-1])


def trees_with(
    objects: ObjectDatabase, edits: Edits, series: Mapping[str, Oid], slug: str, tree: Oid
) -> dict[str, Oid]:
    """The trees of the patches of a ``series`` from ``slug`` on, with the edits that lead to
    ``tree`` in them; without those of patches where they conflict."""
    slugs = list(series)
    later = slugs[slugs.index(slug) :]
    placed = _placed(objects, later, series, objects.tree_of(edits.head), [tree] * len(later))
    return {slug: tree for slug, tree in zip(later, placed, strict=True)
            if not isinstance(tree, Unfit)}  # fmt: skip


@contextmanager
def take_over(
    tree: Repo, edits: Edits, folded: Folded, reason: str, is_written: Callable[[], bool]
) -> Iterator[Callable[[], None]]:
    """Move the branch of a work tree to the commits that hold its edits. Its files stay as they
    are: they hold the same. The objects are there already. The index moves first, so that a killed
    run leaves edits that are staged, and no more.

    The block gets a function that puts the branch and the index back. If the block fails, they go
    back too, whatever the reason is, unless ``is_written`` says that the patch files hold the edits
    already."""
    tip = list(folded.commits.values())[-1]
    index = tree.git_dir / "index"
    before = (index.read_bytes(), index.stat()) if index.is_file() else None
    branch = tree.current_branch()

    def put_back() -> None:
        if tree.ref(branch) == tip:
            tree.update_refs([(branch, edits.head, tip)], f"{reason}: taken back")
        if before is not None:
            data, about = before
            write_atomically(index, data)
            os.utime(index, ns=(about.st_atime_ns, about.st_mtime_ns))  # see copied_index

    try:
        _move_index(tree, folded.tree)
        tree.update_refs([(branch, tip, edits.head)], reason)
        yield put_back
    except BaseException:
        if not is_written():
            put_back()
        raise


def _move_index(tree: Repo, to: Oid) -> None:
    """Stage the tree ``to``. A new file that was added, and is not in there, stays added."""
    words = ("diff", "--name-only", "--no-renames", "--diff-filter=A", "-z")
    # The second names those of which git knows that they will be added (git add --intent-to-add).
    staged = tree.run(*words, "--cached").stdout + tree.run(*words).stdout
    added = staged.decode("utf-8", "surrogateescape").split("\0")[:-1]
    # With --reset, an entry that stays keeps the times of its file, and git does not read it.
    tree.run("read-tree", "--reset", to)
    tree.run("update-index", "-q", "--refresh", accept=None)
    listed = tree.run("ls-files", "-z", "--", *(f":(top,literal){path}" for path in added))
    known = listed.stdout.decode("utf-8", "surrogateescape").split("\0")
    if added and (left := [path for path in added if path not in known]):
        tree.run("add", "--intent-to-add", "--", *(f":(top,literal){path}" for path in left))


def tree_with_edits(objects: ObjectDatabase, edits: Edits, units: Collection[Unit]) -> Oid:
    """The newest tree with some of the edits."""
    if set(edits.units) == set(units):
        return edits.tree
    head = objects.tree_of(edits.head)
    part = Part("", tuple(unit for unit in edits.units if unit in units))
    return tree_with(objects, head, edits.tree, edits.files, part) if units else head


# -- below later patches -----------------------------------------------------------------------


def _placed(
    objects: ObjectDatabase,
    slugs: Sequence[str],
    series: Mapping[str, Oid],
    head: Oid,
    wanted: Sequence[Oid],
) -> list[Oid | Unfit]:
    """The tree of each of ``slugs`` with the edits that lead from the tree ``head`` to the one in
    ``wanted``; where they conflict, what says so."""
    questions = [
        Question(head, objects.tree_of(series[slug]), tree)
        for slug, tree in zip(slugs, wanted, strict=True)
    ]
    pairs = [question.commits(objects) for question in questions]
    objects.flush()
    trees: list[Oid | Unfit] = []
    for slug, question, merge in zip(
        slugs, questions, merge_many(objects.repo, pairs, keep=True), strict=True
    ):
        tree = merge.tree
        if question.ours == head:
            tree = question.theirs
        elif merge.conflicts:
            entries = {path: _by_lines(objects, question, path) for path in set(merge.conflicts)}
            if bad := [path for path, entry in entries.items() if entry is None]:
                trees.append(Unfit(slug, bad, str(objects.repo.work_tree)))
                continue
            tree = objects.with_files(tree, entries)
        trees.append(tree)
    return trees


def _by_lines(objects: ObjectDatabase, question: Question, path: str) -> TreeEntry | None:
    """A file with the edits that lead from the base to theirs put into ours, at the lines that they
    replace; None if some of these lines are not there."""
    entries = [objects.entry(tree, path) for tree in question]
    base, ours, theirs = entries
    if base is None or ours is None or theirs is None or {base.mode, theirs.mode} != {ours.mode}:
        return None
    between = _hunks(objects, base, ours)
    lines = lines_of(objects.blob(ours.blob).decode("utf-8", "surrogateescape"))
    for hunk in reversed(_hunks(objects, base, theirs)):
        begin, end = _span(hunk)
        start = _moved(begin, end, between)
        if start is None:
            return None
        if lines[start : start + end - begin] != list(hunk.before):
            return None
        lines[start : start + end - begin] = hunk.after
    data = "".join(lines).encode("utf-8", "surrogateescape")
    return TreeEntry(ours.mode, objects.add("blob", data, ours.blob))


def _hunks(objects: ObjectDatabase, old: TreeEntry, new: TreeEntry) -> tuple[Hunk, ...]:
    """The difference between two files, without any context."""
    trees = [objects.with_files(Oid(""), {"file": entry}) for entry in (old, new)]
    objects.flush()
    words = ("diff-tree", "--full-index", "-p", "--no-renames", "--unified=0", "--no-color",
             "--no-ext-diff", "--no-textconv", "--text", "--no-indent-heuristic")  # fmt: skip
    diff = objects.repo.run(*words, *trees).stdout
    return read_diff(diff, where="file")[0].hunks if diff else ()


def _span(hunk: Hunk) -> tuple[int, int]:
    """The old lines of a hunk without context, from 0: its first one, and the one after its last.
    Where it only adds lines, both are the line before which it adds them."""
    size = len(hunk.before)
    begin = hunk.old_start - 1 if size else hunk.old_start
    return begin, begin + size


def _moved(begin: int, end: int, between: Sequence[Hunk]) -> int | None:
    """The line at which the lines from ``begin`` to ``end`` stand on the other side of the hunks
    ``between``; None if they are not all there. Of added lines (``begin`` is ``end``), the line
    before or the line after has to be there."""
    shift = 0
    before_is_there = after_is_there = True
    for hunk in between:
        first, last = _span(hunk)
        grown = len(hunk.after) - (last - first)
        if last < begin or (last == begin and first < last and begin < end):
            shift += grown
        elif begin == end and last == begin and first < last:
            before_is_there, shift = False, shift + grown
        elif begin == end and first == begin and first < last:
            after_is_there = False
        elif begin < end and first == last == begin:
            shift += grown
        elif first < end and last > begin:
            return None
    return begin + shift if before_is_there or after_is_there else None


# -- whose lines they are ----------------------------------------------------------------------


def owners(
    tree: Repo, edits: Edits, series: Mapping[str, Oid], onto: Oid
) -> dict[Unit, tuple[str, ...]]:
    """For each edit, the patches that last changed the lines which it replaces or stands between:
    none if these are upstream's, and more than one if they are of several patches. ``edits`` were
    read without context."""
    slugs = {commit: slug for slug, commit in series.items()}
    found: dict[Unit, tuple[str, ...]] = {}
    for file in edits.files:
        units = units_of(file)
        if units[0].number == 0 or file.old_path is None:
            found[units[0]] = _of_file(tree, file, slugs, onto) if file.old_path else ()
            continue
        lines = _blame(tree, file.old_path, onto, edits.head)
        for unit, hunk in zip(units, file.hunks, strict=True):
            begin, end = _span(hunk)
            if begin == end:
                begin, end = max(begin - 1, 0), end + 1
            names = [slugs.get(commit) for commit in lines[begin:end]]
            found[unit] = tuple(dict.fromkeys(name for name in names if name))
    return found


def _of_file(tree: Repo, file: FilePatch, slugs: Mapping[Oid, str], onto: Oid) -> tuple[str, ...]:
    """The patches that change a file, of which nothing smaller can be told apart."""
    path = f":(top,literal){file.old_path}"
    text = tree.run("log", "--format=%H", f"{onto}..HEAD", "--", path).text
    commits = [Oid(line) for line in split_lines(text)]
    return tuple(slugs[commit] for commit in reversed(commits) if commit in slugs)


def _blame(tree: Repo, path: str, onto: Oid, head: Oid) -> list[Oid]:
    """The commit that last changed each line of a file; those of upstream are not among the
    series."""
    out = tree.run(
        "-c", "blame.ignoreRevsFile=", "blame", "--porcelain", f"{onto}..{head}", "--", path
    ).stdout
    lines: list[Oid] = []
    at_header = True
    for line in out.split(b"\n")[:-1]:
        if at_header:
            lines.append(Oid(line[:40].decode()))
            at_header = False
        elif line.startswith(b"\t"):
            at_header = True
    return lines


def place_of(unit: Unit, files: Sequence[FilePatch]) -> str:
    """Where an edit stands, as a person reads it: the path, and the line of the new file."""
    file = next(file for file in files if file.path == unit.path)
    if not unit.number:
        return unit.path
    return f"{unit.path}:{max(file.hunks[unit.number - 1].new_start, 1)}"
