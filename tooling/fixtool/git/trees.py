"""Trees and index files: listing a tree, comparing two, making new ones, merging."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fixtool.files import temporary_folder
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import FileChange, Merge, Oid, TreeEntry, parse_oid
from fixtool.git.process import pool
from fixtool.git.repo import Output, Repo, reading_answer
from fixtool.text import split_lines

_MOST_PATHS = 500
_PROCESSES = os.cpu_count() or 1
_LONGEST_PATHS = 64_000  # characters; a command line takes two million bytes


@reading_answer("ls-tree")
def list_tree(repo: Repo, treeish: str, *paths: str) -> dict[str, TreeEntry]:
    """The files of a tree by path: all of them, or those at or below ``paths``."""
    out = repo.run("ls-tree", "-r", "-z", "--full-tree", treeish, "--", *_arguments(paths)).stdout
    entries = {}
    for record in out.split(b"\0")[:-1]:
        meta, _, path = record.partition(b"\t")
        mode, _, blob = meta.decode().split(" ")
        entries[path.decode("utf-8", "surrogateescape")] = TreeEntry(mode, Oid(blob))
    if paths and not _arguments(paths):
        wanted = set(paths)
        entries = {path: entry for path, entry in entries.items() if _at_or_below(path, wanted)}
    return entries


def _arguments(paths: Sequence[str]) -> list[str]:
    """``paths`` as arguments of git; none if they are so many that git would take long to compare
    each with every file, or the system would not take them. Then the whole tree is listed."""
    few = len(paths) <= _MOST_PATHS and sum(map(len, paths)) <= _LONGEST_PATHS
    return [f":(literal){path}" for path in paths] if few else []


def _at_or_below(path: str, wanted: Collection[str]) -> bool:
    while path not in wanted and path:
        path = path.rpartition("/")[0]
    return bool(path)


def list_folders(repo: Repo, treeish: str, *paths: str) -> set[str]:
    """Those of ``paths`` that are folders of a tree."""
    arguments = _arguments(paths)
    deep = [] if arguments else ["-r"]
    out = repo.run(
        "ls-tree", "-d", *deep, "-z", "--full-tree", "--name-only", treeish, "--", *arguments
    )
    return set(out.stdout.decode("utf-8", "surrogateescape").split("\0")).intersection(paths)


def missing_files(repo: Repo, commit: str, *paths: str) -> set[Oid]:
    """The blobs that a partial clone lacks, of a commit's files at or below ``paths`` (none: of all
    its files)."""
    # The only command of old versions that notices a missing blob without fetching it.
    out = repo.run(
        "rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk", commit
    )
    missing = {Oid(line[1:]) for line in split_lines(out.text) if line.startswith("?")}
    entries = list_tree(repo, commit, *paths).values() if missing else ()
    return missing & {blob for _, blob in entries}


@reading_answer("diff-tree")
def changed_files(repo: Repo, old: str, new: str, *options: str) -> list[FileChange]:
    """The files that differ between two trees or commits. Renames are not followed. ``options`` of
    git say which of them are meant."""
    words = ("diff-tree", "-r", "-z", "--no-renames", "--raw", *options)
    out = repo.run(*words, old, new).stdout
    fields = out.decode("utf-8", "surrogateescape").split("\0")[:-1]
    if fields and not fields[0].startswith(":"):
        fields = fields[1:]
    changes = []
    for meta, path in zip(fields[::2], fields[1::2], strict=True):
        _, _, old_blob, new_blob, status = meta.split(" ")
        changes.append(FileChange(status, path, Oid(old_blob), Oid(new_blob)))
    return changes


def similar_blobs(repo: Repo, pairs: Collection[tuple[Oid, Oid]]) -> set[tuple[Oid, Oid]]:
    """Those of ``pairs`` of blobs that are so similar that git may take the second as the new place
    of the first: at least 50%."""
    blobs = sorted({blob for blob, _ in pairs})
    others = sorted({other for _, other in pairs})
    if not pairs:
        return set()
    with pool() as threads:
        # First, each of the others against all blobs at once: that tells the few that are similar
        # to any. Then these against each blob by itself, since git names the most similar alone.
        shares = [others[start::_PROCESSES] for start in range(min(_PROCESSES, len(others)))]
        found = threads.map(lambda share: _copies(repo, blobs, share), shares)
        few = sorted(set().union(*found))
        alike = threads.map(lambda blob: _copies(repo, [blob], few), blobs if few else ())
        similar = {(blob, other) for blob, names in zip(blobs, alike, strict=False)
                   for other in names}  # fmt: skip
    return similar & set(pairs)


@reading_answer("diff-tree")
def _copies(repo: Repo, blobs: Sequence[Oid], others: Sequence[Oid]) -> set[Oid]:
    """Those of ``others`` that git takes for a copy of one of ``blobs``. A copy and a new place are
    measured in the same way."""
    old = {f"old/{blob}": TreeEntry("100644", blob) for blob in blobs}
    new = {f"new/{other}": TreeEntry("100644", other) for other in others}
    before, after = write_trees(repo, [old, old | new])
    out = repo.run(
        "diff-tree", "-r", "--name-status", "--find-copies-harder", "--find-renames=50%", "-l0",
        "--diff-filter=C", before, after,
    )  # fmt: skip
    similar = set()
    for answer in split_lines(out.text):
        status, _, name = answer.split("\t")
        if not status.startswith("C"):
            raise ValueError(answer)
        similar.add(parse_oid(name.removeprefix("new/"), "git diff-tree"))
    return similar


def changed_paths(repo: Repo, commits: Sequence[Oid]) -> list[set[str]]:
    """The paths that each of ``commits`` changes against its parent, from one process."""
    return [{path for _, path in changes} for changes in raw_changes(repo, commits)]


@reading_answer("diff-tree")
def raw_changes(repo: Repo, commits: Sequence[Oid]) -> list[tuple[tuple[str, str], ...]]:
    """What each of ``commits`` changes against its parent, from one process: for each file, in
    order, the modes and the blobs before and after, and its path. Renames are not followed."""
    if not commits:
        return []
    out = repo.run(
        "diff-tree", "--stdin", "--always", "-r", "-z", "--no-renames", "--raw", "--no-abbrev",
        stdin="".join(f"{commit}\n" for commit in commits).encode(),
    ).stdout  # fmt: skip
    changes: list[list[tuple[str, str]]] = []
    fields = iter(out.decode("utf-8", "surrogateescape").split("\0")[:-1])
    for field in fields:
        if field == "".join(commits[len(changes) : len(changes) + 1]):
            changes.append([])
        elif field.startswith(":") and (path := next(fields, "")):
            changes[-1].append((field, path))
        else:
            raise ValueError(field[:100])
    if len(changes) != len(commits):
        raise ValueError(out[:100])
    return [tuple(files) for files in changes]


@contextmanager
def scratch_index(repo: Repo, treeish: str) -> Iterator[Path]:
    """A private index file that holds ``treeish``, removed at the end."""
    with temporary_folder("fixtool-index-") as folder:
        index = folder / "index"
        repo.run("read-tree", treeish, index=index)
        yield index


@contextmanager
def copied_index(tree: Repo, *, believe_times: bool = False) -> Iterator[Path]:
    """A private copy of the index of a work tree, removed at the end. It has the mtime of the
    index: git compares the content of a file that is as young as its index, and takes an older one
    to be unchanged. With a younger copy, git would miss an edit that was made in the same second as
    the work tree and did not change the size of the file. With ``believe_times``, the copy has the
    time 0, which git takes for none: then it compares the content of no file whose own times are as
    recorded."""
    with temporary_folder("fixtool-index-") as folder:
        index = folder / "index"
        with suppress(FileNotFoundError):
            shutil.copy2(tree.git_dir / "index", index)
            if believe_times:
                os.utime(index, (0, 0))
        yield index


def apply_to_index(repo: Repo, index: Path, diff: bytes, *options: str) -> Output:
    """Run ``git apply --cached``, which applies all of ``diff`` or nothing. Status 0: applied. 1:
    does not fit. Any other: git cannot read the diff."""
    words = ("apply", "--cached", "--binary", *options, "-")
    return repo.run(*words, stdin=diff, index=index, accept=None)


def stage(repo: Repo, folders: Sequence[str], index: Path | None = None) -> None:
    """Record every file at or below ``folders`` in an index (None: the work tree's own), as
    ``git add --all`` does, but without looking into a repository that lies there: git would run
    its filters."""
    listed = repo.run("ls-files", "-z", "--stage", "--", *folders, index=index).stdout
    records = [record.partition(b"\t") for record in listed.split(b"\0")[:-1]]
    paths = {path for entry, _, path in records if not entry.startswith(b"160000")}
    found = repo.run(
        "ls-files", "-z", "--others", "--exclude-standard", "--", *folders, index=index
    )
    paths |= {path for path in found.stdout.split(b"\0") if path and not path.endswith(b"/")}
    stage_files(repo, paths, index)


def stage_files(repo: Repo, paths: Collection[bytes], index: Path | None = None) -> None:
    """Record the files at ``paths`` in an index as they are, or that they are gone."""
    stdin = b"".join(path + b"\0" for path in sorted(paths))
    repo.run("update-index", "--add", "--remove", "--replace", "-z", "--stdin",
             stdin=stdin, index=index)  # fmt: skip


def edited_files(tree: Repo, index: Path | None = None) -> set[bytes]:
    """The paths of a work tree that are not as the index has them, also those that are not added;
    in a repository that lies there, nothing is looked at. What git finds out about the others goes
    into the index, unless another git is at work there, or a private ``index`` is asked."""
    out = tree.run(
        "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all",
        "--ignore-submodules=all", index=index,
        env=None if index else {"GIT_OPTIONAL_LOCKS": "1"},
    ).stdout  # fmt: skip
    # The first letter says how the index differs from HEAD, the second how the file does from it.
    paths = {entry[3:] for entry in out.split(b"\0") if entry and entry[1:2] != b" "}
    return {path for path in paths if not path.endswith(b"/")}


def write_tree(repo: Repo, index: Path) -> Oid:
    """Store the tree that an index file holds."""
    # Without --missing-ok, git looks every blob up, and a partial clone fetches the whole tree.
    return parse_oid(repo.run("write-tree", "--missing-ok", index=index).text, "git write-tree")


@reading_answer("mktree")
def write_trees(repo: Repo, contents: Sequence[Mapping[str, TreeEntry]]) -> list[Oid]:
    """Store one tree for each mapping ``path -> (mode, blob id)``, with one process for each depth
    of folders however many trees there are. The blobs need not be in the repository."""
    folders: dict[tuple[int, str], dict[str, str]] = {}  # (which tree, folder) -> name -> entry
    for number, files in enumerate(contents):
        folders.setdefault((number, ""), {})
        for path, (mode, blob) in files.items():
            parts = path.split("/")
            for depth in range(1, len(parts)):
                folders.setdefault((number, "/".join(parts[:depth])), {})
            kind = "commit" if mode == "160000" else "blob"
            entries = folders[number, "/".join(parts[:-1])]
            entries[parts[-1]] = f"{mode} {kind} {blob}\t{parts[-1]}"
    trees: dict[tuple[int, str], Oid] = {}
    deepest = max((_depth(folder) for _, folder in folders), default=0)
    for depth in range(deepest, -1, -1):
        level = [key for key in folders if _depth(key[1]) == depth]
        lists = ["".join(f"{entry}\0" for entry in folders[key].values()) for key in level]
        text = "\0".join(lists).encode("utf-8", "surrogateescape")
        ids = repo.run("mktree", "-z", "--missing", "--batch", stdin=text + b"\0").text.split()
        for (number, folder), tree in zip(level, ids, strict=True):
            trees[number, folder] = Oid(tree)
            if folder:
                parent, _, name = folder.rpartition("/")
                folders[number, parent][name] = f"040000 tree {tree}\t{name}"
    return [trees[number, ""] for number in range(len(contents))]


def merge_three_way(repo: Repo, base: Oid, ours: Oid, theirs: Oid) -> Merge:
    """Merge commit ``theirs`` (a child of ``base``) into the tree of commit ``ours``."""
    with ObjectDatabase(repo) as objects:
        return objects.merge_three_way(base, objects.tree_of(ours), theirs)


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0
