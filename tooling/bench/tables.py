"""Prints what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targets import answers, growth
from timing import Group, Row


def lines(groups: Sequence[Group]) -> Iterator[str]:
    """The tables of all groups, the growth and the targets, as text for a terminal."""
    for group in groups:
        yield ""
        yield from _group(group)
    if sum(group.key.startswith("series-") for group in groups) > 1:
        yield ""
        yield from _growth(groups)
    yield ""
    for answer in answers(groups):
        yield f"target  {answer.target}: {answer}"


def _group(group: Group) -> Iterator[str]:
    yield f"{group.title} [{group.key}]"
    width = max(len(row.name) for row in group.rows)
    yield (f"{'':{width}}  runs  seconds   (min    max)     CPU s  peak MB  own MB  "
           "ratio of s  of CPU s  to")  # fmt: skip
    for row in group.rows:
        if not row.samples:
            yield f"{row.name:{width}}  {last_line(row.problem) or 'not measured'}"
            continue
        walls = [sample.wall * row.scale for sample in row.samples]
        own = row.median("own_peak")
        yield (
            f"{row.name:{width}}  {len(row.samples):4}  {row.median('wall'):7.2f}  "
            f"({min(walls):5.2f}  {max(walls):6.2f})  {row.median('cpu'):7.2f}  "
            f"{row.median('peak'):7.0f}  {'' if own is None else f'{own:.0f}':>6}  "
            f"{_ratio(group, row, 'wall'):>10}  {_ratio(group, row, 'cpu'):>8}  {row.against}"
            f"{f'  (one in {row.scale}, multiplied)' if row.scale > 1 else ''}"
            f"{f'  PROBLEM: {last_line(row.problem)}' if row.problem else ''}"
        )


def _ratio(group: Group, row: Row, quantity: str) -> str:
    value = ratio(group, row, quantity)
    return "" if value is None else f"{value:.2f}"


def ratio(group: Group, row: Row, quantity: str) -> float | None:
    """The median of ``row`` relative to that of the contestant that it stands against."""
    other = group.row(row.against) if row.against else None
    mine, theirs = row.median(quantity), other.median(quantity) if other else None
    return None if mine is None or not theirs else mine / theirs


def last_line(text: str) -> str:
    """The last line of a message, which says most."""
    return text.strip().rpartition("\n")[2]


def _growth(groups: Sequence[Group]) -> Iterator[str]:
    series = [group for group in groups if group.key.startswith("series-")]
    sizes = [group.key.removeprefix("series-") for group in series]
    names = [row.name for row in series[-1].rows]
    width = max(map(len, names))
    yield "Growth: CPU seconds for each number of patches, with the ratio, and the exponent"
    yield f"{'':{width}}" + "".join(f"{size:>9}{'':8}" for size in sizes) + "  exponent"
    for name in names:
        cells = ""
        for group in series:
            row = group.row(name)
            cpu = row.median("cpu") if row else None
            share = _ratio(group, row, "cpu") if row else ""
            cells += f"{'-' if cpu is None else f'{cpu:.2f}':>9} {f'({share})' if share else '':7}"
        power = growth(groups, name)
        yield f"{name:{width}}{cells}  {'' if power is None else f'{power:.2f}':>8}"
