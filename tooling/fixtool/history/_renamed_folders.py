"""Asks git whether it takes a folder that is gone for renamed.

A patch that adds a file to such a folder is carried to the new one by git. git is asked that once a
commit, for the folders of all patches together. If it leaves a new file in each of them where it
is, none of their files has a new place, and a patch alone changes nothing about that.
"""

from __future__ import annotations

from collections.abc import Mapping

from fixtool.git.database import ObjectDatabase
from fixtool.git.merges import Question, merge_many
from fixtool.git.objects import Oid, TreeEntry
from fixtool.git.process import pool
from fixtool.git.repo import Repo
from fixtool.git.scratch import scratch_repo
from fixtool.progress import Progress

_NEW_FILE = "fixtool-asks-whether-this-folder-was-renamed"


def not_renamed(
    repo: Repo, base: Oid, lost: Mapping[Oid, frozenset[str]], progress: Progress
) -> set[Oid]:
    """The commits of ``lost`` on which git takes none of these folders of the base for renamed: it
    leaves a new file there where it is."""
    if not lost:
        return set()
    kept: set[Oid] = set()
    with (
        scratch_repo(repo) as scratch,
        ObjectDatabase(scratch) as objects,
        progress.task(f"looking for {len(next(iter(lost.values())))} folders", len(lost)) as task,
        pool() as threads,
    ):
        on_base = objects.tree_of(base)
        blob = TreeEntry("100644", objects.add("blob", b"a file that nothing is like\n"))
        asked = []
        for commit, folders in lost.items():
            new = {f"{folder}/{_NEW_FILE}": blob for folder in folders}
            theirs = objects.with_files(on_base, {**new})
            pair = Question(on_base, objects.tree_of(commit), theirs).commits(objects)
            asked.append((commit, new, pair))
        objects.flush()
        merges = threads.map(lambda each: merge_many(scratch, [each[2]], keep=True)[0], asked)
        for (commit, new, _), merge in zip(asked, merges, strict=True):
            if not merge.conflicts and len(objects.files(merge.tree, new)) == len(new):
                kept.add(commit)
            task.advance(1)
    return kept
