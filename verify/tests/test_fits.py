"""What the server checks ask of a tree: of each line's, and of one that lacks a flag. No tree is imported."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.repositories import ROOT
from verify.server import fits

LINES = sorted(path.parent for path in ROOT.glob("patches/*/series"))
CHECKS = tomllib.loads((ROOT / "verify/checks.toml").read_text())["check"]
SERVERS = (
    "server serves, eager", "server serves, CUDA graphs", "server answers alike, spread",
    "tree fits the server checks",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=[line.name for line in LINES])
def test_every_line_has_the_server_checks(line: Path) -> None:
    slugs = {
        text.strip().removesuffix(".patch")
        for text in (line / "series").read_text().splitlines()
        if text.strip() and not text.startswith("#")
    }
    has = {
        check["name"]
        for check in CHECKS
        if line.name in check.get("lines", [line.name]) and slugs >= set(check.get("patches", []))
    }
    assert set(SERVERS) <= has


def tree_of(folder: Path, stages: bool) -> Path:
    for name, text in (
        ("server_args.py", "nccl_port cuda_graph_max_bs_decode disable_prefill_cuda_graph"),
        ("models/gemma4_mm.py", "pp_proxy_tensors" * stages),
    ):
        path = folder / "python/sglang/srt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("stages", [False, True])
def test_a_flag_that_the_tree_does_not_know_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: bool
) -> None:
    folder = tree_of(tmp_path, stages)
    commands = {name: server.command[3:] for name, server in fits.servers(folder)}
    assert ("with --tp 2 --pp 2" in commands) == stages
    flags = {word: None for command in commands.values() for word in command if word[:2] == "--"}
    alone = {"--skip-server-warmup", "--disable-cuda-graph", "--disable-prefill-cuda-graph",
             "--disable-radix-cache", "--disable-custom-all-reduce"}  # fmt: skip
    known = [*flags]

    def add_cli_args(parser: argparse.ArgumentParser) -> None:
        for flag in known:
            parser.add_argument(flag, action="store_true" if flag in alone else "store")

    arguments = SimpleNamespace(ServerArgs=SimpleNamespace(add_cli_args=add_cli_args))
    monkeypatch.setattr(fits, "from_tree", lambda _: arguments)
    assert [*fits.refused_flags(folder)] == []
    known.remove("--cuda-graph-max-bs-decode")
    graphs = [name for name in commands if "--cuda-graph-max-bs-decode" in commands[name]]
    refused = [*fits.refused_flags(folder)]
    assert len(refused) == len(graphs) == 2
    assert "with CUDA graphs: " in refused[0]
    assert "unrecognized arguments: --cuda-graph-max-bs-decode 8" in refused[0]
