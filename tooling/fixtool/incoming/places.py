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
    so that nothing has to be searched."""
    return bool(sections) and all(section.git and not section.bare for section in sections)


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
    known = [section for section in sections if section.bare is not None]
    bare = bool(known) and all(section.bare for section in known)
    if not known:  # only new files: their first folder is one that the tree has
        tops = {path.partition("/")[0] for path in files}
        names = [(section.new or section.old or "").split("/") for section in sections]
        marked = all(name[0] in ("a", "b") for name in names)
        depths = range(_DEEPEST) if not marked else ()
        fits = [
            depth for depth in depths
            if all(len(name) > depth + 1 and name[depth] in tops for name in names)
        ]  # fmt: skip
        if fits:
            return [fits[0]]
    if any(map(_has_two_roots, known)):  # `a/x` and `b/x`: no file of the tree has such a name
        return list(range(1, _DEEPEST))
    return [0, 1, *range(2, _DEEPEST)] if bare else [1, 0, *range(2, _DEEPEST)]


def _has_two_roots(section: Section) -> bool:
    """Whether the two names differ in their first folder, and in nothing else if the file is not
    renamed."""
    if section.git:
        return not section.bare
    old, new = ((name or "").partition("/") for name in (section.old, section.new))
    return old[0] != new[0] and old[2] == new[2] != ""


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
