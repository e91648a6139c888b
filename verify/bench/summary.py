"""What the serving benchmark saw, in numbers and as text: a function of the boots alone."""

from __future__ import annotations

import random
import statistics
from typing import Any

_DRAWS = 2000


def decode_rates(batch: int, out: int, first: list[float], whole: list[float]) -> list[float]:
    """Tokens/s of each long run, the prefill and first token taken off: what ``first`` runs took."""
    off = statistics.median(first)
    return [round(batch * (out - 1) / (one - off), 2) for one in whole if one > off]


def summarise(boots: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Rows of all boots: {"decode" | "prefill": {batch: {name: {"median", "spread_percent",
    "samples", "ratio"}}}, "routing": {batch: {name: …}}}. A ratio is to the first name's median."""
    samples: dict[str, dict[str, dict[str, list[float]]]] = {"decode": {}, "prefill": {}}
    routing: dict[str, dict[str, Any]] = {}
    for boot in boots:
        name = boot["contender"]
        for part, rows in samples.items():
            for batch, seen in boot[part].items():
                rows.setdefault(batch, {}).setdefault(name, []).extend(seen["tokens_per_s"])
        for batch, seen in boot["routing"].items():
            if "share_percent" in seen:
                routing.setdefault(batch, {})[name] = seen
    summary: dict[str, Any] = {"routing": routing}
    for part, rows in samples.items():
        summary[part] = {}
        for batch, by_name in rows.items():
            medians = {name: statistics.median(all_) for name, all_ in by_name.items() if all_}
            base = medians.get(names[0])
            summary[part][batch] = {
                name: {
                    "median": round(median, 1),
                    "spread_percent": round(
                        100 * (max(by_name[name]) - min(by_name[name])) / median, 2
                    ),
                    "samples": len(by_name[name]),
                    "ratio": round(median / base, 4) if base else None,
                }
                for name, median in medians.items()
            }
    return summary


def ratios(
    boots: list[dict[str, Any]], name: str, than: str
) -> dict[str, tuple[float, float, float]]:
    """How many times as fast ``name`` decodes as ``than``, for each batch at which both were timed:
    the ratio of the medians, and between what 95% of such ratios lie where boots, and samples of a
    boot, are drawn anew. (Boots first: samples of one are more alike than those of two.)"""
    drawn = random.Random(0)
    found = {}
    for batch in dict.fromkeys(batch for one in boots for batch in one["decode"]):
        mine, theirs = (
            [
                one["decode"][batch]["tokens_per_s"]
                for one in boots
                if one["contender"] == who and one["decode"].get(batch, {}).get("tokens_per_s")
            ]
            for who in (name, than)
        )
        if mine and theirs:
            again = sorted(_median(_anew(mine, drawn)) / _median(_anew(theirs, drawn))
                           for _ in range(_DRAWS))  # fmt: skip
            ratio = _median(mine) / _median(theirs)
            low, high = again[int(_DRAWS * 0.025)], again[int(_DRAWS * 0.975)]
            found[batch] = (round(ratio, 4), round(low, 4), round(high, 4))
    return found


def _median(boots: list[list[float]]) -> float:
    return statistics.median(one for boot in boots for one in boot)


def _anew(boots: list[list[float]], drawn: random.Random) -> list[list[float]]:
    return [drawn.choices(one, k=len(one)) for one in drawn.choices(boots, k=len(boots))]


def table(summary: dict[str, Any], names: list[str]) -> list[str]:
    """The rows as text. In brackets: the spread, and how many samples."""
    lines = []
    width = max(24, *(len(name) + 2 for name in names))

    def head(title: str) -> None:
        lines.extend(["", title, f"{'batch':>10}" + "".join(f"{name:>{width}}" for name in names)])

    for part, title in (
        ("decode", f"decode, tokens/s (spread, samples), times {names[0]}"),
        ("prefill", f"prefill, tokens/s (spread, samples), times {names[0]}"),
    ):
        head(title)
        for batch, row in summary[part].items():
            cells = []
            for name in names:
                cell = "-"
                if name in row:
                    of = row[name]
                    times = f" {of['ratio']:.3f}x" if of["ratio"] else ""
                    cell = (
                        f"{of['median']:.0f} ({of['spread_percent']:.1f}%,{of['samples']}){times}"
                    )
                cells.append(f"{cell:>{width}}")
            lines.append(f"{batch:>10}" + "".join(cells))
    head("routing in decode: % of GPU time, µs a layer in kernels; ms of GPU time a step")
    for batch, row in summary["routing"].items():
        cells = []
        for name in names:
            cell = "-"
            if name in row:
                of = row[name]
                cell = f"{of['share_percent']:.2f}% {of['call_us']:.2f}/{len(of['kernels'])}k"
                cell += f" {of['step_us'] / 1000:.3f}ms"
            cells.append(f"{cell:>{width}}")
        lines.append(f"{batch:>10}" + "".join(cells))
    return lines
