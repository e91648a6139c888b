"""Caches and state that somebody else has written to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attack_table.place import Attack, Place, Wrong
from support.repositories import Ran


def answer(place: Place, ref: str = "v1.1") -> tuple[Ran, object]:
    ran = place.run(
        "apply", "--no-build", "--dry-run", "--source", place.up.path, "--sglang-ref", ref, "--json"
    )
    said = json.loads(ran.out)
    return ran, (
        said.get("commit"),
        said.get("tree"),
        [patch["verdict"] for patch in said.get("patches", [])],
    )


def replays(change: Callable[[Place, Path, dict[str, Any]], None]) -> Callable[[Place], Ran]:
    """After every file of the replay cache was changed, the answer is the same."""

    def attempt(place: Place) -> Ran:
        _, wanted = answer(place)
        files = list(place.cache.rglob("*.json"))
        assert files
        for file in files:
            change(place, file, json.loads(file.read_text()))
        ran, got = answer(place)
        if got != wanted:
            raise Wrong(f"the answer is now {got}, not {wanted}")
        return ran

    return attempt


def foreign(place: Place, **fields: str) -> str:
    """A commit of upstream's repository that differs from the cached one in some fields."""
    git = place.up
    tree = fields.get("tree") or git("rev-parse", "v1.1^{tree}")
    words = ["commit-tree", tree, "-m", fields.get("message", "fix twenty")]
    return git(*words, "-p", fields.get("parent") or git("rev-parse", "v1.1"))


def commit_of(**fields: str) -> Callable[[Place, Path, dict[str, Any]], None]:
    def change(place: Place, file: Path, data: dict[str, Any]) -> None:
        made = {
            key: place.up("rev-parse", value) for key, value in fields.items() if key != "message"
        }
        file.write_text(json.dumps(each_result(data, "commit", foreign(place, **made))))

    return change


def rewrite(text: str) -> Callable[[Place, Path, dict[str, Any]], None]:
    return lambda place, file, data: file.write_text(text) and None


def field(key: str, value: object) -> Callable[[Place, Path, dict[str, Any]], None]:
    return lambda place, file, data: (
        file.write_text(json.dumps(each_result(data, key, value))) and None
    )


def each_result(data: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """The document of a file in the cache of replays, with another value in each of its results."""
    entries = data.get("results", [])
    changed = [{**entry, "result": {**entry["result"], key: value}} for entry in entries]
    return {**data, "results": changed} if entries else data


def linked(target: str) -> Callable[[Place, Path, dict[str, Any]], None]:
    def change(place: Place, file: Path, data: dict[str, Any]) -> None:
        file.unlink()
        file.symlink_to(target.format(private=place.private))

    return change


def pipe(place: Place, file: Path, data: dict[str, Any]) -> None:
    file.unlink()
    os.mkfifo(file)


REPLAYS = {
    "another commit of upstream's": commit_of(),
    "another tree": commit_of(tree="v1.0^{tree}"),
    "another parent": commit_of(parent="v1.0"),
    "another commit, which is a tag": lambda place, file, data: file.write_text(json.dumps(each_result(data, "commit", place.up("rev-parse", "v1.0")))) and None,
    "a commit that is not there": field("commit", "a" * 40),
    "a commit that is an option": field("commit", "--all"),
    "no commit": field("commit", None), "another verdict": field("verdict", "absorbed"),
    "an unknown verdict": field("verdict", "perfect"), "another slug": field("slug", "../x"),
    "another subject": field("subject", "\x1b[31m"), "files that are none": field("files", 5),
    "no JSON": rewrite("{"), "null": rewrite("null"), "a list": rewrite("[]"), "nested": rewrite("[" * 100000),
    "nothing": rewrite(""), "a link to a private file": linked("{private}/key"), "a link to /dev/zero": linked("/dev/zero"),
    "null bytes": rewrite("\0" * 1000), "a huge number": rewrite('{"commit": ' + "9" * 5000 + "}"),
}  # fmt: skip


def folder_of(kind: str, how: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        folder = place.root / "out" / "theirs"
        folder.mkdir(mode=0o700)
        inner = folder / "inner" if "around" in how else folder
        inner.mkdir(exist_ok=True, mode=0o700)
        if "another user" in how:
            os.chown(folder, 12345, 12345)
        else:
            folder.chmod(0o777)
        ran = place.run("apply", "--no-build", "--source", place.up.path, "--sglang-ref", "v1.0",
                        **{f"FIXTOOL_{kind}_DIR": str(inner)})  # fmt: skip
        os.chown(folder, os.geteuid(), os.getegid())
        return ran

    return attempt


def wheel(change: str) -> Callable[[Place], Ran]:
    """A wheel in the cache that somebody has changed is built again."""

    def attempt(place: Place) -> Ran:
        git = place.up
        git("checkout", "--quiet", "-b", "built", "v1.0")
        git.write(
            "python/pyproject.toml",
            '[project]\nname = "sglang"\ndynamic = ["version"]\n[tool.setuptools.packages.find]\n',
        )
        git.commit("a project")
        git("tag", "v1.2")
        git("checkout", "--quiet", "main")
        words = (
            "apply",
            "--source",
            git.path,
            "--sglang-ref",
            "v1.2",
            "--json",
            "--worktree",
            place.root / "out" / "tree",
        )
        first = json.loads(place.run(*words).out)["build"]
        path = Path(first["path"])
        if change == "bytes":
            path.write_bytes(path.read_bytes() + b"x")
        elif change == "another file":
            note = path.parent / "wheel.json"
            (place.private / "evil.whl").write_bytes(b"evil")
            sha = hashlib.sha256(b"evil").hexdigest()
            note.write_text(
                json.dumps(
                    {
                        **json.loads(note.read_text()),
                        "path": str(place.private / "evil.whl"),
                        "sha256": sha,
                    }
                )
            )
        elif change == "a link":
            data = path.read_bytes()
            path.unlink()
            (place.out / "evil.whl").write_bytes(data + b"x")
            path.symlink_to(place.out / "evil.whl")
        elif change == "a note of another type":
            (path.parent / "wheel.json").write_text('{"path": 5, "sha256": []}')
        elif change == "a note that is nested":
            (path.parent / "wheel.json").write_text("[" * 100000)
        elif change == "no note":
            (path.parent / "wheel.json").unlink()
        ran = place.run(*words)
        second = json.loads(ran.out)["build"]
        (place.private / "evil.whl").unlink(missing_ok=True)
        if (second["sha256"], Path(second["path"]).parent) != (first["sha256"], path.parent):
            raise Wrong(f"the wheel is now {second}")
        if hashlib.sha256(Path(second["path"]).read_bytes()).hexdigest() != first["sha256"]:
            raise Wrong("the wheel has other bytes than it says")
        return ran

    return attempt


def history(text: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        words = ("history", "--to", "v1.1", "--source", place.up.path, "--json")
        wanted = json.loads(place.run(*words).out)["patches"]
        files = list(place.cache.rglob("*.json"))
        assert files
        for file in files:
            file.write_text(text)
        ran = place.run(*words)
        if json.loads(ran.out)["patches"] != wanted:
            raise Wrong("the history is another one")
        return ran

    return attempt


def store(spoil: Callable[[Place, Path], None]) -> Callable[[Place], Ran]:
    """A store that was damaged, or that somebody has set up."""

    def attempt(place: Place) -> Ran:
        place.apply("v1.0", "--dry-run")
        (folder,) = place.state.glob("repos/*.git")
        spoil(place, folder)
        return place.apply("v1.1", "--dry-run")

    return attempt


def _alternates(place: Place, folder: Path) -> None:
    (folder / "objects" / "info" / "alternates").write_text(
        '/etc\n../../../../private\n\x1b[31m\n"x\\n"\n'
    )


def _replace(place: Place, folder: Path) -> None:
    """Replace refs would give another object for an id."""
    old, new = place.up("rev-parse", "v1.1"), place.up("rev-parse", "v1.0")
    (folder / "refs" / "replace").mkdir(parents=True)
    (folder / "refs" / "replace" / old).write_text(new + "\n")


def _grafts(place: Place, folder: Path) -> None:
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "grafts").write_text(place.up("rev-parse", "v1.1") + "\n")


def _head_link(place: Place, folder: Path) -> None:
    (folder / "HEAD").unlink()
    (folder / "HEAD").symlink_to(place.private / "key")


def _swap(place: Place, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(place.up.path / ".git")


def _file(place: Place, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def attacks() -> Iterator[Attack]:
    who = "cache"
    for what, change in REPLAYS.items():
        yield Attack(who, "apply", f"a cached replay with {what}", replays(change), "right")
    yield Attack(who, "apply", "a cached replay that is a pipe", replays(pipe), "right")
    for kind in ("STATE", "CACHE"):
        for how in (
            "every user may write to",
            "another user owns",
            "every user may write around",
            "another user owns around",
        ):
            if "another" in how and os.geteuid():
                continue
            # Only the folder itself and the one around it are looked at.
            must = "held" if "around" in how else "refused"
            yield Attack(
                who, "apply", f"a {kind.lower()} folder that {how}", folder_of(kind, how), must
            )
    for change in (
        "bytes",
        "another file",
        "a link",
        "a note of another type",
        "a note that is nested",
        "no note",
    ):
        yield Attack(who, "apply", f"a cached wheel: {change}", wheel(change), "right")
    for what, text in {"no JSON": "{", "another type": "[]", "nothing": "", "nested": "[" * 100000,
                       "verdicts that are none": '{"a": [["perfect", []]]}', "numbers": '{"a": 5}'}.items():  # fmt: skip
        yield Attack(who, "history", f"cached verdicts: {what}", history(text), "right")
    for what, spoil in {"foreign alternates": _alternates, "replaced objects": _replace, "grafts": _grafts,
                        "HEAD that is a link": _head_link, "a link to another repository": _swap,
                        "a file": _file}.items():  # fmt: skip
        yield Attack(who, "apply", f"a store with {what}", store(spoil), "held")
