"""Summarises the boots of the serving benchmark, in numbers and as text."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from typing import Any

_DRAWS = 2000


def decode_rates(batch: int, out: int, first: list[float], whole: list[float]) -> list[float]:
    """Decode tokens/s of each long run: ``out`` tokens out of each of ``batch`` prompts.

    ``whole`` are the seconds of the long runs. ``first`` are those of runs with one token out, whose
    median, the time of the prefill and the first token, is subtracted.
    """
    prefill = statistics.median(first)
    return [round(batch * (out - 1) / (s - prefill), 2) for s in whole if s > prefill]


def summarise(boots: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """The rows of all boots, for JSON.

    {"decode" | "prefill": {batch: {name: {"median", "spread_percent", "samples", "ratio"}}},
    "routing": {batch: {name: …}}}. A ratio is to the median of the first of ``names``.
    """
    samples: dict[str, dict[str, dict[str, list[float]]]] = {"decode": {}, "prefill": {}}
    routing: dict[str, dict[str, Any]] = {}
    for boot in boots:
        name = boot["contender"]
        for part, rows in samples.items():
            for batch, measured in boot[part].items():
                rows.setdefault(batch, {}).setdefault(name, []).extend(measured["tokens_per_s"])
        for batch, profile in boot["routing"].items():
            if "share_percent" in profile:
                routing.setdefault(batch, {})[name] = profile
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
    """How many times as fast as ``than`` ``name`` decodes, for each batch at which both were timed.

    Gives the ratio of the medians, and the ends of its 95% interval by a bootstrap: boots are drawn
    with replacement, and then samples of each boot, since samples of one boot are more alike than
    those of two.
    """
    generator = random.Random(0)
    intervals = {}
    for batch in dict.fromkeys(batch for boot in boots for batch in boot["decode"]):
        mine, theirs = (_samples(boots, who, batch) for who in (name, than))
        if mine and theirs:
            drawn = sorted(
                _median(_resample(mine, generator)) / _median(_resample(theirs, generator))
                for _ in range(_DRAWS)
            )
            ratio = _median(mine) / _median(theirs)
            low, high = drawn[int(_DRAWS * 0.025)], drawn[int(_DRAWS * 0.975)]
            intervals[batch] = (round(ratio, 4), round(low, 4), round(high, 4))
    return intervals


def _samples(boots: list[dict[str, Any]], name: str, batch: str) -> list[list[float]]:
    """The decode rates of each boot of a contender that has some at this batch."""
    rates = [
        b["decode"].get(batch, {}).get("tokens_per_s") for b in boots if b["contender"] == name
    ]
    return [samples for samples in rates if samples]


def _median(boots: list[list[float]]) -> float:
    return statistics.median(sample for boot in boots for sample in boot)


def _resample(boots: list[list[float]], draw: random.Random) -> list[list[float]]:
    return [draw.choices(boot, k=len(boot)) for boot in draw.choices(boots, k=len(boots))]


def table(summary: dict[str, Any], names: list[str]) -> list[str]:
    """The rows as lines of text. In brackets: the spread, and the number of samples."""
    width = max(24, *(len(name) + 2 for name in names))
    lines: list[str] = []

    def add(title: str, rows: dict[str, dict[str, Any]], cell: Callable[[Any], str]) -> None:
        lines.extend(["", title, f"{'batch':>10}" + "".join(f"{name:>{width}}" for name in names)])
        for batch, row in rows.items():
            cells = [cell(row[name]) if name in row else "-" for name in names]
            lines.append(f"{batch:>10}" + "".join(f"{text:>{width}}" for text in cells))

    for part in ("decode", "prefill"):
        title = f"{part}, tokens/s (spread, samples), times {names[0]}"
        add(title, summary[part], _rate_cell)
    title = "routing in decode: % of GPU time, µs a layer in kernels; ms of GPU time a step"
    add(title, summary["routing"], _routing_cell)
    return lines


def _rate_cell(row: dict[str, Any]) -> str:
    times = f" {row['ratio']:.3f}x" if row["ratio"] else ""
    return f"{row['median']:.0f} ({row['spread_percent']:.1f}%,{row['samples']}){times}"


def _routing_cell(row: dict[str, Any]) -> str:
    call = f"{row['share_percent']:.2f}% {row['call_us']:.2f}/{len(row['kernels'])}k"
    return f"{call} {row['step_us'] / 1000:.3f}ms"
