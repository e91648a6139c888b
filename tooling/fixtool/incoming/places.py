"""Finds where in a tree a diff belongs: how many leading folders its names lose, and which folder
they then stand in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from fixtool.incoming.sections import Section

_DEEPEST = 12  # leading folders that are tried
_LOOKED_AT = 5  # files of a diff whose names are searched for in the tree
_MOST = 20  # places that are tried


@dataclass(frozen=True)
class Place:
    """``strip`` is what `git apply -p` takes; ``folder`` is what `--directory` takes."""

    strip: int = 1
    folder: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The options of ``git apply``."""
        return (f"-p{self.strip}", *([f"--directory={self.folder}"] if self.folder else []))

    @property
    def typed(self) -> str:
        """The options of fixtool."""
        words = [f"-p {self.strip}"] if self.strip != 1 else []
        return " ".join([*words, *([f"--directory {self.folder}"] if self.folder else [])])

    def path(self, section: Section) -> str | None:
        return self._inside(section.path(self.strip))

    def source(self, section: Section) -> str | None:
        """The file that must be there before; None if none must."""
        return self._inside(section.source(self.strip))

    def _inside(self, path: str | None) -> str | None:
        return f"{self.folder}/{path}" if path and self.folder else path


USUAL = Place()


def is_usual(sections: Sequence[Section]) -> bool:
    """Whether every name has a folder before it that is not part of the path (``a/`` and ``b/``),
    so that nothing has to be searched. The files that are changed show it, and a file that is new
    or deleted must have the same folder."""
    changed = [section for section in sections if None not in (section.old, section.new)]
    return (
        bool(changed)
        and all(section.git for section in sections)
        and not any(section.same_names for section in changed)
        and len({section.old.partition("/")[0] for section in sections if section.old}) == 1
        and len({section.new.partition("/")[0] for section in sections if section.new}) == 1
    )


def find_places(
    sections: Sequence[Section], files: Collection[str], strip: int | None, folder: str | None
) -> list[Place]:
    """The places at which the most files of the diff are there, the likeliest first. ``files`` are
    the paths of the tree; ``strip`` and ``folder`` are what the user has said.

    A place that has to be searched counts only if more files are there than where the names say:
    otherwise a patch that does not fit could go to a copy of its files.
    """
    wanted = [section for section in sections if section.old is not None]

    def there(place: Place) -> int:
        return sum(place.source(section) in files for section in wanted)

    strips = [strip] if strip is not None else _strips(sections, files)
    named = [Place(number, folder or "") for number in strips]
    if not wanted:
        return named[:1]
    if there(named[0]) == len(wanted):
        return named[:1]
    most = max(map(there, named))
    places = [place for place in named if there(place) == most]
    from_root = _from_the_root(sections, files, strips[0])
    if most < len(wanted) and folder is None and not from_root:
        searched = [
            place
            for place in dict.fromkeys(_searched(sections, files))
            if strip in (None, place.strip) and there(place) > most
        ]
        best = max(map(there, searched), default=0)
        places = [place for place in searched if there(place) == best] or places
    return places[:_MOST]


def _from_the_root(sections: Sequence[Section], files: Collection[str], strip: int) -> bool:
    """Whether the names begin with a folder that the tree has at its root. Then a file that is not
    there is missing: one in another folder, with the same end of its name, is another file."""
    names = [section.source(strip) or "" for section in sections]
    tops = {name.partition("/")[0] for name in names if "/" in name}
    return bool(tops) and any(file.partition("/")[0] in tops for file in files if "/" in file)


def _strips(sections: Sequence[Section], files: Collection[str]) -> list[int]:
    """How many leading folders the names may lose, the likeliest first."""
    both = [section for section in sections if None not in (section.old, section.new)]
    bare = bool(both) and all(section.same_names for section in both)
    if not both:  # only new files: is the first folder one of the tree?
        tops = {path.partition("/")[0] for path in files}
        names = [section.new or section.old or "" for section in sections]
        bare = bool(names) and all(name.partition("/")[0] in tops for name in names)
    if any(map(_has_two_roots, both)):  # `a/x` and `b/x`: no file of the tree has such a name
        return list(range(1, _DEEPEST))
    return [0, 1, *range(2, _DEEPEST)] if bare else [1, 0, *range(2, _DEEPEST)]


def _has_two_roots(section: Section) -> bool:
    """Whether the two names of a file that is changed differ in their first folder alone, or in
    that too if the file is renamed."""
    old, new = ((name or "").partition("/") for name in (section.old, section.new))
    return old[0] != new[0] and (old[2] == new[2] != "" or section.moved is not None)


def _searched(sections: Sequence[Section], files: Collection[str]) -> Iterator[Place]:
    """The places at which a file of the diff is found by the end of its name. That is at least its
    own folder and itself, unless the diff has no folder there."""
    wanted = [section for section in sections if section.old is not None]
    for section in wanted[:_LOOKED_AT]:
        for strip in range(_DEEPEST):
            path = section.source(strip)
            if not path or ("/" not in path and strip > 1):
                break
            for file in files:
                if file.endswith(f"/{path}"):
                    yield Place(strip, file[: -len(path) - 1])
