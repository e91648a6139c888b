"""Unpacks a bundle for the benchmarks: its trees, its packages, and the environment in which these run."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from fixtool.verify.runner.layout import archive_in, lay_out, unpack
from verify.bench.bytecode import compile_in_background
from verify.bench.contender import overlay

ROUTING = "gemma4-fused-routing"
_ROOT = Path(__file__).resolve().parents[2]


def prepare(bundle: Path, work: Path, slug: str = ROUTING) -> dict[str, str]:
    """Unpack the bundle into ``work``, unless an earlier call did, and begin to compile its packages in
    the background. Returns the environment in which scripts find both."""
    unpack_all(bundle, work, slug)
    env = environment(work)
    if "PYTHONPYCACHEPREFIX" in env and not (work / "pycache").exists():
        # Without bytecode a server takes 20 s longer to import its packages.
        torch = [Path(p, "torch") for p in sys.path if Path(p, "torch").is_dir()]
        compile_in_background([work / "site", *torch[:1]], env, jobs=0)
    return env


def alone(plan: dict[str, Any], slug: str) -> dict[str, Any]:
    """Path -> what a patch changes there, with those that it needs."""
    if (tree := plan["trees"].get(f"+{slug}")) is None:
        raise SystemExit(f"the bundle lacks {slug} alone: make it with --prove")
    changes: dict[str, Any] = tree["changes"]
    return changes


def standing_on(plan: dict[str, Any], slug: str) -> set[str]:
    """The patches that need ``slug``."""
    patches = plan["about"]["patches"]
    if slug not in (patch["slug"] for patch in patches):
        raise SystemExit(f"no patch of the bundle is {slug}")
    return {patch["slug"] for patch in patches if slug in patch["needs"]}


def without(plan: dict[str, Any], left_out: set[str], base: Path, blobs: Path) -> dict[str, bytes]:
    """Path -> what all other patches make of it, from what each makes alone of the files of ``base``.
    Ends the program if two of them change the same lines, or if one deletes a file."""
    contents: dict[str, bytes] = {}
    for slug in (patch["slug"] for patch in plan["about"]["patches"]):
        for path, change in alone(plan, slug).items() if slug not in left_out else ():
            theirs = None if change is None else (blobs / change[1]).read_bytes()
            ours, file = contents.get(path, theirs), base / path
            before = file.read_bytes() if file.is_file() else b""
            both = None if ours is None or theirs is None else merge(before, ours, theirs)
            if both is None:
                raise SystemExit(
                    f"cannot leave {', '.join(sorted(left_out))} out: {path} is deleted, or two of the "
                    "other patches change the same lines"
                )
            contents[path] = both
    return contents


def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """``base`` with both changes, as git merges them: None if they touch the same or neighbouring lines,
    and differ. (A bare GPU host has no git.)"""
    lines = base.splitlines(keepends=True)
    changes = sorted({*_changes(lines, ours), *_changes(lines, theirs)})
    merged, at = [], -1
    for start, end, new in changes:
        if start <= at:
            return None
        merged += [*lines[max(at, 0) : start], *new]
        at = end
    return b"".join([*merged, *lines[max(at, 0) :]])


def _changes(base: list[bytes], changed: bytes) -> list[tuple[int, int, tuple[bytes, ...]]]:
    """(first line, line behind the last, new lines) of each change of ``base``."""
    lines = changed.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, base, lines, autojunk=False)
    return [
        (start, end, tuple(lines[first:last]))
        for kind, start, end, first, last in matcher.get_opcodes()
        if kind != "equal"
    ]


def unpack_all(bundle: Path, work: Path, slug: str) -> None:
    """Unpack the bundle's trees and packages into ``work``, unless an earlier call did."""
    wanted = hashlib.sha256(bundle.read_bytes() + slug.encode()).hexdigest()
    mark, folder = work / "unpacked", work / "fixtool-verify"
    if mark.is_file() and mark.read_text() == wanted:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    ran = subprocess.run(["tar", "xf", str(bundle), "-C", str(work)], check=False)
    if ran.returncode or not (folder / "plan.json").is_file():
        raise SystemExit(
            f"{bundle} is no bundle: make one with fixtool verify --bundle FILE --prove"
        )
    if (archive := archive_in(folder, "site")) is not None:
        unpack(archive, work / "site")
    plan = json.loads((folder / "plan.json").read_text("utf-8"))
    lay_out(folder, work, {name: plan["trees"][name] for name in ("base", "series")})
    above = standing_on(plan, slug)
    trees = {"fixes": {slug, *above}} | ({"routing": above} if above else {})
    for name, left_out in trees.items():
        base = work / "trees/base"
        overlay(base, work / "trees" / name, without(plan, left_out, base, folder / "blobs"))
    mark.write_text(wanted)


def environment(work: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {
        "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "tooling"))),
        "PYTHONUNBUFFERED": "1",
        "FIXTOOL_SHARED": str(work / "shared"),
    }
    if (site := work / "site").is_dir():
        # A bare host keeps all bytecode here; elsewhere packages have theirs beside them.
        env["PYTHONPATH"] += f"{os.pathsep}{site}"
        env["PYTHONPYCACHEPREFIX"] = str(work / "pycache")
    return env
