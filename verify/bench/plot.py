"""The picture of what `routing.py` measured, for the README."""

from __future__ import annotations

from typing import Any

COLOURS = {"torch ops": "#999999", "copy": "#56b4e9", "empty": "#bbbbbb"}
PEER, OURS, OTHERS = "#d55e00", "#009e73", ("#cc79a7", "#0072b2", "#e69f00")


def plot(points: list[dict[str, Any]], peer: str | None, file: str, device: str) -> str:
    """Time by tokens, a panel a dtype, every row but the forced ones; beside the last kernel, at both
    ends, its ratio to the peer."""
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is not here"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = [
        part for part in ("bf16", "fp16", "fp32") if any(one["part"] == part for one in points)
    ]
    if not parts:
        return "no plot: nothing to draw"
    names = [one for one in points[0]["us"] if "@" not in one]
    colours = dict(COLOURS) | {peer: PEER}
    ours, *others = [one for one in reversed(names) if one not in colours] or [None]
    colours |= {ours: OURS} | dict(zip(others, OTHERS, strict=False))
    figure, axes = pyplot.subplots(
        1, len(parts), figsize=(4.2 * len(parts), 4), sharey=True, squeeze=False
    )
    for axis, part in zip(axes[0], parts, strict=True):
        for name in names:
            of = [one for one in points if one["part"] == part and name in one["us"]]
            times = [one["us"][name][0] for one in of]
            bold = name not in COLOURS
            axis.plot(
                [one["T"] for one in of], times, color=colours.get(name), label=name,
                marker="o" if bold else None, linewidth=2.2 if bold else 1.4,
                linestyle="-" if bold else "--",
            )  # fmt: skip
            if name == ours and peer:
                for one, place in ((of[0], (-8, -25)), (of[-1], (7, -3))):
                    ratio = one["us"][peer][0] / one["us"][name][0]
                    axis.annotate(f"{ratio:.2f}x", (one["T"], one["us"][name][0]), xytext=place,
                                  textcoords="offset points", fontsize=8, color=colours[name])  # fmt: skip
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="tokens",
            title=part,
            xlim=(0.6, 280_000),
            ylim=(0.45, 700),
        )
        ticks = [one["T"] for one in of]
        axis.set_xticks(ticks, [f"{one:,}" for one in ticks], rotation=45, fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("µs a call, in a CUDA graph")
    axes[0][-1].legend(fontsize=8, loc="upper left")
    figure.suptitle(f"Gemma 4 routing, 128 experts, top-8, {device}", fontsize=11)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    return f"plot in {file}"
