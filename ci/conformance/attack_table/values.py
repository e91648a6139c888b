"""Values of a repository that become paths, refs, addresses or arguments."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator

from attack_table.place import Attack, Place, Wrong
from support.repositories import NUMBERS, Git, Ran

OPTIONS = ("-x", "--upload-pack={root}/program", "--output={root}/owned", "-oProxyCommand={root}/program",
           "-c core.sshCommand={root}/program", "--exec={root}/program", "--help")  # fmt: skip
PLACES = (
    "../../../private",
    "/etc/passwd",
    "..",
    ".",
    "../x",
    "a/../../x",
    "~/x",
    "a\x00b",
    "a\nb",
    "",
    " ",
    "x" * 300,
)
ADDRESSES = (
    "ext::{root}/program", "ext::sh -c {root}/program", "fd::7", "-u{root}/program",
    "--upload-pack={root}/program", "ssh://-oProxyCommand={root}/program/x", "-oProxyCommand={root}/program:x",
    "ssh://-oProxyCommand={root}/program@127.0.0.1:1/x", "http://-oProxyCommand=x/y", "transport::x", "file::x",
    "ftp://127.0.0.1:1/x", "data:text/plain,x", "javascript:x", "gopher://x", "FILE://x\ny", "http://127.0.0.1:1/\x1b[31m",
    "ssh+git://x", "bundle::x", "git::x", "foo::http://x", "remote-helper::x", "a b://x",
    "http://127.0.0.1:1/$({root}/program)", "http://127.0.0.1:1/;{root}/program;", "http://127.0.0.1:1/`{root}/program`",
)  # fmt: skip
REFS = ("-x", "--output=x", "--all", "@{-1}", "HEAD^{/fix}", ":/fix", "main~1", "main^", "a..b", "^main", "v1.0^0",
        "refs/heads/*", "x.lock", "/x", "x/", "x//y", "x\ny", "x y", "x\x7f", "x\x1b[31m", "a" * 251, "main@{1 day ago}",
        "$(touch x)", "`x`", "\\x", "*", "?", "[a]", "~", "main:README.txt", "FETCH_HEAD", "ORIG_HEAD", "refs/stash")  # fmt: skip
LINE_NAMES = ("$(touch owned)", "a;touch owned", "a b", "`touch owned`", "-x", "--help", "a'b", 'a"b', "a|b", "a&b", "a>b",
              "a\nb", "a\x1b[31mb", "a\u202eb", "a\u2028b", "~x", "a*", "${IFS}x", "a\\b", "a#b")  # fmt: skip


def settings(key: str, value: str, *words: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        text = value.format(root=place.root) if "{root}" in value else value
        (place.team.root / "pyproject.toml").write_text(
            f"[tool.fixtool]\n{key} = {json.dumps(text)}\n"
        )
        return check_hints(place, place.run(*(word.format(up=place.up.path) for word in words)))

    return attempt


def upstream(key: str, value: str, *words: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        text = value.format(root=place.root) if "{root}" in value else value
        path = place.line / "upstream.toml"
        old = path.read_text()
        new = re.sub(rf"^{key} = .*$", lambda _: f"{key} = {json.dumps(text)}", old, flags=re.M)
        path.write_text(new if new != old else f"{key} = {json.dumps(text)}\n{old}")
        ran = place.run(*(word.format(up=place.up.path) for word in words))
        return check_hints(place, ran)

    return attempt


def check_hints(place: Place, ran: Ran) -> Ran:
    """Raise Wrong if a command that fixtool tells a person to type does more than it seems."""
    for line in (ran.out + ran.err).split("\n"):
        match = re.match(r" *(?:try:|next|or) +(.*)", line)
        if not match:
            continue
        words = match[1]
        plain = re.sub(r"'[^']*'", "", words)
        if found := re.search(r"\$\(|`|[|&<>]|;(?! )|\$\{", plain.replace("\\x", "")):
            raise Wrong(f"a command to type holds {found[0]!r}: {line}")
    return ran


def typed(*words: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        given = [
            word.replace("{up}", str(place.up.path)).replace("{root}", str(place.root))
            for word in words
        ]
        return check_hints(place, place.run(*given))

    return attempt


def entry(text: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        with (place.line / "series").open("a") as file:
            file.write(text + "\n")
        return place.apply()

    return attempt


def trailer(key: str, value: str, verb: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        file = place.line / "fix.patch"
        text = value.format(root=place.root, private=place.private)
        raw = file.read_text().replace("Origin: vendor\n", f"Origin: vendor\n{key}: {text}\n")
        file.write_text(raw)
        if verb == "lint":
            return place.run("lint")
        other = place.line / "other.patch"
        other.write_text(
            other.read_text().replace("Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n")
        )
        if key != "Probe":
            file.write_text(
                raw.replace("Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n")
            )
        if verb == "verify":
            return place.run("verify", "--prove", "--sglang-ref", "v1.0", "--source", place.up.path,
                             "--bundle", place.out / "b.tar")  # fmt: skip
        return place.apply()

    return attempt


def checks(table: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        for slug in ("fix", "other"):
            file = place.line / f"{slug}.patch"
            file.write_text(
                file.read_text().replace(
                    "Origin: vendor\n", "Origin: vendor\nProbe: probes/fix.py\n"
                )
            )
        text = table.replace("{root}", str(place.root)).replace("{private}", str(place.private))
        (place.team.root / "verify" / "checks.toml").write_text(text)
        place.program()
        ran = place.run("verify", "--checks", "--sglang-ref", "v1.0", "--source", place.up.path,
                        "--bundle", place.out / "b.tar")  # fmt: skip
        from attack_table.files import search

        search(place.out)
        return ran

    return attempt


def requirements(line: str) -> Callable[[Place], Ran]:
    """What pip is given for a bundle, on the machine of whoever makes it."""

    def attempt(place: Place) -> Ran:
        project = place.root / "out" / "project"
        project.mkdir()
        (project / "setup.py").write_text(f"open({str(place.mark)!r}, 'w').write('setup.py ran')\n")
        (place.team.root / "verify" / "r.txt").write_text(
            line.format(project=project, private=place.private) + "\n"
        )
        git = Git(project)
        git("init", "--quiet", "--template=", "--initial-branch=main")
        git("add", "--all")
        git("commit", "--quiet", "--message", "x")
        return checks('[bundle]\npython = "3.11"\nrequirements = "r.txt"\n')(place)

    return attempt


def line_name(name: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.up("checkout", "--quiet", "--detach", "v1.0")
        place.up.commit(
            "same place", python__model_py=NUMBERS.replace("line 20\n", "line 20 mine\n")
        )
        place.up("tag", "clash")
        place.up("checkout", "--quiet", "main")
        shutil.move(place.line, place.line.with_name(name))
        ran = check_hints(place, place.apply("clash"))
        check_hints(place, place.run("lint"))
        return ran

    return attempt


SESSION: dict[str, tuple[object, ...]] = {
    "onto": ("--output=x", "HEAD", "main", "", None, 5, "a" * 41), "parent": ("HEAD", "--hard", None),
    "slug": ("../x", "-x", "/x", ""), "line": ("other", "../main", "-x"), "conflicts": (["../x"], ["/etc/passwd"], "x", [5]),
    "memory": (["../../x"], ["/x"]), "resolved": ({"fix": "--x"}, {"../x": "a" * 40}, []), "skipped": ({"../x": "why"}, 1),
    "learned": ({"../x": ""}, {"a": "%%%"}), "new_line": ("../x", "-x", "a b"), "position": ("1", -1, 1 << 70, True),
    "probe": ("yes", 1), "store": ("/", "{private}", "-x"), "of": (None,), "worktree": ("{private}", "/", "-x", "{team}"),
    "source": ("ext::{root}/program", "-x", "--upload-pack={root}/program"), "python": ("{root}/program",),
}  # fmt: skip
RECORD: dict[str, tuple[object, ...]] = {
    "onto": ("--output=x", "HEAD", None), "base": ("HEAD", "-x"), "commit": (5, "-x"), "moving_to": ("--hard", 1),
    "commits": (["fix"], {"../x": "a" * 40}, {"fix": "-x"}), "branch": ("x\nupdate refs/heads/main " + "a" * 40, "-x", "a b", ""),
    "line": (None, "../x"), "release": (1,), "proposal": ("../x", "-x"), "version": (1,),
}  # fmt: skip


def session(key: str, value: object, verb: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        place.up("checkout", "--quiet", "--detach", "v1.0")
        place.up.commit(
            "same place", python__model_py=NUMBERS.replace("line 20\n", "line 20 mine\n")
        )
        place.up("tag", "clash")
        place.up("checkout", "--quiet", "main")
        parked = place.run("rebase", "--onto", "clash", "--source", place.up.path)
        if parked.status != 3:
            raise Wrong(f"the rebase does not stop: {parked.err}")
        (file,) = (place.state / "rebase").glob("*.json")
        text = value
        if isinstance(value, str):
            text = value.replace("{private}", str(place.private)).replace("{root}", str(place.root))
            text = text.replace("{team}", str(place.team.root))
        file.write_text(json.dumps({**json.loads(file.read_text()), key: text}))
        ran = place.run("rebase", f"--{verb}")
        if (
            not (place.team.root / "patches" / "main" / "fix.patch").exists()
            or not place.private.exists()
        ):
            raise Wrong("files of the user's are gone")
        return ran

    return attempt


def record(key: str, value: object, words: tuple[str, ...]) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        tree = place.tree()
        file = next(place.state.glob("repos/*/worktrees/*/fixtool.json"))
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
        return place.run(*words, "--worktree", tree.path)

    return attempt


def note(content: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        text = content.replace("{private}", str(place.private)).replace("{line}", str(place.line))
        (place.team.root / ".git" / "fixtool.pending.json").write_text(text)
        return place.run("drop", "fix", "--reason", "x", "--source", place.up.path)

    return attempt


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FOLDER = '{"message": "x\\n", "folders": [{"folder": "%s", "before": "%s", "after": "%s", "files": %s, "remove": %s}]}'
NOTES = {
    "a folder outside": FOLDER % ("{private}", EMPTY, EMPTY, '{"a": "eA=="}', '["key"]'),
    "a file outside": FOLDER % ("{line}", EMPTY, EMPTY, '{"../../../owned": "eA=="}', "[]"),
    "a removal outside": FOLDER % ("{line}", EMPTY, EMPTY, "{}", '["../../../private/key"]'),
    "an absolute file": FOLDER % ("{line}", EMPTY, EMPTY, '{"/tmp/x": "eA=="}', "[]"),
    "an option as folder": FOLDER % ("-x", EMPTY, EMPTY, "{}", "[]"),
    "no JSON": "{", "a list": "[]", "a number": "5", "nested": "[" * 100000, "null": "null",
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    who = "patch repository"
    for value in (*PLACES, *OPTIONS):
        shown = repr(value[:30])
        yield Attack(who, "apply", f"project = {shown}", settings(
            "project", value, "apply", "--source", "pypi", "--sglang-ref", "1.0"))  # fmt: skip
        yield Attack(
            who,
            "apply",
            f"line = {shown}",
            settings("line", value, "apply", "--sglang-ref", "v1.0"),
        )
    for value in ADDRESSES:
        words = ("apply", "--no-build", "--sglang-ref", "v1.0")
        for key in ("source",):
            yield Attack(who, "apply", f"{key} = {value!r}", settings(key, value, *words))
        yield Attack(
            who, "apply", f"url = {value!r} in upstream.toml", upstream("url", value, *words)
        )
        yield Attack("colleague", "apply", f"--source {value!r}", typed(*words, "--source", value))
    for value in ("{root}/program", "./evil", "verify/evil"):
        yield Attack(who, "apply", f"python = {value!r}", settings(
            "python", value, "apply", "--no-build", "--sglang-ref", "v1.0", "--source", "{up}"), "held")  # fmt: skip
    for value in ("nan", "inf", "-1", "0", "1e999", "x", "0x10"):
        yield Attack(
            who, "list", f"timeout = {value!r}", settings("timeout", value, "list"), "refused"
        )
    for key, values in {"base": ("HEAD", "-x", "main", "a" * 41, "A" * 40, ""), "tree": ("HEAD", "-x", ""),
                        "release": ("../x", "1.0; x", "-x", "1" * 101), "version": ("$(x)", "../x"),
                        "date": ("x", "2026-13-01", "-1", "20260102")}.items():  # fmt: skip
        for value in values:
            yield Attack(who, "apply", f"{key} = {value[:20]!r} in upstream.toml", upstream(
                key, value, "apply", "--no-build", "--sglang-ref", "v1.0", "--source", "{up}"))  # fmt: skip
    for number, value in enumerate(REFS):
        if number % 2:
            yield Attack("colleague", "apply", f"--sglang-ref {value[:30]!r}", typed(
                "apply", "--no-build", "--source", "{up}", f"--sglang-ref={value}"))  # fmt: skip
        else:
            yield Attack("colleague", "rebase", f"--onto {value[:30]!r}", typed(
                "rebase", "--source", "{up}", f"--onto={value}"))  # fmt: skip
    for value in (
        "-x..main",
        "v1.0..-x",
        "v1.0..--all",
        "--all..x",
        "a...b",
        "v1.0..main:README.txt",
        "..",
        "v1.0..",
    ):
        yield Attack("colleague", "import", f"the range {value!r}", typed(
            "import", "--from", "{up}", "--source", "{up}", "--", value))  # fmt: skip
    for value in (*PLACES[:7], "-x", "a b", "$(x)", "a;b"):
        yield Attack("colleague", "rebase", f"--new-line {value[:20]!r}", typed(
            "rebase", "--onto", "v1.1", "--source", "{up}", f"--new-line={value}"))  # fmt: skip
        yield Attack("colleague", "init", f"--line {value[:20]!r}", typed(
            "init", "{root}/out/new", "--upstream", "{up}", "--base", "v1.0", f"--line={value}"))  # fmt: skip
        yield Attack("colleague", "show", f"the patch {value[:20]!r}", typed("show", "--", value))
        yield Attack("colleague", "drop", f"the patch {value[:20]!r}", typed(
            "drop", "--reason", "x", "--source", "{up}", "--", value))  # fmt: skip
    for name in LINE_NAMES:
        yield Attack(who, "apply", f"a line called {name!r}", line_name(name))
    for text in ("../x.patch", "/etc/passwd", "/etc/x.patch", "a/b.patch", "-x.patch", "fix.patch -R", "fix.patch -p0",
                 "fix.patch -p1 -R", "fix.patch\x00.patch", "..patch", "a..b.patch", "fix.patch other.patch",
                 "shelf/fix.patch", "$(x).patch", "fix.patch;x", "\x1b[31m.patch", "x" * 200 + ".patch", "fix.patch\u2028",
                 ".patch", "fix.PATCH", "fix.patch" + " " * 5000 + "-R"):  # fmt: skip
        yield Attack(who, "apply", f"a series entry {text[:30]!r}", entry(text))
    for value in ("../../private/key", "/bin/sh", "-c", "probes/../../x", "probes/none.py", "probes/fix.py'", "{private}/key",
                  "probes", ".", "probes/fix.py\\", "\u2028", "x" * 5000):  # fmt: skip
        yield Attack(who, "verify", f"Probe: {value[:30]!r}", trailer("Probe", value, "verify"))
    for value in ("../x", "/x", "-x", "fix", "$(x)", "none"):
        yield Attack(who, "apply", f"Depends-On: {value!r}", trailer("Depends-On", value, "apply"))
    for key in ("Applied-Upstream", "Superseded-By", "Fixes"):
        for value in (
            "--all",
            "HEAD",
            "main",
            "-x, #1, 1.0",
            "$(x)",
            "#99999999999999999999",
            "a" * 41,
        ):
            yield Attack(who, "apply", f"{key}: {value!r}", trailer(key, value, "apply"), "held")
    check = '[[check]]\nname = "a"\nscript = %s\n'
    for value in (
        "../x.py",
        "/bin/sh",
        "{private}/key",
        "-c",
        "none.py",
        "",
        "probes",
        "a\\u0000b",
    ):
        yield Attack(who, "verify", f"a check's script {value!r}", checks(check % f'"{value}"'))
    for what, table in {
        "a tree called ../x": '[[check]]\nname = "a"\nscript = "probes/fix.py"\ntree = "../x"\n',
        "a tree called +../x": '[[check]]\nname = "a"\nscript = "probes/fix.py"\ntree = "+../x"\n',
        "an unknown key": '[[check]]\nname = "a"\nscript = "probes/fix.py"\nx = 1\n',
        "a name with an escape": '[[check]]\nname = "\\u001b[31m"\nscript = "none.py"\n',
        "a timeout of minus one": '[[check]]\nname = "a"\nscript = "probes/fix.py"\ntimeout = -1\n',
        "requirements outside": '[bundle]\npython = "3.11"\nrequirements = "../../private/key"\n',
        "absolute requirements": '[bundle]\npython = "3.11"\nrequirements = "{private}/key"\n',
        "a Python that is an option": '[bundle]\npython = "--target=x"\nrequirements = "probes/fix.py"\n',
        "an architecture that is an option": '[bundle]\npython = "3.11"\narch = "--x"\nrequirements = "probes/fix.py"\n',
        "a list as a table": "check = [1]\n", "a text as a table": 'check = "x"\n',
    }.items():  # fmt: skip
        must = "held" if "timeout" in what or "+../x" in what else "refused"
        yield Attack(who, "verify", f"checks.toml: {what}", checks(table), must)
    for text in ("{project}", "-e {project}", "git+file://{project}", "x @ file://{project}", "file://{project}",
                 "./../out/project", "--index-url http://127.0.0.1:1/ x", "-r {private}/key", "--find-links {project}\nx",
                 "-c {private}/key", "--extra-index-url http://127.0.0.1:1/\nx", "--no-binary :all:\nx",
                 "--pre", "x @ git+ssh://-oProxyCommand=x/y", "hg+file://{project}#egg=x", "x==1 --global-option=y"):  # fmt: skip
        yield Attack(who, "verify --bundle", f"a requirement {text!r}", requirements(text))
    for key, wrong in SESSION.items():
        for number, value in enumerate(wrong):
            free = key in ("worktree", "source", "python", "store")
            verb = ("continue", "abort")[number % 2]
            must = "held" if free else "refused"
            yield Attack("cache", f"rebase --{verb}", f"a session with {key} = {value!r:.40}",
                         session(key, value, verb), must)  # fmt: skip
    for key, wrong in RECORD.items():
        for number, value in enumerate(wrong):
            verb = ("export", "build")[number % 2]
            yield Attack(
                "cache", verb, f"a record with {key} = {value!r:.40}", record(key, value, (verb,))
            )
    for what, content in NOTES.items():
        yield Attack("cache", "drop", f"a pending note: {what}", note(content), "held")
