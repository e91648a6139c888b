"""Upstream's own pre-commit hooks, on the files that a proposal changes.

pre-commit runs them, with upstream's arguments, files and types; but it takes hooks from GitHub,
and here each known one comes from the package index instead, in the version that upstream pins.
What cannot be had so is named, never passed over. Hooks of upstream's own are its scripts: they run
without our tokens, and where the work tree is one to throw away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fixtool.errors import CannotRun
from fixtool.files import private_folder
from fixtool.settings import Settings

CONFIG = ".pre-commit-config.yaml"
_PATIENCE = 600  # seconds for the hooks of one repository, their installation included
_SECRETS = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH|_PAT$|_KEY", re.IGNORECASE)
_KEYS = ("files", "exclude", "types", "types_or", "exclude_types", "args", "pass_filenames",
         "always_run", "require_serial", "stages")  # fmt: skip

_TEXT = {"types": ["text"]}
_FILE: dict[str, Any] = {}
_PYTHON = {"types_or": ["python", "pyi"]}
_OWN = {  # pre-commit/pre-commit-hooks: id -> (entry, what its manifest says)
    "check-added-large-files": ("check-added-large-files", _FILE),
    "check-ast": ("check-ast", {"types": ["python"]}),
    "check-json": ("check-json", {"types": ["json"]}),
    "check-merge-conflict": ("check-merge-conflict", _TEXT),
    "check-shebang-scripts-are-executable": ("check-shebang-scripts-are-executable", _TEXT),
    "check-symlinks": ("check-symlinks", {"types": ["symlink"]}),
    "check-toml": ("check-toml", {"types": ["toml"]}),
    "check-yaml": ("check-yaml", {"types": ["yaml"]}),
    "debug-statements": ("debug-statement-hook", {"types": ["python"]}),
    "destroyed-symlinks": ("destroyed-symlinks", {"types": ["file"]}),
    "detect-private-key": ("detect-private-key", _TEXT),
    "end-of-file-fixer": ("end-of-file-fixer", _TEXT),
    "mixed-line-ending": ("mixed-line-ending", _TEXT),
    "no-commit-to-branch": (
        "no-commit-to-branch", {"pass_filenames": False, "always_run": True},
    ),
    "trailing-whitespace": ("trailing-whitespace-fixer", _TEXT),
}  # fmt: skip
_BLACK = {"black": ("black", _PYTHON),
          "black-jupyter": ("black", {"types_or": ["python", "pyi", "jupyter"]})}  # fmt: skip
KNOWN: Mapping[str, tuple[str, Mapping[str, tuple[str, Mapping[str, Any]]]]] = {
    "pre-commit/pre-commit-hooks": ("pre-commit-hooks", _OWN),
    "psf/black": ("black[jupyter]", _BLACK),
    "psf/black-pre-commit-mirror": ("black[jupyter]", _BLACK),
    "pycqa/isort": ("isort", {"isort": ("isort --filter-files", _PYTHON)}),
    "astral-sh/ruff-pre-commit": (
        "ruff",
        {
            "ruff": ("ruff check --force-exclude", _PYTHON),
            "ruff-check": ("ruff check --force-exclude", _PYTHON),
            "ruff-format": ("ruff format --force-exclude", _PYTHON),
        },
    ),
    "codespell-project/codespell": ("codespell", {"codespell": ("codespell", _TEXT)}),
    "kynan/nbstripout": ("nbstripout", {"nbstripout": ("nbstripout", {"types": ["jupyter"]})}),
    "pre-commit/mirrors-clang-format": (
        "clang-format",
        {"clang-format": ("clang-format -i", {"types_or": ["c", "c++", "cuda"]})},
    ),
}
"""GitHub repository of hooks -> its package, and its hooks: entry, and what the manifest says."""
FORMATTERS = ("black", "black-jupyter", "isort", "ruff", "ruff-format", "clang-format")


@dataclass(frozen=True)
class HookResult:
    """One hook and what came of it: passed, failed, skipped (no file of its kind), by-hand (it is
    not for every commit) or not-run, which ``said`` explains. ``package`` is what was installed for
    it."""

    id: str
    package: str | None
    outcome: str
    said: str = ""


def run(folder: Path, files: Sequence[str], settings: Settings) -> tuple[HookResult, ...]:
    """Run the hooks of ``folder``'s own configuration on ``files``, which it holds. None where it
    has no configuration. Raises CannotRun where that cannot be read."""
    file = folder / CONFIG
    if not file.is_file():
        return ()
    if find_spec("pre_commit") is None:
        why = "pre-commit is not installed here: pip install 'fixtool[upstream]'"
        return (HookResult("pre-commit", None, "not-run", why),)
    config = _read(file)
    found: list[HookResult] = []
    for repo in config["repos"]:
        wanted = [one for one in repo["hooks"] if "pre-commit" in _stages(one, config)]
        found += [
            HookResult(one["id"], None, "by-hand", f"it is of the stage {_stages(one, config)[0]}")
            for one in repo["hooks"]
            if one not in wanted
        ]
        local, missing = _local(repo, wanted)
        found += missing
        if local:
            found += _run(folder, files, {**config, "repos": [local]}, settings)
    order = [one["id"] for repo in config["repos"] for one in repo["hooks"]]
    return tuple(sorted(found, key=lambda one: order.index(one.id)))


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(file.read_text("utf-8"))
        texts = [
            one["id"] for repo in config["repos"] for one in (*repo["hooks"], {"id": repo["repo"]})
        ]
        if not all(isinstance(one, str) for one in texts):
            raise TypeError("the name of a hook, or of a repository, is no text")
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CannotRun(
            f"upstream's {CONFIG} cannot be read: {' '.join(str(error).split())[:200]}",
            where=str(file),
        ) from error
    return {str(key): value for key, value in config.items()}


def _stages(hook: Mapping[str, Any], config: Mapping[str, Any]) -> Sequence[str]:
    given = hook.get("stages") or config.get("default_stages") or ["pre-commit"]
    return [str(one).replace("commit", "pre-commit") if one == "commit" else one for one in given]


def _local(
    repo: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any] | None, list[HookResult]]:
    """``repo`` as one that pre-commit takes from no remote, and the hooks that cannot be had."""
    if repo["repo"] == "meta":
        return None, [
            HookResult(one["id"], None, "skipped", "it reads the configuration") for one in wanted
        ]
    if repo["repo"] == "local":
        mine = [one for one in wanted if one.get("language") in ("system", "script", "python",
                "pygrep", "fail", "unsupported", "unsupported_script")]  # fmt: skip
        other = [
            HookResult(
                one["id"], None, "not-run", f"its language {one.get('language')} is not at hand"
            )
            for one in wanted
            if one not in mine
        ]
        return ({"repo": "local", "hooks": mine} if mine else None), other
    name = re.sub(r"^https?://github\.com/|\.git/?$|/$", "", repo["repo"]).lower()
    package, known = KNOWN.get(name, ("", {}))
    version = re.sub(r"^v", "", str(repo.get("rev", "")))
    hooks, missing = [], []
    for one in wanted:
        if one["id"] not in known or not re.fullmatch(r"\d[\w.]*", version):
            why = f"{name} at {repo.get('rev')} is no package that fixtool knows"
            missing.append(HookResult(one["id"], None, "not-run", why))
            continue
        entry, manifest = known[one["id"]]
        said = {key: one[key] for key in _KEYS if key in one}
        more = [str(extra) for extra in one.get("additional_dependencies", ())]
        hooks.append({
            **manifest, **said, "id": one["id"], "entry": entry, "language": "python",
            "additional_dependencies": [f"{package}=={version}", *more],
        })  # fmt: skip
    return ({"repo": "local", "hooks": hooks} if hooks else None), missing


def _run(
    folder: Path, files: Sequence[str], config: Mapping[str, Any], settings: Settings
) -> Iterator[HookResult]:
    # A name that no output of theirs holds by accident, nor another hook has, finds each its row.
    mark = os.urandom(4).hex()
    hooks = [
        {**one, "name": f"{mark}-{number}"}
        for number, one in enumerate(config["repos"][0]["hooks"])
    ]
    config = {**config, "repos": [{"repo": "local", "hooks": hooks}], "fail_fast": False}
    home = private_folder(settings.cache / "pre-commit")
    written = home / f"config-{os.getpid()}.yaml"
    written.write_text(json.dumps(config, default=str), "utf-8")  # is YAML
    env = {key: one for key, one in without_secrets(os.environ).items()
           if not key.startswith(("GIT_", "PYTHON"))}  # fmt: skip
    env |= {"PRE_COMMIT_HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}  # fmt: skip
    command = [sys.executable, "-m", "pre_commit", "run", "--config", str(written),
               "--color=never", "--hook-stage=pre-commit", "--files", *files]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        output, status = "", -1
    finally:
        written.unlink(missing_ok=True)
    row = re.compile(rf"^{mark}-(\d+)\.{{3,}}(?:\(.*\))?(Passed|Failed|Skipped)$", re.MULTILINE)
    rows = list(row.finditer(output))
    ends = [*(one.start() for one in rows[1:]), len(output)]
    told = {int(one[1]): (one, end) for one, end in zip(rows, ends, strict=False)}
    for number, one in enumerate(hooks):
        package = (one.get("additional_dependencies") or [None])[0]
        if number not in told:
            why = "no end in ten minutes" if status == -1 else _words(output) or f"exit {status}"
            yield HookResult(one["id"], package, "not-run", f"could not be had: {why}")
            continue
        found, end = told[number]
        outcome, said = found[2].lower(), output[found.end() : end]
        if outcome == "failed" and re.search(r"^Executable `.*` not found", said, re.MULTILINE):
            outcome = "not-run"
        said = _words(said) if outcome in ("failed", "not-run") else ""
        yield HookResult(one["id"], package, outcome, said)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What code of upstream's may see of our environment."""
    return {key: one for key, one in environment.items() if not _SECRETS.search(key)}


def _words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lines = [one for one in lines if not re.match(r"- (hook id|duration):", one)]
    return "; ".join(lines)[:400]
