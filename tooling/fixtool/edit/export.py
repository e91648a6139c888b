"""Turns the commits of a work tree back into patch files.

Only what changed is written, and all of it or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from fixtool.apply import newer
from fixtool.apply.identity import identify, with_renames
from fixtool.apply.sides import is_at_base
from fixtool.apply.waiting import require_nothing_waits
from fixtool.apply.worktree import Record, require_clean, require_idle, write_record
from fixtool.edit.change import Edit, FileAction, WrittenFile
from fixtool.edit.merging import BothChanged, Favour, MergedSeries, merge_series, with_others
from fixtool.errors import Refused, UsageError
from fixtool.git.objects import Oid, parse_commit
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_paths, raw_changes
from fixtool.judgement.manifest import Manifest, ManifestPatch
from fixtool.replay.verdict import Verdict
from fixtool.series.commit import open_to_write, rewrite_and_commit
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.lint import errors_in_patch
from fixtool.series.patch import Patch, export_all, parse
from fixtool.series.write import rewrite, series_text, writing
from fixtool.text import argument, count


class Form(StrEnum):
    """The forms, beside the line itself, in which patches are written."""

    MBOX = "mbox"
    COMBINED = "combined"
    SERIES = "series"


@dataclass(frozen=True)
class Output:
    """A form, and the file or folder that it goes to."""

    form: Form
    path: Path


@dataclass(frozen=True)
class Exported:
    """``folder`` is where the files went, or would go on a dry run. ``written`` are the files and
    folders in other forms that were written instead, and ``written_anew`` says whether their bytes
    changed. The notes say what is not obvious: which commit is which patch, and what is newer in
    the line. If there are ``conflicts``, nothing was written. ``committed`` is the commit in the
    patch repository, None if there is none. ``edits`` are those that were not committed in the work
    tree before."""

    line: str
    folder: Path
    patches: tuple[WrittenFile, ...]
    series_changed: bool
    written: tuple[Output, ...] = ()
    written_anew: bool = False
    notes: tuple[str, ...] = ()
    conflicts: tuple[BothChanged, ...] = ()
    committed: Oid | None = None
    edits: tuple[Edit, ...] = ()

    @property
    def changed(self) -> bool:
        files = any(file.changed for file in self.patches)
        return self.series_changed or self.written_anew or files


@dataclass(frozen=True)
class ExportOptions:
    """``output`` is a folder to write to instead of the line. ``only`` are the patches to write;
    none means all. ``unclean`` leaves alone what is not committed in the work tree.
    ``remove_missing`` removes the patches that have no commit any more. ``pairs`` names commits
    that are a patch, by slug, and ``new`` those that become new patches. ``favour`` chooses a side
    where both have changed a patch: one of ``named``, or of ``only``, or any. ``commit`` commits
    the change in the patch repository. ``command`` is the verb that the commit names, with the
    patches ``named``, or those that changed."""

    output: Path | None = None
    only: Sequence[str] = ()
    unclean: bool = False
    remove_missing: bool = False
    pairs: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, Oid] = field(default_factory=dict)
    favour: Favour | None = None
    commit: bool = True
    dry_run: bool = False
    command: str = "export"
    named: Sequence[str] = ()


def export(
    context: Context, tree: Repo, record: Record, options: ExportOptions | None = None
) -> Exported:
    """Write the commits of a work tree, from its base to HEAD, to their line, or to another folder.

    A patch whose commit is the one that ``apply`` made keeps its exact bytes. A patch that somebody
    has changed in the line since the work tree was made is merged with the work tree's commit, or
    kept if the work tree has not changed it.

    Raises Refused if the work tree is not clean (the change would be lost), if its history is not
    one straight line, if a patch has no commit any more, if the work tree is not on the base of the
    line and goes to no other folder, or if the line has uncommitted changes or a command waits for
    a person in it.
    """
    options, repository = options or ExportOptions(), context.repository
    git = open_to_export(context, tree, record, options)
    with nullcontext() if options.dry_run else writing(repository):
        line = repository.line(record.line)
        require_base(tree, record, line, options)
        return _Export(line, tree, record, options, git).run()


def open_to_export(
    context: Context, tree: Repo, record: Record, options: ExportOptions
) -> Repo | None:
    """The git repository in which the change is committed; None if it is not to be. Raises Refused
    if the work tree or the line is not ready for it."""
    writes_line = not options.dry_run and options.output is None
    if writes_line:
        require_nothing_waits(context, record.line)
    if record.proposal:
        raise Refused(
            f"this work tree holds {record.proposal} as upstream would get it",
            where=str(tree.work_tree),
            hint=f"make the change in a work tree of the line: {record.to_apply()} --worktree DIR",
        )
    (require_idle if options.unclean else require_clean)(tree)
    if not writes_line:
        return None
    repository = context.repository
    return open_to_write(repository.root, repository.folder / record.line, commit=options.commit)


def require_base(tree: Repo, record: Record, line: Line, options: ExportOptions) -> None:
    """Raise Refused if a work tree is not on the base of the line, and goes to no other folder."""
    if options.output is None and not is_at_base(tree, record, line):
        raise Refused(
            f"this work tree is on {record.onto[:12]}, but line {line.name} is written against "
            f"{line.upstream.base[:12]}",
            where=str(tree.work_tree),
            hint=_to_the_line(tree, record, line),
        )


def _to_the_line(tree: Repo, record: Record, line: Line) -> str:
    """How what a work tree on another base has comes to the line. Edits that are not committed need
    a work tree of the line as it is."""
    at = argument(tree.work_tree)
    if not tree.status():
        return f"write the patches elsewhere: fixtool export --worktree {at} --output DIR"
    make = f"{record.to_apply(line.upstream)} --no-build --worktree NEW-DIR"
    take = f"git -C {at} diff --binary HEAD | git -C NEW-DIR apply --3way"
    return f"make a work tree of the line as it is: {make}; then take your edits there: {take}"


class _Export:
    """One export: what the work tree has, and what the line has."""

    def __init__(
        self, line: Line, tree: Repo, record: Record, options: ExportOptions, git: Repo | None
    ) -> None:
        self.line, self.tree, self.options, self.git = line, tree, options, git
        slugs = {entry.slug for entry in line.entries}
        self.only = [slug if slug in slugs else line.find(slug).slug for slug in options.only]
        self.found = identify(tree, record, line, options.pairs, options.new)
        self.record = with_renames(record, self.found.renamed)

    def run(self) -> Exported:
        self._require_changes()
        self._require_alone()
        missing = self._missing()
        if missing and not self.options.remove_missing:
            raise self._no_commit(missing)
        if self.options.output is None and self._needs_merge():
            return self._export_merged(missing)
        commits = self.found.commits
        if self.only:
            return self._write_all({slug: commits[slug] for slug in self.only}, (), None)
        gone = [slug for slug in self.found.squashed if slug in self._entries]
        # A patch that was not applied here was absorbed by this work tree's base: it stays.
        present = {*self.record.commits, *commits}
        absent = [slug for slug in self._entries if slug not in present]
        order = [slug for slug in self._entries if slug in commits or slug in absent]
        series = with_others(list(commits), order)
        return self._write_all(commits, [*missing, *gone], series)

    def _require_changes(self) -> None:
        """Raise Refused if a commit changes nothing: no patch file can hold it."""
        new = [oid for slug, oid in self.found.commits.items()
               if self.record.commits.get(slug) != oid]  # fmt: skip
        for oid, paths in zip(new, changed_paths(self.tree, new), strict=True):
            if not paths:
                subject = self.tree.read_commit(oid).subject
                where = self.tree.work_tree
                raise Refused(
                    f"{oid[:12]} {subject!r} changes nothing, so it is no patch",
                    where=str(where),
                    hint=f"git -C {argument(where)} rebase --interactive {self.record.onto[:12]}",
                )

    def _require_alone(self) -> None:
        """Raise Refused if a patch is to be written alone into which another one was squashed: the
        series would hold that one twice, or hold again what the line has dropped."""
        for slug, holder in self.found.squashed.items():
            if holder in self.only and slug not in self.only:
                raise self._squashed(slug)

    def _squashed(self, slug: str) -> Refused:
        where = self.tree.work_tree
        return Refused(
            f"{slug} is squashed into {self.found.squashed[slug]} in the work tree",
            where=str(where),
            hint=f"write all that changed: fixtool refresh --worktree {argument(where)}",
        )

    @property
    def _entries(self) -> list[str]:
        return [entry.slug for entry in self.line.entries]

    def _missing(self) -> list[str]:
        """The patches of the line that were applied here, and whose commits are gone."""
        commits, squashed = self.found.commits, self.found.squashed
        if self.only:
            return [slug for slug in self.only if slug not in commits]
        applied = self.record.commits.keys() - commits.keys() - squashed.keys()
        return [slug for slug in self._entries if slug in applied]

    def _no_commit(self, missing: Sequence[str]) -> Refused:
        """The refusal to lose patches. It shows the new commits that may be one of them."""
        for slug in self.only:
            if slug in self.found.squashed:
                return self._squashed(slug)
        alike = [(slug, oid) for slug in missing for oid in self.found.alike.get(slug, ())]
        candidates = "".join(
            f"; {oid[:12]} {self.tree.read_commit(oid).subject!r} may be {slug}, or a new patch"
            for slug, oid in alike[:3]
        )
        at = f"--worktree {argument(self.tree.work_tree)}"
        keep = "bring it back"
        if lost := [oid for slug in missing if (oid := self.record.commits.get(slug))]:
            tree = argument(self.tree.work_tree)
            keep = f"bring it back: git -C {tree} cherry-pick {' '.join(lost)}"
        if alike:
            slug, oid = alike[0]
            keep = f"say which it is: fixtool export --pair {slug}={oid[:12]} {at}"
        return Refused(
            f"no commit in the work tree holds {', '.join(missing)} any more{candidates}",
            where=str(self.tree.work_tree),
            hint=f"{keep}; or say that it may go: fixtool export --remove-missing {at}",
        )

    def _needs_merge(self) -> bool:
        """Whether the line has changed since the work tree was made, or only one of several
        changes of the work tree is to be written."""
        if newer.newer_in(self.line, self.tree, self.record):
            return True
        changed = {slug for slug, commit in self.found.commits.items()
                   if self.record.commits.get(slug) != commit}  # fmt: skip
        # The change of one without a commit may be in another one, which then would hold it too.
        changed |= self.record.commits.keys() - self.found.commits.keys()
        return bool(self.only) and not changed <= {*self.only}

    # -- nobody else has changed the line ---------------------------------------------------

    def _write_all(
        self, commits: Mapping[str, Oid], gone: Sequence[str], series: Sequence[str] | None
    ) -> Exported:
        """Write the patches of ``commits``, and the series if it is given."""
        files, changes = _patch_files(self.line, self.tree, self.record, commits)
        changes += [WrittenFile(slug, FileAction.REMOVED, None) for slug in gone]
        order = self._entries if series is None else series
        files["series"] = series_text(self.line, order)
        notes = self.found.notes
        record = self.record
        if series is None:
            record = replace(record, commits={**record.commits, **commits})
            if record.commits == self.found.commits:
                record = replace(record, commit=list(self.found.commits.values())[-1])
        elif commits:  # saved: the next apply may move this work tree on
            record = replace(record, commit=list(commits.values())[-1], commits=commits)
        digests = {slug: sha256(files[f"{slug}.patch"]) for slug in commits}
        record = replace(record, manifest=manifest_after(self.tree, record, order, digests))
        return self._write(files, changes, gone, notes, record)

    # -- the line has changed too -------------------------------------------------------------

    def _export_merged(self, missing: Sequence[str]) -> Exported:
        merged = merge_series(
            self.line, self.tree, self.record, self.found, missing,
            only=self.only, favour=self.options.favour,
            favoured=self.options.named or self.only,
        )  # fmt: skip
        if merged.conflicts:
            return Exported(self.line.name, self.line.folder, (), False,
                            notes=self.found.notes, conflicts=merged.conflicts)  # fmt: skip
        order = [patch.slug for patch in merged.patches]
        files = {f"{patch.slug}.patch": patch.data for patch in merged.patches}
        files["series"] = series_text(self.line, order)
        changes = [WrittenFile(patch.slug, patch.change, patch.own) for patch in merged.patches]
        changes += [WrittenFile(slug, FileAction.REMOVED, None) for slug in merged.removed]
        notes = (*self.found.notes, *merged.notes)
        if self.only:
            changes = [file for file in changes if file.slug in self.only or file.changed]
        return self._write(files, changes, merged.removed, notes, self._record_after(merged))

    def _record_after(self, merged: MergedSeries) -> Record:
        """The record of the work tree, which has what it has written. What is newer in the line
        stays as it was recorded, so that it is still known to be newer."""
        gone = {*merged.removed, *merged.settled}
        commits = {slug: oid for slug, oid in self.record.commits.items() if slug not in gone}
        digests = {}
        own = self.found.commits
        mails = dict(zip(own, export_all(self.tree, list(own.values())), strict=True))
        for patch in merged.patches:
            slug = patch.slug
            if slug not in own or (patch.there and not patch.here):
                continue
            # The file may have what the line has changed, or stand on patches of the line. What the
            # work tree has of the patch is then what it was made of from now on.
            as_own = mails[slug] == patch.data or (patch.here and patch.there)
            if as_own:
                commits[slug], digests[slug] = own[slug], sha256(mails[slug])
            elif patch.here and (not self.only or slug in self.only):
                commits[slug], digests[slug] = patch.commit, sha256(patch.data)
        known = [slug for slug in newer.made_of(self.tree, self.record) if slug not in gone]
        order = with_others([patch.slug for patch in merged.patches], known)
        record = replace(self.record, commits=commits)
        record = replace(record, manifest=manifest_after(self.tree, record, order, digests))
        head = self.tree.head()
        whole = not self.only or record.commits == own
        return replace(record, commit=head) if head and whole else record

    def _require_well_formed(
        self, files: Mapping[str, bytes], changes: Sequence[WrittenFile]
    ) -> None:
        """Raise Refused if lint would find an error in a message that is written, and that the file
        does not have yet: git would read another message, author or diff than the commit has."""
        for change in changes:
            if not change.changed or change.change is FileAction.REMOVED:
                continue
            patch = parse(files[f"{change.slug}.patch"], change.slug)
            known: set[tuple[str, str]] = set()
            with suppress(Refused, UsageError):
                old = self.line.find(change.slug)
                if old.head == patch.head:
                    continue
                known = {(error.rule, error.message) for error in errors_in_patch(old)}
            for what, fix in self._errors(patch, change.commit, known):
                raise Refused(
                    f"{change.slug}: {what}",
                    where=str(self.tree.work_tree),
                    hint=f"{fix}: {self._to_amend(change.commit)}",
                )

    def _errors(
        self, patch: Patch, commit: Oid | None, known: Collection[tuple[str, str]]
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with ``patch``, which was exported of ``commit``, beside what is ``known``,
        and what to do about it."""
        message = self.tree.read_commit(commit).message if commit else ""
        if "\ndiff --git " in message:  # the message in the file ends there
            yield "a line of its message begins with 'diff --git', as a diff does", "indent it"
        for error in errors_in_patch(patch):
            if (error.rule, error.message) not in known:
                yield error.message, error.fix

    def _to_amend(self, commit: Oid | None) -> str:
        """The command that changes the message of a commit of the work tree."""
        at = f"git -C {argument(self.tree.work_tree)}"
        if commit is None or commit == self.tree.head():
            return f"{at} commit --amend"
        return f"{at} rebase --interactive {commit}^"

    def _write(
        self,
        files: Mapping[str, bytes],
        changes: Sequence[WrittenFile],
        gone: Sequence[str],
        notes: Sequence[str],
        record: Record,
    ) -> Exported:
        line, options = self.line, self.options
        series_changed = files["series"] != (line.folder / "series").read_bytes()
        folder = options.output or line.folder
        done = Exported(line.name, folder, tuple(changes), series_changed, notes=tuple(notes))
        self._require_well_formed(files, changes)
        if options.dry_run:
            return done
        names = frozenset(f"{slug}.patch" for slug in gone)
        if options.output is not None:
            rewrite(folder, files, names)
            return done
        message = _message(line, options, changes)
        committed = rewrite_and_commit(self.git, folder, files, names, message)
        write_record(self.tree, record)
        return replace(done, committed=committed)


def _message(line: Line, options: ExportOptions, changes: Sequence[WrittenFile]) -> str:
    """The message of the commit in the patch repository."""
    changed = [file for file in changes if file.changed]
    named = list(options.named) or [file.slug for file in changed]
    what = named[0] if len(named) == 1 else count(len(named), "patch")
    if not named:
        what = "the order of the series"
    listed = "".join(f"- {file.slug}: {file.change}\n" for file in changed)
    return f"{line.name}: {options.command} {what}\n" + (f"\n{listed}" if len(changed) > 1 else "")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest_after(
    tree: Repo, record: Record, series: Sequence[str], digests: Mapping[str, str]
) -> Manifest | None:
    """The manifest of a work tree once the patches of ``digests``, which gives the sha256 of their
    files by slug, are written and the order is ``series``."""
    if record.manifest is None:
        return None
    commits = {slug: record.commits[slug] for slug in digests}
    subjects = {
        oid: parse_commit(raw).subject
        for oid, raw in tree.commits_here(list(commits.values())).items()
    }
    written = {
        slug: ManifestPatch(slug, subjects[oid], digests[slug], Verdict.CLEAN, oid)
        for slug, oid in commits.items()
    }
    return record.manifest.after_export(series, written)


def _patch_files(
    line: Line, tree: Repo, record: Record, commits: Mapping[str, Oid]
) -> tuple[dict[str, bytes], list[WrittenFile]]:
    """The patch files of ``commits``, slug -> commit, by file name, and how each one changes."""
    at_base = is_at_base(tree, record, line)
    paths = {slug: line.folder / f"{slug}.patch" for slug in commits}
    before = {slug: path.read_bytes() for slug, path in paths.items() if path.is_file()}
    made = [
        slug for slug, commit in commits.items()
        if slug not in before or not at_base or record.commits.get(slug) != commit
    ]  # fmt: skip
    if at_base:
        same = _as_recorded(tree, record, {slug: commits[slug] for slug in made}, before)
        made = [slug for slug in made if slug not in same]
    mails = export_all(tree, [commits[slug] for slug in made])
    now = {**before, **dict(zip(made, mails, strict=True))}
    files, changes = {}, []
    for slug, commit in commits.items():
        kept = FileAction.UNCHANGED if now[slug] == before.get(slug) else FileAction.REWRITTEN
        change = kept if slug in before else FileAction.ADDED
        files[paths[slug].name] = now[slug]
        changes.append(WrittenFile(slug, change, commit))
    return files, changes


def _as_recorded(
    tree: Repo, record: Record, commits: Mapping[str, Oid], files: Mapping[str, bytes]
) -> set[str]:
    """The slugs of ``commits`` with the message, the author and the changes of the commit that the
    patch file in ``files`` was made of: only their parents differ. Such a file is not made again,
    which takes most of the time of an export."""
    patches = record.manifest.patches if record.manifest else ()
    made_of = {patch.slug: patch.sha256 for patch in patches}
    asked = [slug for slug in commits
             if slug in record.commits and slug in files
             and sha256(files[slug]) == made_of.get(slug)]  # fmt: skip
    then, now = [record.commits[slug] for slug in asked], [commits[slug] for slug in asked]
    here = {oid: parse_commit(raw) for oid, raw in tree.commits_here([*then, *now]).items()}
    texts = {oid: (commit.message, commit.author) for oid, commit in here.items()}
    pairs = [(slug, old, new) for slug, old, new in zip(asked, then, now, strict=True)
             if old in here and texts[old] == texts.get(new)]  # fmt: skip
    changes = raw_changes(tree, [oid for _, old, new in pairs for oid in (old, new)])
    return {slug for at, (slug, _, _) in enumerate(pairs)
            if changes[2 * at] == changes[2 * at + 1]}  # fmt: skip
