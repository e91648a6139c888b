"""Upstream's own pre-commit hooks, run on the files that a pull request changes.

pre-commit runs them with upstream's arguments, files and types. It would fetch hooks from GitHub;
here each known hook is installed from the package index instead, in the version that upstream pins.
A hook that cannot be had this way is reported as not run. Hooks in upstream's own repository are
scripts of upstream's: they run without our tokens, and in a temporary work tree.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fixtool import isolation
from fixtool.documents import Field, FieldError
from fixtool.errors import CannotRun
from fixtool.files import TooLarge, private_folder, read_at_most
from fixtool.settings import Settings
from fixtool.text import split_lines

CONFIG = ".pre-commit-config.yaml"
_LARGEST = 256 << 10  # bytes of the configuration
_MOST_ALIASES = 100
_DEEPEST = 20  # brackets; PyYAML takes quadratic time for them
_PATIENCE = 600  # seconds for the hooks of one repository, their installation included
_KEYS = ("files", "exclude", "types", "types_or", "exclude_types", "args", "pass_filenames",
         "always_run", "require_serial", "stages")  # fmt: skip

Hooks = Mapping[str, tuple[str, Mapping[str, Any]]]
_TEXT = {"types": ["text"]}
_PYTHON = {"types_or": ["python", "pyi"]}
_STANDARD: Hooks = {  # pre-commit/pre-commit-hooks: id -> (entry, manifest)
    "check-added-large-files": ("check-added-large-files", {}),
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
_BLACK: Hooks = {"black": ("black", _PYTHON),
          "black-jupyter": ("black", {"types_or": ["python", "pyi", "jupyter"]})}  # fmt: skip
KNOWN: Mapping[str, tuple[str, Hooks]] = {
    "pre-commit/pre-commit-hooks": ("pre-commit-hooks", _STANDARD),
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
"""Repository of hooks on GitHub -> its package, and for each hook its entry and manifest."""
FORMATTERS = ("black", "black-jupyter", "isort", "ruff", "ruff-format", "clang-format")
_LANGUAGES = ("system", "script", "python", "pygrep", "fail", "unsupported", "unsupported_script")
UNKNOWN = "is no package that fixtool knows"
_NOT_FOUND = re.compile(r"^Executable `.*` not found", re.MULTILINE)


class CheckOutcome(StrEnum):
    """What came of a hook or a test. A hook that is by-hand does not run for every commit; a test
    that is nothing-shown was skipped."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    BY_HAND = "by-hand"
    NOT_RUN = "not-run"
    NOTHING_SHOWN = "nothing-shown"


@dataclass(frozen=True)
class HookResult:
    """``said`` is the hook's output, or why it did not run; ``package`` is what was installed for
    it, as pip names it."""

    id: str
    package: str | None
    outcome: CheckOutcome
    said: str = ""


Hook = Mapping[str, Any]
"""A hook as pre-commit's configuration writes it."""


def run(folder: Path, files: Sequence[str], settings: Settings) -> tuple[HookResult, ...]:
    """Run the hooks that ``folder`` configures on ``files`` in it; no results if it configures
    none. Raises CannotRun if the configuration cannot be read."""
    file = folder / CONFIG
    if not file.is_file():
        return ()
    if find_spec("pre_commit") is None:
        why = "pre-commit is not installed here: pip install 'sglang-fixtool[upstream]'"
        return (HookResult("pre-commit", None, CheckOutcome.NOT_RUN, why),)
    config = _read(file)
    results: list[HookResult] = []
    for repo in config["repos"]:
        automatic = []
        for hook in repo["hooks"]:
            if "pre-commit" in (stages := _stages(hook, config)):
                automatic.append(hook)
            else:
                why = f"it is of the stage {stages[0]}"
                results.append(HookResult(hook["id"], None, CheckOutcome.BY_HAND, why))
        hooks, unavailable = _local_hooks(repo, automatic)
        results += unavailable
        if hooks:
            results += _run(folder, files, config, hooks, settings)
    order = [hook["id"] for repo in config["repos"] for hook in repo["hooks"]]
    return tuple(sorted(results, key=lambda result: order.index(result.id)))


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = read_at_most(file, _LARGEST).decode("utf-8")
        depth = 0
        for token in yaml.scan(text):
            depth += isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken)
            depth -= isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken)
            if depth > _DEEPEST:
                raise FieldError("it is nested too deeply")
        _check_aliases(text)
        config = Field(yaml.safe_load(text))
        _check_config(config)
    except (yaml.YAMLError, ValueError, TypeError, OSError, RecursionError, TooLarge) as error:
        raise CannotRun(
            f"upstream's {CONFIG} cannot be read: {' '.join(str(error).split())[:200]}",
            where=str(file),
        ) from error
    return {str(key): value for key, value in config.table().items()}


def _check_aliases(text: str) -> None:
    """Raise FieldError if the aliases in a text could stand for millions of lines: if there are
    very many, or if one lies in what another stands for."""
    import yaml

    aliases = 0
    anchored: list[bool] = []  # whether each collection that is open here has a name
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > _MOST_ALIASES or any(anchored):
                raise FieldError("its aliases could stand for millions of lines")


def _check_config(config: Field) -> None:
    """Raise FieldError if a part of a configuration that is read here is not of its type."""
    config["default_stages"].optional(Field.texts)
    for repo in config["repos"].each(lambda repo: repo):
        repo["repo"].text()
        for hook in repo["hooks"].each(lambda hook: hook):
            hook["id"].text()
            hook["language"].optional(Field.text)
            for key in ("stages", "additional_dependencies"):
                if key in hook.table():  # pre-commit itself refuses a null here
                    hook[key].texts()


def _stages(hook: Hook, config: Mapping[str, Any]) -> Sequence[str]:
    stages = hook.get("stages") or config.get("default_stages") or ["pre-commit"]
    return ["pre-commit" if stage == "commit" else stage for stage in stages]


def _local_hooks(
    repo: Mapping[str, Any], hooks: Sequence[Hook]
) -> tuple[list[Hook], list[HookResult]]:
    """The hooks of ``repo`` in the form that needs no remote, and those that cannot be had."""
    if repo["repo"] == "meta":
        why = "it reads the configuration"
        return [], [HookResult(hook["id"], None, CheckOutcome.SKIPPED, why) for hook in hooks]
    name = re.sub(r"^https?://github\.com/|\.git/?$|/$", "", repo["repo"]).lower()
    package, known = KNOWN.get(name, ("", {}))
    version = re.sub(r"^v", "", str(repo.get("rev", "")))
    local: list[Hook] = []
    missing: list[HookResult] = []
    for hook in hooks:
        if repo["repo"] == "local":
            if hook.get("language") in _LANGUAGES:
                local.append(hook)
                continue
            why = f"its language {hook.get('language')} is not at hand"
        elif hook["id"] in known and re.fullmatch(r"\d[\w.]*", version):
            entry, manifest = known[hook["id"]]
            extras = [str(extra) for extra in hook.get("additional_dependencies", ())]
            local.append({
                **manifest, **{key: hook[key] for key in _KEYS if key in hook}, "id": hook["id"],
                "entry": entry, "language": "python",
                "additional_dependencies": [f"{package}=={version}", *extras],
            })  # fmt: skip
            continue
        else:
            why = f"{name} at {repo.get('rev')} {UNKNOWN}"
        missing.append(HookResult(hook["id"], None, CheckOutcome.NOT_RUN, why))
    return local, missing


def _run(
    folder: Path,
    files: Sequence[str],
    config: Mapping[str, Any],
    hooks: Sequence[Hook],
    settings: Settings,
) -> Iterator[HookResult]:
    # Each hook gets a random name, so that no hook's output can look like another hook's row.
    mark = os.urandom(4).hex()
    named = [{**hook, "name": f"{mark}-{number}"} for number, hook in enumerate(hooks)]
    config = {**config, "repos": [{"repo": "local", "hooks": named}], "fail_fast": False}
    output, status = _run_pre_commit(folder, files, config, settings)
    row = re.compile(rf"^{mark}-(\d+)\.{{3,}}(?:\(.*\))?(Passed|Failed|Skipped)$", re.MULTILINE)
    rows = list(row.finditer(output))
    ends = [*(match.start() for match in rows[1:]), len(output)]
    reported = {
        int(match[1]): (CheckOutcome(match[2].lower()), output[match.end() : end])
        for match, end in zip(rows, ends, strict=False)
    }
    for number, hook in enumerate(hooks):
        package = (hook.get("additional_dependencies") or [None])[0]
        if number in reported:
            outcome, text = reported[number]
            if outcome is CheckOutcome.FAILED and _NOT_FOUND.search(text):
                outcome = CheckOutcome.NOT_RUN
            shown = outcome in (CheckOutcome.FAILED, CheckOutcome.NOT_RUN)
            yield HookResult(hook["id"], package, outcome, _in_one_line(text) if shown else "")
        else:
            why = _in_one_line(output) or f"exit {status}"
            why = "no end in ten minutes" if status is None else why
            yield HookResult(hook["id"], package, CheckOutcome.NOT_RUN, f"could not be had: {why}")


def _run_pre_commit(
    folder: Path, files: Sequence[str], config: Mapping[str, Any], settings: Settings
) -> tuple[str, int | None]:
    """Its output and exit status, which is None if it was stopped for taking too long."""
    home = private_folder(settings.cache / "pre-commit")
    written = home / f"config-{os.getpid()}.yaml"
    written.write_text(json.dumps(config, default=str), "utf-8")  # JSON is YAML
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "PRE_COMMIT_HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    # -P: upstream's folder, in which pre-commit runs, may hold a pre_commit.py.
    command = [sys.executable, "-P", "-m", "pre_commit", "run", "--config", str(written),
               "--color=never", "--hook-stage=pre-commit", "--files", *files]  # fmt: skip
    try:
        process = isolation.run(
            # GIT_…: isolation takes off those of the caller, and these are for the hooks.
            ["env", f"GIT_CONFIG_GLOBAL={os.devnull}", "GIT_TERMINAL_PROMPT=0", *command],
            folder=str(folder), environment=environment, timeout=_PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", None
    finally:
        written.unlink(missing_ok=True)
    return process.stdout + process.stderr, process.returncode


def _in_one_line(output: str) -> str:
    lines = [line.strip() for line in split_lines(output) if line.strip()]
    return "; ".join(line for line in lines if not re.match(r"- (hook id|duration):", line))[:400]
