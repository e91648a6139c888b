"""Draws what `routing.py` measured, for the documents."""

from __future__ import annotations

from typing import Any

DTYPES = ("bf16", "fp16", "fp32")
COLOURS = {"torch ops": "#999999", "copy": "#56b4e9", "empty": "#bbbbbb"}
PEER, OURS, OTHERS = "#d55e00", "#009e73", ("#cc79a7", "#0072b2", "#e69f00")


def plot(points: list[dict[str, Any]], peer: str | None, file: str, device: str) -> str:
    """Draw time by tokens, a panel a dtype, every row but those of a forced variant.

    The first and the last point of the last kernel get its ratio to the peer. Returns where the plot
    is, or why there is none.
    """
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is not here"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {part: [p for p in points if p["part"] == part] for part in DTYPES}
    panels = {part: measured for part, measured in panels.items() if measured}
    if not panels:
        return "no plot: nothing to draw"
    names = [name for name in points[0]["us"] if "@" not in name]
    colours = COLOURS | ({peer: PEER} if peer else {})
    kernels = [name for name in reversed(names) if name not in colours]
    colours |= dict(zip(kernels, (OURS, *OTHERS), strict=False))
    size = (4.2 * len(panels), 4)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (part, measured) in zip(axes[0], panels.items(), strict=True):
        for name in names:
            _draw_row(axis, measured, name, colours.get(name))
        if kernels and peer:
            _write_ratios(axis, measured, kernels[0], peer)
        _format_axis(axis, part, [point["T"] for point in measured])
    axes[0][0].set_ylabel("µs a call, in a CUDA graph")
    axes[0][-1].legend(fontsize=8, loc="upper left")
    figure.suptitle(f"Gemma 4 routing, 128 experts, top-8, {device}", fontsize=11)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    return f"plot in {file}"


def _draw_row(axis: Any, measured: list[dict[str, Any]], name: str, colour: str | None) -> None:
    points = [point for point in measured if name in point["us"]]
    bold = name not in COLOURS
    axis.plot(
        [point["T"] for point in points], [point["us"][name][0] for point in points],
        color=colour, label=name, marker="o" if bold else None,
        linewidth=2.2 if bold else 1.4, linestyle="-" if bold else "--",
    )  # fmt: skip


def _write_ratios(axis: Any, measured: list[dict[str, Any]], kernel: str, peer: str) -> None:
    points = [point for point in measured if kernel in point["us"]]
    for point, offset in ((points[0], (-8, -25)), (points[-1], (7, -3))):
        time = point["us"][kernel][0]
        axis.annotate(
            f"{point['us'][peer][0] / time:.2f}x", (point["T"], time), xytext=offset,
            textcoords="offset points", fontsize=8, color=OURS,
        )  # fmt: skip


def _format_axis(axis: Any, title: str, tokens: list[int]) -> None:
    limits = {"xlim": (0.6, 280_000), "ylim": (0.45, 700)}
    axis.set(xscale="log", yscale="log", xlabel="tokens", title=title, **limits)
    axis.set_xticks(tokens, [f"{number:,}" for number in tokens], rotation=45, fontsize=8)
    axis.minorticks_off()
    axis.grid(alpha=0.25)
