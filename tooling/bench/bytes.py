"""How much a cold `fixtool apply` fetches, next to a clone. Run by hand:

    python tooling/bench/bytes.py --repo /path/to/clone-of-sglang [--ref SHA] [--json FILE]

The clone's branches and tags are served over smart HTTP on this machine, from a repository that
borrows its objects; the clone itself is only read. Bytes are what the server sent, headers
included. Seconds are of one run each and include the server's work, on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import git_http

_ROOT = Path(__file__).resolve().parents[2]
_BRANCH = "fixtool-bench"  # `git clone --depth` takes a branch, not a commit
_TARGET = 0.25


@dataclass(frozen=True)
class Row:
    what: str
    bytes: int
    requests: int
    seconds: float
    of_clone: float


def main() -> None:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="fixtool-bytes-", dir=given.tmp) as folder:
        place = Path(folder)
        base = _publish(given.repo, given.ref, place / "served" / "sglang.git")
        with git_http.serve(place / "served") as server:
            rows = _measure(server, base, place, given)
    widths = (34, 14, 9, 9, 9)
    for cells in [
        ("what", "bytes", "requests", "seconds", "of clone"),
        *(
            (r.what, f"{r.bytes:,}", str(r.requests), f"{r.seconds:.2f}", f"{r.of_clone:.2%}")
            for r in rows
        ),
    ]:
        first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        print(first.strip().ljust(widths[0]), *rest)
    cold = next(row.of_clone for row in rows if row.what.startswith("cold apply --no-build"))
    verdict = "met" if cold <= _TARGET else "MISSED"
    print(f"target: a cold apply at most {_TARGET:.0%} of the full clone: {verdict} ({cold:.1%})")
    if given.json:
        body = {"base": base, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(body, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repo", type=Path, required=True, help="a clone with SGLang's history")
    parser.add_argument("--ref", default="b0ce16d0c577e127b3f7b82ada1739277d988687")
    parser.add_argument("--patches", type=Path, default=_ROOT, help="the patch repository")
    parser.add_argument("--fixtool", type=Path, default=Path(sys.executable).with_name("fixtool"))
    parser.add_argument("--tmp", type=Path, help="where the clones go (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _publish(repo: Path, ref: str, served: Path) -> str:
    """Serve what a user's `git clone` sees, and a branch at ``ref``; return its full id."""
    git_http.publish(repo.resolve(), served)
    base = _git(served, "rev-parse", "--verify", f"{ref}^{{commit}}")
    if not _git(served, "for-each-ref", "--count=1", f"--contains={base}", "refs/heads"):
        sys.exit(f"no branch of {repo} holds {ref}: a full clone would not fetch it")
    _git(served, "update-ref", f"refs/heads/{_BRANCH}", base)
    return base


def _measure(
    server: git_http.Server, base: str, place: Path, given: argparse.Namespace
) -> list[Row]:
    url = f"{server.url}/sglang.git"
    rows: list[Row] = []

    def measure(what: str, command: Sequence[str | Path], state: str = "none") -> None:
        print(f"{what} …", file=sys.stderr)
        server.counts.clear()
        start = time.perf_counter()
        subprocess.run(
            command, env=_environment(place / state), cwd=place, stdout=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        whole = rows[0].bytes if rows else server.counts.sent
        sent = server.counts.sent
        rows.append(Row(what, sent, server.counts.requests, seconds, sent / whole))

    apply = [given.fixtool, "-C", given.patches, "apply", "--sglang-ref", base, "--source", url]
    clone = ["git", "clone", "--quiet"]
    measure("git clone", [*clone, url, place / "full"])
    measure("git clone --depth 1", [*clone, "--depth=1", f"--branch={_BRANCH}", url, place / "one"])
    measure("cold apply --no-build", [*apply, "--no-build", "--worktree", place / "a"], "cold")
    measure("cold apply --dry-run", [*apply, "--dry-run"], "dry")
    measure("warm apply --no-build, elsewhere", [*apply, "--no-build", "--worktree", place / "b"],
            "cold")  # fmt: skip
    return rows


def _environment(state: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "no_proxy": "127.0.0.1",
        "FIXTOOL_STATE_DIR": str(state / "state"),
        "FIXTOOL_CACHE_DIR": str(state / "cache"),
    }


def _git(repo: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", f"--git-dir={repo}", *args], text=True, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
