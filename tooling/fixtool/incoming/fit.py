"""Fits a diff of others to a tree: at the place where its files are, with their line ends, without
the parts that the user leaves out, and by a three-way merge if it was made on older files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from fixtool.errors import ExitCode, FixtoolError, Refused
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import MACHINE, Commit, Oid, TreeEntry
from fixtool.git.repo import Output
from fixtool.git.trees import (
    apply_to_index,
    list_tree,
    merge_three_way,
    scratch_index,
    write_tree,
)  # fmt: skip
from fixtool.incoming.advice import Advice, as_sentence
from fixtool.incoming.bases import BestBase, patterns_of
from fixtool.incoming.change import Incoming
from fixtool.incoming.files import Fit, TriedFile, try_files
from fixtool.incoming.line_ends import with_line_ends_of
from fixtool.incoming.places import USUAL, Place, find_places, is_usual
from fixtool.incoming.sections import Section, read_sections
from fixtool.series.diff import read_diff
from fixtool.series.strict import LeftToGit, apply_in_memory
from fixtool.text import count

_SHOWN = 3  # files in a message
_MERGED = "merged three-way onto the line's base"
_REASONS = {
    Fit.FITS: "fits alone",
    Fit.FAILS: "is not as the change expects it",
    Fit.MISSING: "is not there",
}


@dataclass(frozen=True)
class FitOptions:
    """What the user says about how changes fit. ``strip`` and ``folder`` None are found out;
    ``exclude`` are the paths, folders or patterns of what is left out. ``leave_out_missing`` leaves
    out what the tree lacks, too."""

    strip: int | None = None
    folder: str | None = None
    exclude: tuple[str, ...] = ()
    three_way: bool = True
    leave_out_missing: bool = False


@dataclass(frozen=True)
class Base:
    """What a line is written for: its commit, and the release that it is, if it is one."""

    line: str
    commit: Oid
    release: str | None

    @property
    def name(self) -> str:
        return f"release {self.release}" if self.release else f"the line's base {self.commit[:12]}"


@dataclass(frozen=True)
class Fitted:
    """``tree`` has the change. ``excluded`` are the patterns that left something out of it,
    ``recorded`` is what the patch says of them, and the notes say what had to be done."""

    tree: Oid
    notes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Better:
    """A release that a change fits better than the line's base, a sentence on it, and the commands
    that import the change onto it."""

    found: BestBase
    sentence: str
    commands: str

    @property
    def line(self) -> str:
        return f"\n  {self.sentence}"


class Conflict(FixtoolError):
    """A three-way merge stops at ``paths``; ``files`` are those of them that the change names, of
    ``of`` in all. ``theirs`` is a commit with the change, whose parent has the files that it was
    made on. ``fitted`` says what is known of the result, whose tree a person has to make.
    ``better`` is a release that the change fits better. ``number`` is that of the change among
    those that came in, and ``parent`` the commit that it does not fit."""

    exit_code = ExitCode.CONFLICT

    def __init__(
        self,
        message: str,
        *,
        where: str,
        hint: str,
        theirs: Oid,
        paths: Sequence[str],
        files: Sequence[TriedFile],
        of: int,
        fitted: Fitted,
        better: Better | None,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.theirs, self.paths, self.of = theirs, tuple(paths), of
        self.files, self.fitted, self.better = tuple(files), fitted, better
        self.number, self.parent = -1, Oid("")


FindBlobs = Callable[[Mapping[str, str], Incoming], Mapping[str, Oid]]
"""Gives the full ids of older contents, path -> perhaps abbreviated id, that can be read."""


class Fitter:
    """Fits changes to trees."""

    def __init__(
        self,
        objects: ObjectDatabase,
        base: Base,
        options: FitOptions,
        find_blobs: FindBlobs | None,
        advice: Advice | None = None,
    ) -> None:
        self.objects, self.repo = objects, objects.repo
        self.base, self.options, self.find_blobs = base, options, find_blobs
        self.advice = advice

    def again(self, words: str) -> str:
        """The command at hand with more options."""
        return self.advice.again(*shlex.split(words)) if self.advice else f"the same with {words}"

    def fit(self, change: Incoming, tip: Oid) -> Fitted:
        """The tree of ``tip`` with ``change``; the tree of ``tip`` itself if it has the change
        already. Raises Refused, with the reason, if the change does not fit."""
        options = self.options
        strip = change.strip if options.strip is None else options.strip
        # Than whole, at the paths that it names.
        other_way = options.exclude or options.folder or change.reverse or strip not in (None, 1)
        if not other_way and change.trees and self.objects.tree_of(tip) == change.trees[0]:
            return Fitted(change.trees[1])  # git made the diff between these two trees
        lines = change.diff.split(b"\n")
        sections = read_sections(lines)
        if not other_way and is_usual(sections):
            tree = self._apply_as_it_is(change, tip)
            if tree is not None:
                return Fitted(tree)
        self.objects.flush()
        files = list_tree(self.repo, tip)
        if change.reverse:
            sections = [section.reversed() for section in sections]
        places = find_places(sections, files, strip, options.folder) or [USUAL]
        asked = Place(1 if strip is None else strip, options.folder or "")
        return _Attempt(self, change, tip, lines, sections, files).at(places, asked)

    def _apply_as_it_is(self, change: Incoming, tip: Oid) -> Oid | None:
        """The tree of ``tip`` with a change whose names are those of the tree; None if it does not
        apply."""
        try:
            files = read_diff(change.diff, where=change.where)
            return apply_in_memory(self.objects, files, self.objects.tree_of(tip))
        except (Refused, LeftToGit):  # git reads more than fixtool does
            self.objects.flush()
            return self.apply(change, tip, USUAL, change.diff)[0]

    def apply(
        self, change: Incoming, commit: Oid, place: Place, diff: bytes, *more: str
    ) -> tuple[Oid | None, Output]:
        """The tree of ``commit`` with ``diff``, None if it does not apply; and what git says."""
        backwards = change.reverse != ("--reverse" in more)
        words = [*place.words, *(word for word in more if word != "--reverse")]
        words += ["--reverse"] if backwards else []
        with scratch_index(self.repo, commit) as index:
            out = apply_to_index(self.repo, index, diff, *words)
            return (write_tree(self.repo, index) if out.status == 0 else None), out


@dataclass(frozen=True)
class _Sides:
    """The commits of a three-way merge: the files that a change was made on, and these with the
    change. The note says where they are from."""

    older: Oid
    theirs: Oid
    note: str


class _Attempt:
    """The attempt to fit one change to one tree, whose ``files`` are given by their paths."""

    def __init__(
        self,
        fitter: Fitter,
        change: Incoming,
        tip: Oid,
        lines: Sequence[bytes],
        sections: Sequence[Section],
        files: Mapping[str, TreeEntry],
    ) -> None:
        self.fitter, self.change, self.tip = fitter, change, tip
        self.lines, self.sections, self.files = lines, sections, files
        self.repo, self.options = fitter.repo, fitter.options

    def at(self, places: Sequence[Place], asked: Place) -> Fitted:
        """Apply the change at the one of ``places`` where that is possible. ``asked`` is the place
        that needs no note."""
        found: dict[Oid, tuple[Place, Fitted]] = {}
        failures: list[Output] = []
        for place in places:
            fitted, out = self._exact(place)
            if fitted is None:
                failures.append(out)
            else:
                found.setdefault(fitted.tree, (place, fitted))
        if len(found) > 1:
            ways = " or ".join(place.typed or "-p 1" for place, _ in found.values())
            raise self._refuse(f"it applies in {len(found)} places", f"say which one: {ways}")
        if found:
            ((place, fitted),) = found.values()
        else:
            place = places[0]
            fitted = self._otherwise(place, failures[0])
        found_out = [f"applied with {place.typed or '-p 1'}"] if place != asked else []
        return replace(fitted, notes=(*found_out, *fitted.notes))

    def _exact(self, place: Place) -> tuple[Fitted | None, Output]:
        diff, excluded = self._without_excluded(place)
        tree, out = self.fitter.apply(self.change, self.tip, place, diff)
        return (_fitted(tree, excluded) if tree is not None else None), out

    def _without_excluded(self, place: Place) -> tuple[bytes, dict[str, list[str]]]:
        """The diff without what is left out; and the paths that each pattern leaves out."""
        excluded: dict[str, list[str]] = {}
        gone: set[int] = set()
        for section in self.sections:
            pattern = self._pattern(place, section)
            if pattern is not None:
                excluded.setdefault(pattern, []).append(place.path(section) or "")
                gone.update(range(section.first, section.end))
        if not gone:
            return self.change.diff, {}
        if sum(map(len, excluded.values())) == len(self.sections):
            raise self._refuse(
                "--exclude leaves nothing of it", "leave the whole patch out instead"
            )
        return b"\n".join(line for at, line in enumerate(self.lines) if at not in gone), excluded

    def _pattern(self, place: Place, section: Section) -> str | None:
        """The pattern that leaves a section out; None if there is none."""
        path = place.path(section) or ""
        for pattern in self.options.exclude:
            if path.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(path, pattern):
                return pattern
        return None

    def _kept(self, place: Place) -> list[Section]:
        return [part for part in self.sections if self._pattern(place, part) is None]

    # -- if it does not apply as it is ------------------------------------------------------

    def _otherwise(self, place: Place, out: Output) -> Fitted:
        if missing := self._missing(place):
            return self._without_missing(place, missing)
        lines, changed = with_line_ends_of(self.lines, self.sections, self._reader(place))
        if changed:
            mended = replace(self.change, diff=b"\n".join(lines))
            other = _Attempt(self.fitter, mended, self.tip, lines, self.sections, self.files)
            fitted, _ = other._exact(place)
            if fitted is not None:
                files = _shown([place.path(section) for section in changed])
                note = f"the line ends of the patch were changed to those of {files}"
                return replace(fitted, notes=(note, *fitted.notes))
        diff, excluded = self._without_excluded(place)
        if self.fitter.apply(self.change, self.tip, place, diff, "--reverse")[0] is not None:
            return Fitted(self.repo.tree_id(self.tip))
        sides = self._sides(place, diff) if self.options.three_way else None
        if sides is None:
            raise self._does_not_apply(place, diff, out)
        return self._merged(place, sides, excluded)

    def _merged(self, place: Place, sides: _Sides, excluded: Mapping[str, Sequence[str]]) -> Fitted:
        """The three-way merge of ``sides``. Raises Conflict if a person has to make it."""
        merge = merge_three_way(self.repo, sides.older, self.tip, sides.theirs)
        fitted = _fitted(merge.tree, excluded)
        fitted = replace(fitted, notes=(sides.note, *fitted.notes))
        if merge.conflicts:
            raise self._conflict(place, sides, merge.conflicts, fitted)
        return fitted

    def _reader(self, place: Place) -> Callable[[Section], bytes | None]:
        def read(section: Section) -> bytes | None:
            entry = self.files.get(place.source(section) or "")
            is_file = entry is not None and entry.mode.startswith("100")
            return self.repo.read_blob(entry.blob) if entry and is_file else None

        return read

    def _sides(self, place: Place, diff: bytes) -> _Sides | None:
        """The two commits of a three-way merge. None if the files that the change was made on
        cannot be had, and no release that is here has them."""
        if self.change.commit is not None:
            parents = self.repo.read_commit(self.change.commit).parents
            return self._applied(place, diff, parents[0], _MERGED)
        if older := self._older_files(place):
            sides = self._applied(place, diff, self._commit(older, self.tip), _MERGED)
            if sides is not None:
                return sides
        return self._sides_on_release(place, diff)

    def _sides_on_release(self, place: Place, diff: bytes) -> _Sides | None:
        """The same, where the change was made on the release that it fits best."""
        better = self._better_base()
        if better is None:
            return None
        best = better.found.best
        return self._applied(place, diff, best.commit, f"{_MERGED}, as made on {best.release}")

    def _applied(self, place: Place, diff: bytes, older: Oid, note: str) -> _Sides | None:
        """The sides of a merge of a change that was made on the commit ``older``."""
        tree, _ = self.fitter.apply(self.change, older, place, diff)
        return _Sides(older, self._commit_of(tree, older), note) if tree is not None else None

    def _older_files(self, place: Place) -> list[tuple[str, str, Oid]]:
        """The mode, path and content of each file that the diff names by the id of its content, if
        that is another one than the tree's. None of them if one cannot be had."""
        wanted = {}
        for section in self._kept(place):
            path = place.source(section)
            here = self.files.get(path) if path else None
            if path and here and section.blob and not here.blob.startswith(section.blob):
                wanted[path] = section.blob
        find = self.fitter.find_blobs
        blobs = find(wanted, self.change) if find and wanted else {}
        if blobs.keys() != wanted.keys():
            return []
        return [(self.files[path].mode, path, blob) for path, blob in blobs.items()]

    def _commit(self, files: Sequence[tuple[str, str, Oid]], parent: Oid) -> Oid:
        """A commit with the tree of ``parent`` but for these files."""
        text = "".join(f"{mode} {blob}\t{path}\0" for mode, path, blob in files)
        with scratch_index(self.repo, parent) as index:
            stdin = text.encode("utf-8", "surrogateescape")
            self.repo.run("update-index", "-z", "--index-info", stdin=stdin, index=index)
            return self._commit_of(write_tree(self.repo, index), parent)

    def _commit_of(self, tree: Oid, parent: Oid) -> Oid:
        message = "a side of a three-way merge\n"
        return self.repo.write_commit(Commit(tree, (parent,), MACHINE, MACHINE, message))

    # -- why it does not apply --------------------------------------------------------------

    def _refuse(self, why: str, hint: str) -> Refused:
        message = f"{self.change.subject!r} does not apply to the line's series: {why}"
        return Refused(message, where=self.change.where, hint=hint)

    def _missing(self, place: Place) -> list[str]:
        """The files that the change needs and the tree lacks."""
        needed = {place.source(part) or part.old or "" for part in self._kept(place) if part.old}
        return sorted(needed - self.files.keys())

    def _without_missing(self, place: Place, missing: Sequence[str]) -> Fitted:
        """The change without the ``missing`` files, if that is wanted. Raises Refused otherwise,
        and if none of its files is there."""
        base = self.fitter.base
        needed = sum(1 for part in self._kept(place) if part.old)
        tops = {path.partition("/")[0] for path in self.files}
        makes_files = any(part.old is None for part in self._kept(place))
        if len(missing) >= needed and not makes_files:
            more = f"strip one more folder of their names: -p {place.strip + 1}"
            hint = f"say where its files are: --directory DIR; or {more}"
            raise self._refuse(f"{base.name} has none of its files: {_shown(missing)}", hint)
        gone = [path for path in missing if path.partition("/")[0] in tops]
        lacking = patterns_of(sorted({*missing} - {*gone}), tops)
        if lacking and self.options.leave_out_missing:
            return self._leaving_out(place, lacking)
        if gone and not lacking and self.options.three_way:  # git may find where they are now
            diff, excluded = self._without_excluded(place)
            if sides := self._sides_on_release(place, diff):
                return self._merged(place, sides, excluded)
        raise self._lacks(missing, gone, tops)

    def _leaving_out(self, place: Place, patterns: Sequence[str]) -> Fitted:
        """The change without what is in folders that the tree lacks."""
        fitter, options = self.fitter, self.options
        options = replace(options, exclude=(*options.exclude, *patterns), leave_out_missing=False)
        fitter = Fitter(fitter.objects, fitter.base, options, fitter.find_blobs, fitter.advice)
        again = _Attempt(fitter, self.change, self.tip, self.lines, self.sections, self.files)
        reasons = {pattern: f"{pattern} ({fitter.base.name} lacks it)" for pattern in patterns}
        try:
            return _with_reasons(again.at([place], place), reasons)
        except Conflict as conflict:
            conflict.fitted = _with_reasons(conflict.fitted, reasons)
            raise

    def _lacks(self, missing: Sequence[str], gone: Sequence[str], tops: Collection[str]) -> Refused:
        """The refusal of a change whose ``missing`` files the tree lacks. Of these, ``gone`` are in
        folders that it has."""
        base = self.fitter.base
        what = f"{base.name} lacks some of its files"
        if base.release:
            what = f"{base.name} lacks {count(len(missing), 'file')} (a wheel has no tests)"
        why = f"{what}: {_shown(missing)}"
        words = (f"--exclude {shlex.quote(name)}" for name in patterns_of(missing, tops))
        hint = f"leave that part out: {self.fitter.again(' '.join(words))}"
        if gone and (better := self._better_base()):
            why = f"{why}; {gone[0]} may have moved{better.line}"
            hint = f"{better.commands}; or {hint}"
            if len(gone) < len(missing):
                merge = self.fitter.again("--leave-out-missing")
                hint = f"merge the rest three-way: {merge}; or {better.commands}"
        return self._refuse(why, hint)

    def _better_base(self) -> Better | None:
        """The release that the change fits best, if that is another one than the line's base."""
        advice = self.fitter.advice
        found = advice.best(self.change) if advice else None
        if advice is None or found is None or found.best.commit == self.fitter.base.commit:
            return None
        return Better(found, as_sentence(found, here=True), advice.on(found))

    def _tried(self, place: Place) -> list[TriedFile]:
        """What becomes of each file by itself."""
        objects = self.fitter.objects
        tree = self.repo.tree_id(self.tip)
        return try_files(objects, self.change, self.lines, self._kept(place), place, tree)[0]

    def _conflict(
        self, place: Place, sides: _Sides, conflicts: Sequence[str], fitted: Fitted
    ) -> Conflict:
        tried = self._tried(place)
        stops = [file for file in tried if file.path in conflicts]
        better = self._better_base()
        hint = "see them without --dry-run: the import then waits for you"
        if self.change.commit is not None:
            hint = f"{hint}; or rebase the branch: git rebase {self.fitter.base.commit[:12]}"
        return Conflict(
            f"{self.change.subject!r} does not apply to the line's series: a three-way merge stops "
            f"in {len(conflicts)} of {count(len(tried), 'file')}{_listed(stops)}"
            f"{better.line if better else ''}",
            where=stops[0].where if stops else self.change.where, hint=hint,
            theirs=sides.theirs, paths=conflicts, files=stops, of=len(tried), fitted=fitted,
            better=better,
        )  # fmt: skip

    def _does_not_apply(self, place: Place, diff: bytes, out: Output) -> Refused:
        if out.status != 1:
            return self._refuse(
                f"git cannot read the diff: {out.complaint}",
                "get the file once more from where it came from: an editor or a mailer has "
                "changed it",
            )
        why, where = self._why(place, out)
        spaced = self.fitter.apply(self.change, self.tip, place, diff, "--ignore-whitespace")[0]
        if spaced is not None:
            return self._refuse(
                f"{why}; only white space differs (line ends such as CRLF, or tabs), which a "
                "mailer or an editor has changed", "get it once more, as an attachment",
            )  # fmt: skip
        why, hint = self._ways_out(place, why)
        message = f"{self.change.subject!r} does not apply to the line's series: {why}"
        return Refused(message, where=where, hint=hint)

    def _why(self, place: Place, out: Output) -> tuple[str, str]:
        """What keeps the change from applying, every file with its line, and the place of the
        first one."""
        tried = self._tried(place)
        failing = [file for file in tried if file.fit is not Fit.FITS]
        first = failing[0] if failing else None
        if match := re.search(r"^error: (.*): already exists in", out.stderr, re.MULTILINE):
            why = f"{match[1]} is there already"
        elif first is not None and first.fit is Fit.FAILS:
            why = f"{first.path} is not as the patch expects it at line {first.line}"
        else:
            why = out.complaint.removeprefix("error: ")
        if len(tried) > 1 and failing:
            number = f"{len(failing)} of {count(len(tried), 'file')}"
            why = (
                f"{why}; {number} {'do' if len(failing) > 1 else 'does'} not fit{_listed(failing)}"
            )
        return why, first.where if first else self.change.where

    def _ways_out(self, place: Place, why: str) -> tuple[str, str]:
        """The reason with the release that the change fits best, and what to do."""
        advice = self.fitter.advice
        if better := self._better_base():
            return f"{why}{better.line}", better.commands
        by_hand = (
            f"apply it by hand: fixtool apply --line {self.fitter.base.line} --no-build "
            "--worktree DIR; git -C DIR apply --reject FILE; git -C DIR commit --all; "
            "fixtool export --worktree DIR"
        )
        made_on = [part for part in self._kept(place) if part.blob and part.source(place.strip)]
        if self.options.three_way and made_on and self.change.commit is None:
            by_hand = (
                "it was made on other files, and with these it could be merged: name a clone that "
                f"has them, --source PATH; or {by_hand}"
            )
        if advice and self.change.commit is None:
            by_hand = f"find the release that it was made for: {advice.everywhere()}; or {by_hand}"
        return why, by_hand


def _listed(files: Sequence[TriedFile]) -> str:
    """Every file with its line, and the line of the change, each on a line of its own."""
    lines = (f"\n  {file.path}:{file.line}: {_REASONS[file.fit]} ({file.where})" for file in files)
    return "".join(lines)


def _with_reasons(fitted: Fitted, reasons: Mapping[str, str]) -> Fitted:
    recorded = tuple(reasons.get(pattern, pattern) for pattern in fitted.excluded)
    return replace(fitted, recorded=recorded)


def _fitted(tree: Oid, excluded: Mapping[str, Sequence[str]]) -> Fitted:
    notes = tuple(
        f"left out {count(len(paths), 'file')} (--exclude {pattern}): {_shown(paths)}"
        for pattern, paths in excluded.items()
    )
    return Fitted(tree, notes, tuple(excluded), tuple(excluded))


def _shown(paths: Sequence[str | None]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(path or "?" for path in paths[:_SHOWN]) + more
