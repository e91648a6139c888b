"""Characters that some readers take for the end of a line, in every text, and texts that are edited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from attack_table.place import NEAR, Attack, Place, Wrong
from support.bad_inputs import mail
from support.repositories import Ran

ODD = {
    "a form feed": "\x0c", "a vertical tab": "\x0b", "a file separator": "\x1c", "a group separator": "\x1d",
    "a record separator": "\x1e", "NEL": "\x85", "U+2028": "\u2028", "U+2029": "\u2029", "a carriage return": "\r",
}  # fmt: skip


def entries(place: Place) -> list[str]:
    text = (place.line / "series").read_bytes().decode().split("\n")
    return [line for line in text if line and not line.startswith("#")]


def dropped(odd: str, where: str) -> Callable[[Place], Ran]:
    """`drop` takes the right patch, and writes files that are read back."""

    def attempt(place: Place) -> Ran:
        series, about = place.line / "series", place.line / "upstream.toml"
        reason = "x"
        if where == "a comment of the series":
            series.write_bytes(f"# a{odd}#\nfix.patch\nother.patch\n".encode())
        elif where == "a comment beside a patch":
            series.write_bytes(f"fix.patch # a{odd}other.patch\nother.patch\n".encode())
        elif where == "the why of upstream.toml":
            about.write_text(
                re.sub(
                    "^why = .*",
                    lambda _: f"why = {json.dumps(f'a{odd}base')}",
                    about.read_text(),
                    flags=re.M,
                )
            )
        elif where == "the reason":
            reason = f"a{odd}b = 1"
        elif where == "the shelf":
            (place.line / "shelf").mkdir()
            (place.line / "shelf" / "old.patch").write_bytes(
                (place.line / "other.patch").read_bytes()
            )
            base = re.search('^base = "(.*)"', about.read_text(), re.M)
            assert base
            why = json.dumps(f"a{odd}[[patch]]")
            (place.line / "shelf.toml").write_text(
                f'[[patch]]\nslug = "old"\nwhy = {why}\nbase = "{base[1]}"\n'
            )
        elif where == "a patch's body":
            file = place.line / "other.patch"
            file.write_bytes(file.read_bytes().replace(b"Why.\n", f"Why{odd}drop me.\n".encode()))
        place.commit_all()
        ran = place.run("drop", "fix", "--reason", reason, "--source", place.up.path)
        if ran.status == 0:
            if not entries(place)[-1].startswith("other.patch") or len(entries(place)) != 1:
                raise Wrong(f"the series is now {entries(place)}")
            if not (place.line / "shelf" / "fix.patch").is_file():
                raise Wrong("fix.patch is not on the shelf")
            after = place.run("list")
            if after.status:
                raise Wrong(f"what was written cannot be read: {after.err}")
        return ran

    return attempt


def subject(odd: str, form: str) -> Callable[[Place], Ran]:
    """A subject with an odd character stays one subject."""

    def attempt(place: Place) -> Ran:
        git = place.up
        git("checkout", "--quiet", "--detach", "v1.0")
        git.commit(f"area: a{odd}From: b\n\nWhy.", python__model_py=NEAR)
        diff = git("diff", "v1.0", "HEAD") + "\n"
        if form == "a commit":
            ran = place.run("import", "v1.0..HEAD", "--from", git.path)
        else:
            (place.out / "x.mail").write_bytes(mail(diff, f"area: a{odd}From: b"))
            ran = place.run("import", place.out / "x.mail", "--source", git.path)
        git("checkout", "--quiet", "main")
        if ran.status == 0:
            shown = json.loads(place.run("list", "--json").out)["lines"][0]["patches"]
            if len(shown) != 3 or not shown[2]["subject"].startswith("area: a"):
                raise Wrong(f"the patches are now {shown}")
            show = json.loads(place.run("show", shown[2]["slug"], "--json").out)
            if "A Person" not in json.dumps(show):
                raise Wrong("another author is shown")
        return ran

    return attempt


TOMLS = {
    "the base in the prose": 'why = """\nbase = "of the line"\ntree = "x"\n"""\n{}',
    "the release in the prose": "why = '''\nrelease = \"x\"\n'''\n{}",
    "quoted keys": '"base" = "BASE"\n\'tree\' = "TREE"\n{}',
    "blanks around": '  base   =   "BASE"   # here\n{}',
    "a line separator": 'why = "a\u2028base = 1"\n{}',
    "carriage returns": 'why = "x"\r\n{}',
    "the base twice in comments": '# base = "x"\n#base = "y"\n{}',
    "a literal string": "base = 'BASE'\n{}",
    "an escaped key": '"b\\u0061se" = "BASE"\n{}',
    "a multi-line base": 'base = """BASE"""\n{}',
    "a form feed": 'why = "x" # \x0c base = "y"\n{}',
    "a base after prose with quotes": 'why = "say \\"base = 1\\""\n{}',
    "a dotted key": 'why = "x"\n"url".x = 1\n{}',
    "a table at the end": "{}\n[x]\ny = 1\n",
}  # fmt: skip


def moved(form: str) -> Callable[[Place], Ran]:
    """`rebase` writes an upstream.toml that says what it should, or refuses."""

    def attempt(place: Place) -> Ran:
        path = place.line / "upstream.toml"
        rest = path.read_text().partition("\n")[2]
        values = dict(re.findall(r'^(\w+) = "(.*)"$', rest, re.M))
        start = form.replace("BASE", values["base"]).replace("TREE", values["tree"])
        for key, value in (("base", values["base"]), ("tree", values["tree"])):
            if value in start:
                rest = re.sub(rf"^{key} = .*\n", "", rest, flags=re.M)
        path.write_bytes(start.replace("{}", rest).encode())
        place.commit_all()
        ran = place.run("rebase", "--onto", "v1.1", "--source", place.up.path)
        if ran.status == 0:
            after = json.loads(place.run("list", "--json").out)["lines"][0]["upstream"]
            if after["base"] != place.up("rev-parse", "v1.1"):
                raise Wrong(f"the base is now {after['base']}")
        return ran

    return attempt


def attacks() -> Iterator[Attack]:
    who = "patch repository"
    wheres = ("a comment of the series", "a comment beside a patch", "the why of upstream.toml", "the reason",
              "the shelf", "a patch's body")  # fmt: skip
    for how, odd in ODD.items():
        for where in wheres:
            yield Attack(who, "drop", f"{how} in {where}", dropped(odd, where), "held")
        for form in ("a commit", "a mail"):
            yield Attack(
                "patch", "import", f"{how} in the subject of {form}", subject(odd, form), "held"
            )
    for what, form in TOMLS.items():
        must = "refused" if "dotted" in what or "table" in what else "held"
        yield Attack(who, "rebase", f"upstream.toml with {what}", moved(form), must)
