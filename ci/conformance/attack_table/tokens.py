"""A token of the user's, looked for by code of others and in what fixtool leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from attack_table.place import Attack, Place, Wrong
from fixtool.isolation import can_isolate
from support.repositories import Ran
from support.spy import TOKEN, finds, spy


def probe(variable: str) -> Callable[[Place], Ran]:
    """A probe that looks into its environment, /proc, and the memory of its parents."""

    def attempt(place: Place) -> Ran:
        log = place.root / "out" / "log"
        script = place.team.root / "verify" / "probes" / "fix.py"
        script.write_text(spy(log) + script.read_text())
        for slug in ("fix", "other"):
            file = place.line / f"{slug}.patch"
            file.write_text(
                file.read_text().replace(
                    "Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n"
                )
            )
        import sys

        ran = place.process("verify", "--prove", "--sglang-ref", "v1.0", "--source", place.up.path, "--python", sys.executable,
                            **{variable: TOKEN})  # fmt: skip
        found = [places for places in finds(log) if places]
        if found and can_isolate():
            raise Wrong(f"a probe found it: {found[0]}")
        leaves_none(place)
        return ran

    return attempt


def leaves_none(place: Place) -> None:
    for folder in (place.state, place.cache, place.team.root):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink() and TOKEN.encode() in file.read_bytes():
                raise Wrong(f"the token is in {Path(file).relative_to(place.root)}")


def login(form: str, verb: str) -> Callable[[Place], Ran]:
    """A login in an address is neither printed nor stored."""

    def attempt(place: Place) -> Ran:
        url = form.replace("TOKEN", TOKEN)
        if verb == "apply":
            ran = place.run(
                "apply", "--no-build", "--source", url, "--sglang-ref", "v1.0", FIXTOOL_TIMEOUT="2"
            )
        elif verb == "index":
            place.env["PIP_INDEX_URL"] = url
            ran = place.run("apply", "--no-build", "--source", "pypi", "--sglang-ref", "1.0")
        else:
            ran = place.run("init", place.out / "new", "--upstream", url, "--base", "a" * 40)
        if TOKEN in ran.out + ran.err:
            raise Wrong("the token was printed")
        leaves_none(place)
        return ran

    return attempt


def attacks() -> Iterator[Attack]:
    for variable in ("GITHUB_TOKEN", "MY_SECRET", "AWS_SECRET_ACCESS_KEY"):
        yield Attack(
            "patch repository",
            "verify --prove",
            f"a probe looks for {variable}",
            probe(variable),
            "held",
        )
    for form in ("http://me:TOKEN@127.0.0.1:1/x", "http://TOKEN@127.0.0.1:1/x", "https://x-access-token:TOKEN@127.0.0.1:1/x.git",
                 "ssh://me:TOKEN@127.0.0.1:1/x", "http://me:TOKEN@127.0.0.1:1/x\ny", "ftp://me:TOKEN@127.0.0.1:1/x"):  # fmt: skip
        for verb in ("apply", "init", "index"):
            yield Attack("colleague", verb, f"a login in {form!r}", login(form, verb))
