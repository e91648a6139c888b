"""Texts of others that are printed: names, subjects, authors, messages, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from attack_table.hosts import check_files
from attack_table.place import Attack, Place
from support.repositories import NUMBERS, Ran

TEXTS = {
    "a colour": "\x1b[31mred", "a link": "\x1b]8;;http://e.example\x07x\x1b]8;;\x07", "a title": "\x1b]0;owned\x07", "a clipboard": "\x1b]52;c;aWQ=\x07",
    "C1 control characters": "\x9b31mred\x9d0;x\x9c", "an override": "\u202egnp.exe", "isolates": "\u2066x\u2069", "a carriage return": "fine\rerror",
    "a backspace": "abc\x08\x08\x08xyz", "a bell": "\x07", "delete": "\x7f", "a command of GitHub": "::error::x", "an older command": "##[error]x",
    "raw HTML": "<img src=x onerror=alert(1)>", "a mention": "@everyone", "a closing word": "Closes #1", "rich's markup": "[bold red]x[/bold red][link=http://e.example]y",
    "a template": "{{ 7*7 }} ${{ secrets.X }} {% raw %}", "a table's bar": "a | b \\| c", "a code span": "`x` ``y`` ```",
}  # fmt: skip


def upstream_text(text: str, where: str) -> Callable[[Place], Ran]:
    """A subject, author or file name of upstream's, which history, rebase and report show."""

    def attempt(place: Place) -> Ran:
        git = place.up
        git("checkout", "--quiet", "-b", "side", "v1.0")
        message = f"model: {text} (#7)" if where == "the subject" else "model: clash (#7)"
        git.write("python/model.py", NUMBERS.replace("line 20\n", "line 20 mine\n"))
        if where == "a file name":
            git.write(text.replace("/", "_").replace("\0", ""), "x\n")
        git("add", "--all")
        author = (
            ["--author", f"{text.replace('<', '(').replace('>', ')')} <a@example.org>"]
            if where == "the author"
            else []
        )
        git("commit", "--quiet", *author, "--message", message)
        git("tag", "clash")
        git("checkout", "--quiet", "main")
        out = place.out
        history = place.run("history", "--to", "clash", "--source", git.path, "--json")
        (out / "history.json").write_text(history.out)
        shown = place.run("history", "--to", "clash", "--source", git.path)
        place.check(shown, {})
        ran = place.run("rebase", "--onto", "clash", "--source", git.path, "--dry-run", "--json")
        (out / "rebase.json").write_text(ran.out)
        json.loads(ran.out)
        place.check(place.run("rebase", "--onto", "clash", "--source", git.path, "--dry-run"), {})
        report = place.run(
            "report",
            "--history",
            out / "history.json",
            "--rebase",
            out / "rebase.json",
            "--output",
            out / "report",
        )
        check_files(place)
        return report

    return attempt


def patch_text(text: str, where: str) -> Callable[[Place], Ran]:
    """A text of a patch, which list, show, lint and apply show."""

    def attempt(place: Place) -> Ran:
        file = place.line / "fix.patch"
        raw = file.read_text()
        old, new = {
            "the subject": ("fix twenty", f"fix {text}"), "the author": ("From: A Person", f"From: {text}"),
            "a trailer": ("Drop-When: never", f"Drop-When: {text}"), "the body": ("Why.\n", f"Why {text}.\n"),
        }[where]  # fmt: skip
        assert old in raw
        file.write_text(raw.replace(old, new))
        for words in (["list"], ["lint"]):
            place.check(place.run(*words), {})
        shown = place.run("show", "fix", "--json")
        json.loads(shown.out)
        ran = place.apply("v1.0", "--verbose")
        if ran.status == 0 and where == "the subject":
            place.check(place.run("deps", "--source", place.up.path), {})
        return ran

    return attempt


def typed(text: str, words: tuple[str, ...]) -> Callable[[Place], Ran]:
    return lambda place: place.run(*(word.replace("TEXT", text) for word in words))


def attacks() -> Iterator[Attack]:
    upstream, patch = (
        ("the subject", "the author", "a file name"),
        ("the subject", "the author", "a trailer", "the body"),
    )
    arguments = (
        ("show", "--", "TEXT"),
        ("apply", "--line", "TEXT"),
        ("TEXT",),
        ("list", "-C", "TEXT"),
    )
    for number, (what, text) in enumerate(TEXTS.items()):
        where = upstream[number % 3]
        yield Attack(
            "upstream tree",
            "history, rebase, report",
            f"{what} in {where}",
            upstream_text(text, where),
            "held",
        )
        for where in (patch[number % 4], patch[(number + 1) % 4]):
            yield Attack(
                "patch",
                "list, lint, show, apply",
                f"{what} in {where}",
                patch_text(text, where),
                "held",
            )
        words = arguments[number % 4]
        yield Attack(
            "colleague", words[0], f"{what} as argument: {' '.join(words)}", typed(text, words)
        )
