"""The figures and tables that the documents show, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets import Answer, answers, growth
from timing import Group, Row, Sample

_FROM_DOCS = "../tooling/bench/results"


@dataclass(frozen=True)
class Results:
    """The results by file name, the newest first."""

    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Results:
        found = {path.name: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
        newest = sorted(found, key=lambda name: (found[name]["date"], name), reverse=True)
        return cls({name: found[name] for name in newest})

    def group(self, key: str) -> Mapping[str, Any]:
        """The group ``key`` of the newest result that has it, with the key ``file``."""
        for name, result in self.files.items():
            for group in result["groups"]:
                if group["key"] == key:
                    return {**group, "file": name}
        raise KeyError(f"the group {key}")

    def row(self, key: str, name: str) -> Mapping[str, Any]:
        for row in self.group(key)["rows"]:
            if row["name"] == name:
                return dict(row)
        raise KeyError(f"the row '{name}' in the group {key}")

    def sizes(self) -> list[int]:
        """The lengths of series that the newest result with series has."""
        for result in self.files.values():
            keys = [group["key"] for group in result["groups"]]
            if sizes := [int(key[7:]) for key in keys if key.startswith("series-")]:
                return sizes
        return []


def figure(results: Results, words: str) -> str:
    """The text of one figure. ``words`` are ``GROUP | ROW | QUANTITY``. Raises KeyError if no
    result has it."""
    parts = [part.strip() for part in words.split("|")]
    if len(parts) != 3:
        raise KeyError(f"'{words}', which is not GROUP | ROW | QUANTITY")
    key, name, quantity = parts
    value = results.row(key, name).get(quantity)
    if value is None:
        raise KeyError(f"{quantity} of '{name}' in the group {key}")
    return shown(quantity, value)


def shown(quantity: str, value: float) -> str:
    """A value with its unit."""
    if quantity == "bytes_ratio":
        return f"{value:.1%}"
    if quantity.endswith("_ratio"):
        return f"{value:.2f}"
    if quantity == "bytes":
        return f"{_digits(value / 1e6)} MB"
    return f"{_digits(value)} {'MB' if 'peak' in quantity else 's'}"


def _digits(value: float) -> str:
    """Two digits after the point below 10, one below 100, none above."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _cell(row: Mapping[str, Any], quantity: str) -> str:
    value = row.get(quantity)
    if value is None:
        return "–"
    return _digits(value) if quantity in ("wall", "cpu", "peak") else shown(quantity, value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join(lines + [f"| {' | '.join(cells)} |" for cells in rows])


def _link(name: str) -> str:
    return f"[{name}]({_FROM_DOCS}/{name})"


def _source(results: Results, *keys: str) -> str:
    """The sentence that names the files that a table comes from."""
    names = dict.fromkeys(results.group(key)["file"] for key in keys)
    return f"\n\nFrom {' and '.join(map(_link, names))}."


def about(results: Results) -> str:
    """Where and when the newest result was measured."""
    if not results.files:
        raise KeyError("anything: there is no result")
    name, result = next(iter(results.files.items()))
    machine = result["machine"]
    rounds = f"medians of {result['runs']} runs" if result["runs"] > 1 else "of one run"
    return (
        f"The figures are {rounds}, of {result['date'][:10]}, with fixtool "
        f"`{machine['commit'][:12]}`, git {machine['git']}\n"
        f"and Python {machine['python']}, on {machine['cores']} cores ({machine['cpu']}) with "
        f"{machine['memory_gb']:g} GB of memory.\n"
        f"The load average before the run was {machine['load_average']}; above 0.5, other work "
        f"made it slower. {_link(name)} has\nevery measurement."
    )


def four(results: Results) -> str:
    """The four patches, in memory and on disk."""
    memory, disk = results.group("four-tmpfs"), results.group("four-disk")
    on_disk = {row["name"]: row for row in disk["rows"]}
    head = ["", "seconds in memory", "relative to `git am`", "seconds on disk",
            "relative to `git am`", "MB"]  # fmt: skip
    rows = [
        [f"`{row['name']}`", _cell(row, "wall"), _cell(row, "wall_ratio"),
         _cell(on_disk.get(row["name"], {}), "wall"),
         _cell(on_disk.get(row["name"], {}), "wall_ratio"), _cell(row, "peak")]
        for row in memory["rows"]
    ]  # fmt: skip
    return _table(head, rows) + _source(results, "four-tmpfs", "four-disk")


def series(results: Results) -> str:
    """CPU time of each size, with the ratio to what it stands against."""
    sizes = results.sizes()
    groups = {size: results.group(f"series-{size}") for size in sizes}
    rows: dict[str, list[str]] = {}
    for group in groups.values():
        for row in group["rows"]:
            against = f" (relative to `{row['against']}`)" if row["against"] else ""
            cells = rows.setdefault(f"`{row['name']}`{against}", [])
            share = row["cpu_ratio"]
            cells.append(_cell(row, "cpu") + ("" if share is None else f" ({share:.2f})"))
    longest = groups[sizes[-1]]
    peaks = {row["name"]: _cell(row, "peak") for row in longest["rows"]}
    head = ["CPU seconds", *(f"{size} patches" for size in sizes), "exponent",
            f"MB, {sizes[-1]} patches"]  # fmt: skip
    measured = _groups({"groups": groups.values()})
    body = []
    for label, cells in rows.items():
        name = label.split("`")[1]
        power = growth(measured, name)
        body.append([label, *cells, "–" if power is None else f"{power:.2f}", peaks.get(name, "–")])
    notes = "".join(
        f"\n\n`{row['name']}`, {size} patches: {row['problem']}."
        for size, group in groups.items() for row in group["rows"] if row["problem"]
    )  # fmt: skip
    return _table(head, body) + notes + _source(results, *(f"series-{size}" for size in sizes))


def history(results: Results) -> str:
    """Histories and the release matrix."""
    keys = [key for key in ("history-four", "history-torchspec", "history-slime", "releases")
            if any(group["key"] == key for result in results.files.values()
                   for group in result["groups"])]  # fmt: skip
    rows = []
    for key in keys:
        group = results.group(key)
        for row in group["rows"]:
            many = f", one commit in {row['scale']}, multiplied" if row["scale"] > 1 else ""
            rows.append([group["title"], f"`{row['name']}`{many}", _cell(row, "wall"),
                         _cell(row, "cpu"), _cell(row, "peak")])  # fmt: skip
    return _table(["", "", "seconds", "CPU seconds", "MB"], rows) + _source(results, *keys)


def start(results: Results) -> str:
    rows = [[f"`{row['name']}`", _cell(row, "wall"), _cell(row, "cpu"), _cell(row, "peak")]
            for row in results.group("start")["rows"]]  # fmt: skip
    return _table(["", "seconds", "CPU seconds", "MB"], rows) + _source(results, "start")


def verbs(results: Results) -> str:
    """Each verb on a long series, with its target."""
    try:
        group = results.group("verbs")
    except KeyError:
        return "No result has this suite yet."
    measured = answers(_groups({"groups": [group]}))
    found = {answer.target.row: answer for answer in measured if answer.target.group == "verbs"}
    rows = []
    for row in group["rows"]:
        answer = found.get(row["name"])
        target = f"{answer.target.most:g} s, {_met(answer)}" if answer else ""
        rows.append([f"`{row['name']}`", _cell(row, "wall"), _cell(row, "cpu"), target])
    head = [group["title"], "seconds", "CPU seconds", "target"]
    return _table(head, rows) + _source(results, "verbs")


def targets(results: Results) -> str:
    """Each target, with what the two newest results say of it; those of verbs stand with them."""
    newest = dict(list(results.files.items())[:2])
    columns = [answers(_groups(result)) for result in newest.values()]
    rows = [
        [str(found[0].target), *map(_answer, found)]
        for found in zip(*columns, strict=True)
        if found[0].target.group != "verbs"
    ]
    return _table(["target", *map(_link, newest)], rows)


def _groups(result: Mapping[str, Any]) -> list[Group]:
    """The groups of a result as they were measured."""
    return [
        Group(group["key"], group["title"], [
            Row(row["name"], row["against"], [Sample(*sample) for sample in row["samples"]],
                row["scale"])
            for row in group["rows"]
        ])
        for group in result["groups"]
    ]  # fmt: skip


def _answer(answer: Answer) -> str:
    if answer.measured is None:
        return "not measured"
    return f"{_digits(answer.measured)}, {_met(answer)}"


def _met(answer: Answer) -> str:
    return {None: "not measured", True: "met", False: "**not met**"}[answer.met]


TABLES: dict[str, Callable[[Results], str]] = {
    "about": about,
    "four": four,
    "history": history,
    "series": series,
    "start": start,
    "targets": targets,
    "verbs": verbs,
}
"""What a mark ``table: NAME`` stands for."""
