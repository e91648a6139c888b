"""Files of a patch repository that are no regular files, or that never end."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attack_table.place import SECRET, Attack, Place, Wrong
from support.repositories import Ran

Spoil = Callable[[Place, Path], None]


def _clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_to(target: str) -> Spoil:
    def spoil(place: Place, path: Path) -> None:
        _clear(path)
        path.symlink_to(target.format(private=place.private, root=place.root))

    return spoil


def pipe(_: Place, path: Path) -> None:
    _clear(path)
    os.mkfifo(path)


def plug(_: Place, path: Path) -> None:
    _clear(path)
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def folder(_: Place, path: Path) -> None:
    _clear(path)
    path.mkdir()


def sparse(_: Place, path: Path) -> None:
    if path.is_dir():
        path = path / "sparse"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.truncate(1 << 40)


def loop(_: Place, path: Path) -> None:
    _clear(path)
    path.symlink_to(path.name)


def nulls(_: Place, path: Path) -> None:
    if path.is_dir():
        path = path / "nulls"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 4096)


SPOILS: dict[str, Spoil] = {
    "a link to a private file": link_to("{private}/key"),
    "a link to a private folder": link_to("{private}"),
    "a link to /dev/zero": link_to("/dev/zero"),
    "a link to the environment": link_to("/proc/self/environ"),
    "a broken link": link_to("{root}/none"),
    "a link to itself": loop,
    "a pipe": pipe,
    "a socket": plug,
    "a folder": folder,
    "a terabyte of nothing": sparse,
    "null bytes": nulls,
}
READERS = ("lint", "list", "show", "apply", "drop", "status of all")
PLACES = {
    "series": "patches/main/series",
    "upstream.toml": "patches/main/upstream.toml",
    "a patch": "patches/main/fix.patch",
}
WRITERS = {
    "shelf": "patches/main/shelf", "shelf.toml": "patches/main/shelf.toml",
    "a file of the line": "patches/main/note", "a folder of the line": "patches/main/notes/deep/er",
    "a file of the shelf": "patches/main/shelf/old.patch",
}  # fmt: skip


def words(verb: str, place: Place) -> list[str | Path]:
    source: list[str | Path] = ["--source", place.up.path]
    return {
        "lint": ["lint"], "list": ["list"], "show": ["show", "fix"],
        "apply": ["apply", "--no-build", "--sglang-ref", "v1.0", *source],
        "drop": ["drop", "fix", "--reason", "x", *source],
        "rebase": ["rebase", "--onto", "v1.1", *source],
        "refresh": ["refresh", "fix"], "deps": ["deps", *source],
        "history": ["history", "--to", "v1.1", *source],
        "coverage": ["coverage", "v1.0", *source],
        "status of all": ["lint", "--strict"],
        "verify": ["verify", "--prove", "--line", "main", "--sglang-ref", "v1.0", *source],
        "report": ["report", "--output", place.out / "report"],
        "bundle": ["verify", "--prove", "--line", "main", "--sglang-ref", "v1.0", *source,
                   "--bundle", place.out / "bundle.tar"],
    }[verb]  # fmt: skip


def spoiled(verb: str, path: str, spoil: Spoil, *, commit: bool) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        spoil(place, place.team.root / path)
        if commit:
            place.git("add", "--all", "--force", "--", "patches", check=False)
            place.git("commit", "--quiet", "--allow-empty", "--message", "state")
        ran = place.run(*words(verb, place))
        search(place.out)
        return ran

    return attempt


def search(folder: Path) -> None:
    """Raise Wrong if the private text is in a file, or in an archive, below a folder."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            if SECRET.encode() in path.read_bytes():
                raise Wrong(f"the private text is in {path.name}")
            if path.suffix == ".tar":
                with tarfile.open(path) as tar:
                    for member in tar:
                        file = tar.extractfile(member) if member.isfile() else None
                        if file and SECRET.encode() in file.read():
                            raise Wrong(f"the private text is in {path.name}: {member.name}")


def linked_folder(path: str, verb: str) -> Callable[[Place], Ran]:
    """A folder of the patch repository that is a link to one outside, which holds the same."""

    def attempt(place: Place) -> Ran:
        inner = place.team.root / path
        shutil.move(inner, place.private / "moved")
        inner.symlink_to(place.private / "moved")
        before = sorted(place.private.rglob("*"))
        ran = place.run(*words(verb, place))
        if sorted(place.private.rglob("*")) != before:
            raise Wrong("a file outside was written or removed")
        shutil.rmtree(place.private / "moved")
        return ran

    return attempt


def needs_probes(verb: str) -> Callable[[Place, str, Spoil], Ran]:
    def attempt(place: Place, path: str, spoil: Spoil) -> Ran:
        for slug in ("fix", "other"):
            file = place.line / f"{slug}.patch"
            file.write_text(
                file.read_text().replace(
                    "Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n"
                )
            )
        place.commit_all()
        ran = (
            place.run(*words(verb, place), "--python", "python3")
            if verb == "verify"
            else place.run(*words(verb, place))
        )
        if verb == "bundle" and ran.status:
            raise Wrong(f"a plain bundle ends with {ran.status}: {ran.err}")
        (place.out / "bundle.tar").unlink(missing_ok=True)
        spoil(place, place.team.root / path)
        ran = place.run(*words(verb, place))
        search(place.out)
        return ran

    return attempt


def hard_link(place: Place) -> Ran:
    """A hard link to a private file is a regular file, and only its user can have made it."""
    (place.line / "note").hardlink_to(place.private / "key")
    ran = place.run(*words("list", place))
    (place.line / "note").unlink()
    return ran


def many_files(place: Place) -> Ran:
    for number in range(3000):
        (place.line / f"note{number}").touch()
    return place.run("lint")


def many_lines(place: Place) -> Ran:
    for number in range(300):
        shutil.copytree(place.line, place.line.with_name(f"line{number}"))
    return place.run("list")


def attacks() -> Iterator[Attack]:
    who = "patch repository"
    for name, path in PLACES.items():
        for how, spoil in SPOILS.items():
            for verb in ("lint", "apply", "show"):
                if (verb, name) == ("show", "upstream.toml"):
                    continue
                yield Attack(
                    who, verb, f"{name} is {how}", spoiled(verb, path, spoil, commit=False)
                )
    for name, path in WRITERS.items():
        for how, spoil in SPOILS.items():
            must = (
                "held" if how in ("a folder", "null bytes", "a terabyte of nothing") else "refused"
            )
            if how == "a terabyte of nothing" and name in ("shelf", "a file of the line", "a folder of the line",
                                                            "a file of the shelf"):  # fmt: skip
                continue  # git itself would read it: see `many bytes`
            yield Attack(
                who, "drop", f"{name} is {how}", spoiled("drop", path, spoil, commit=False), must
            )
    for path in ("patches", "patches/main"):
        for verb in ("lint", "apply", "drop", "history", "deps"):
            yield Attack(
                who, verb, f"{path} is a link to a folder outside", linked_folder(path, verb)
            )
    for name, path in {"a file of verify/": "verify/data", "a probe": "verify/probes/fix.py",
                       "checks.toml": "verify/checks.toml", "a mutant": "verify/mutants/a.toml",
                       "a folder of verify/": "verify/more"}.items():  # fmt: skip
        for how in ("a link to a private file", "a link to /dev/zero", "a pipe", "a socket"):
            yield Attack(
                who, "verify --bundle", f"{name} is {how}",
                lambda place, path=path, how=how: needs_probes("bundle")(place, path, SPOILS[how]), "held",
            )  # fmt: skip
    for how in (
        "a link to a private file",
        "a link to /dev/zero",
        "a pipe",
        "a terabyte of nothing",
        "null bytes",
        "a folder",
    ):
        yield Attack(
            who,
            "list",
            f"pyproject.toml is {how}",
            spoiled("list", "pyproject.toml", SPOILS[how], commit=False),
            "held",
        )
    for how in ("a link to a private file", "a link to a private folder", "a folder", "a pipe"):
        yield Attack(
            who,
            "drop",
            f"patches/.lock is {how}",
            spoiled("drop", "patches/.lock", SPOILS[how], commit=False),
            "held",
        )
    yield Attack(who, "list", "a hard link to a private file", hard_link, "held")
    yield Attack(who, "lint", "3,000 files in a line", many_files, "held")
    yield Attack(who, "list", "300 lines", many_lines, "held")
