"""Paths, modes and types that a patch names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from attack_table.place import Attack, Place, Wrong
from support.bad_inputs import makes
from support.repositories import NUMBERS, Ran

ZERO, SOME = "0" * 40, "1" * 40
# Names of git's own folder, as HFS+, NTFS or a case-insensitive file system reads them.
GIT_FOLDERS = {
    ".git": "plain", ".GIT": "upper case", ".Git": "mixed case", ".gIt": "mixed case again",
    ".git.": "a dot that NTFS drops", ".git...": "dots that NTFS drops",
    ".git ": "a blank that NTFS drops", ".git . .": "blanks and dots that NTFS drops",
    "git~1": "a short name of NTFS", "GIT~1": "a short name in upper case",
    "git~2": "a second short name", ".git:x": "a stream of NTFS",
    ".git::$INDEX_ALLOCATION": "the index stream of NTFS",
    ".g\u200cit": "a joiner that HFS+ drops", ".gi\u200dt": "another joiner",
    "\u200e.git": "a mark before it", ".git\u202a": "a mark after it",
    ".g\u2060it": "a word joiner", ".git\ufeff": "a byte order mark",
    ".g\u206fit": "a deprecated format mark", ".g\u202eit": "an override",
    ".G\u200cI\u200dT": "joiners in upper case", ".\u200bgit": "a blank without width",
}  # fmt: skip
LEAVING = {
    "/etc/cron.d/x": "absolute", "//etc/x": "absolute, two slashes", "../x": "a parent",
    "a/../../x": "a parent in the middle", "a/./x": "a dot", "a//x": "an empty part",
    "./x": "a dot at the start", "..": "only the parent", "C:/x": "a drive", "c:x": "a drive, relative",
    "a\\..\\..\\x": "backslashes", "\\\\host\\share": "a share",
    "a/" * 101 + "x": "a hundred levels", "n" * 256: "a long name", "d/" * 90 + ("e" * 240 + "/") * 4: "long",
    "a\tb": "a tab", "a\x01b": "a control character", "a\x7fb": "delete", "a\rb": "a carriage return",
}  # fmt: skip
RULES = {
    ".gitmodules": "submodules", ".gitattributes": "attributes", "a/.gitattributes": "attributes below",
    ".GitModules": "submodules in mixed case", ".gitattributes.": "attributes, a dot at the end",
    ".git\u200cmodules": "submodules with a joiner", "gitmod~1": "a short name of submodules",
    ".github/workflows/x.yml": "a workflow", ".GitHub/Workflows/x.yml": "a workflow in mixed case",
    ".github/workflows": "a file in place of the workflows", ".github": "a file in place of .github",
    ".github/actions/a/action.yml": "an action", ".gitlab-ci.yml": "GitLab's rules",
    ".circleci/config.yml": "CircleCI's rules", "Jenkinsfile": "Jenkins' rules",
    "azure-pipelines.yml": "Azure's rules", ".buildkite/pipeline.yml": "Buildkite's rules",
    ".travis.yml": "Travis' rules", "bitbucket-pipelines.yml": "Bitbucket's rules",
    ".lfsconfig": "large file storage", ".pre-commit-config.yaml": "hooks",
}  # fmt: skip


def quoted(path: str) -> str:
    """A path as git quotes it, each byte in octal."""
    return '"' + "".join(f"\\{byte:03o}" for byte in path.encode("utf-8", "surrogateescape")) + '"'


def renames(path: str, kind: str = "rename", old: str = "README.txt") -> str:
    return (
        f"diff --git a/{old} b/{path}\nsimilarity index 100%\n{kind} from {old}\n{kind} to {path}\n"
    )


def quoted_new(path: str) -> str:
    old, new = quoted("a/" + path), quoted("b/" + path)
    return (
        f"diff --git {old} {new}\nnew file mode 100644\nindex {ZERO}..{SOME}\n"
        f"--- /dev/null\n+++ {new}\n@@ -0,0 +1 @@\n+x\n"
    )


def deletes(path: str) -> str:
    return (
        f"diff --git a/{path} b/{path}\ndeleted file mode 100644\nindex {SOME}..{ZERO}\n"
        f"--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )


def bare(path: str) -> str:
    """A diff without a `diff --git` line."""
    return f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"


def applied(diff: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.add(diff)
        return place.apply()

    return attempt


def linted(diff: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.add(diff)
        return place.run("lint")

    return attempt


def imported(diff: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        file = place.out / "x.diff"
        file.write_bytes(diff.encode("utf-8", "surrogateescape"))
        return place.run("import", file, "--source", place.up.path)

    return attempt


def told(path: str, change: str) -> Callable[[Place], Ran]:
    """A change of a file that rules git or CI, which import and lint must both tell."""

    def attempt(place: Place) -> Ran:
        git = place.up
        git("checkout", "--quiet", "-b", "side", "v1.0")
        if change == "link":  # git itself adds no such link, so the patch is written by hand
            place.add(makes(path, "120000"))
            ran = place.run("lint")
            if "touches-rules" not in ran.out and ran.status == 0:
                raise Wrong(f"lint does not tell it: {ran.out}")
            git("checkout", "--quiet", "main")
            return ran
        if change in ("delete", "rename away"):
            git.write(path, "x\n")
            git.commit("make it")
            base = git.head()
            if change == "delete":
                (git.path / path).unlink()
            else:
                (git.path / path).rename(git.path / "moved.txt")
            git.commit("change it")
            (place.line / "series").write_text("# none\n")
            for file in place.line.glob("*.patch"):
                file.unlink()
            place.team.line(base=base)
        else:
            git.write(path, "x\n")
            git.commit("change it")
        (place.out / "x.diff").write_text(git("diff", "--binary", "HEAD~1", "HEAD") + "\n")
        git("checkout", "--quiet", "main")
        ran = place.run("import", place.out / "x.diff", "--source", git.path, "--json")
        if ran.status == 0:
            notes = json.loads(ran.out)["patches"][0]["notes"]
            if not any("git or CI" in note for note in notes):
                raise Wrong(f"import does not tell it: {notes}")
            lint = place.run("lint")
            if "touches-rules" not in lint.out:
                raise Wrong(f"lint does not tell it: {lint.out}")
        return ran

    return attempt


def through_link(first: str, second: str, *, one_patch: bool) -> Callable[[Place], Ran]:
    """A symlink, and then a file behind it."""

    def attempt(place: Place) -> Ran:
        link = (
            f"diff --git a/{first} b/{first}\nnew file mode 120000\nindex {ZERO}..{SOME}\n--- /dev/null\n"
            f"+++ b/{first}\n@@ -0,0 +1 @@\n+{place.private}\n\\ No newline at end of file\n"
        )
        if one_patch:
            place.add(link + makes(second))
        else:
            place.team.add("link", b"" + _mail(link, "link"))
            place.add(makes(second))
        return place.apply()

    return attempt


def _mail(diff: str, subject: str) -> bytes:
    from support.bad_inputs import mail

    return mail(diff, subject)


def link_then_worktree(target: str) -> Callable[[Place], Ran]:
    """A symlink out of the tree alone: it may be in a tree, but nothing may be written through it
    and nothing read through it by the build."""

    def attempt(place: Place) -> Ran:
        place.add(
            f"diff --git a/python/sglang/data b/python/sglang/data\nnew file mode 120000\n"
            f"index {ZERO}..{SOME}\n--- /dev/null\n+++ b/python/sglang/data\n@@ -0,0 +1 @@\n"
            f"+{target.format(private=place.private)}\n\\ No newline at end of file\n"
        )
        tree = place.tree()
        return place.run("build", "--worktree", tree.path)

    return attempt


MODES = (
    "040000",
    "000000",
    "100600",
    "100666",
    "107777",
    "120755",
    "160755",
    "777777",
    "0100644",
    "644",
    "-1",
    "10064x",
)
DAMAGED = {
    "a rename that `diff --git` does not say": (
        "diff --git a/python/other.py b/python/other.py\nsimilarity index 100%\n"
        "rename from python/other.py\nrename to .github/workflows/x.yml\n"
    ),
    "a copy that `diff --git` does not say": (
        "diff --git a/python/other.py b/python/other.py\nsimilarity index 100%\n"
        "copy from python/other.py\ncopy to .gitmodules\n"
    ),
    "another file in `+++`": (
        "diff --git a/python/other.py b/python/other.py\nindex 1111111..2222222 100644\n"
        "--- a/python/other.py\n+++ b/python/model.py\n@@ -1 +1 @@\n-alpha\n+x\n"
    ),
    "another file in `---`": (
        "diff --git a/python/other.py b/python/other.py\nindex 1111111..2222222 100644\n"
        "--- a/README.txt\n+++ b/python/other.py\n@@ -1 +1 @@\n-read me\n+x\n"
    ),
    "`rename old` and `rename new`": (
        "diff --git a/README.txt b/x.txt\nsimilarity index 100%\nrename old README.txt\nrename new x.txt\n"
    ),
    "a traditional diff after a git one": makes("ok.txt") + bare(".github/workflows/x.yml"),
    "two new names": "diff --git a/README.txt b/x.txt\nrename from README.txt\nrename to x.txt\nrename to y.txt\n",
    "new and deleted": "diff --git a/x b/x\nnew file mode 100644\ndeleted file mode 100644\n",
    "a rename and a copy": (
        "diff --git a/README.txt b/x.txt\nrename from README.txt\nrename to x.txt\ncopy from README.txt\ncopy to y\n"
    ),
    "two names and no rename": "diff --git a/README.txt b/x.txt\nindex 1111111..2222222 100644\n",
    "a quoted name with another escape": makes("x").replace("b/x", '"b/\\x41"'),
    "a hunk that is longer than it says": makes("x") + "+more\n",
    "a hunk head of a billion lines": makes("x").replace("+1 @@", "+1,999999999 @@"),
    "a hunk head of a trillion lines": makes("x").replace("+1 @@", "+1,9999999999999 @@"),
    "binary data that is cut": (
        "diff --git a/x b/x\nnew file mode 100644\nindex 0000000..1111111\nGIT binary patch\nliteral 5\nMc\n"
    ),
    "binary data that unpacks to a terabyte": (
        "diff --git a/x b/x\nnew file mode 100644\nindex 0000000..1111111\nGIT binary patch\n"
        "literal 999999999999\nMcmZQzU|?Wi00961\n\nliteral 0\nHcmV?d00001\n\n"
    ),
    "Binary files differ": "diff --git a/x b/x\nindex 1..2\nBinary files a/x and b/x differ\n",
    "no change at all": "",
    "only a mode change of a file that is not there": (
        "diff --git a/none b/none\nold mode 100644\nnew mode 100755\n"
    ),
}  # fmt: skip


def case_twins(place: Place) -> Ran:
    """A link `Data` and a file `data/key`: one name where case does not count."""
    link = makes("Data", "120000").replace(
        "+x\n", f"+{place.private}\n\\ No newline at end of file\n"
    )
    place.add(link + makes("data/key"))
    return place.apply()


def folder_becomes_link(place: Place) -> Ran:
    """A patch that turns a folder into a link out of the tree, and one that writes a file there."""
    place.team.add("away", _mail(
        "diff --git a/python/other.py b/python/other.py\ndeleted file mode 100644\n"
        f"index {SOME}..{ZERO}\n--- a/python/other.py\n+++ /dev/null\n@@ -1,3 +0,0 @@\n"
        "-alpha\n-BETA\n-gamma\n", "away"))  # fmt: skip
    link = makes("python", "120000").replace(
        "+x\n", f"+{place.private}\n\\ No newline at end of file\n"
    )
    place.add(link)
    return place.apply()


def type_change(place: Place) -> Ran:
    """A file becomes a link in one step, as git writes it."""
    body = "".join(
        f"-{line}\n" for line in NUMBERS.replace("line 20\n", "line 20 fixed\n").split("\n")[:-1]
    )
    place.add(
        f"diff --git a/python/model.py b/python/model.py\ndeleted file mode 100644\nindex {SOME}..{ZERO}\n"
        f"--- a/python/model.py\n+++ /dev/null\n@@ -1,40 +0,0 @@\n{body}"
        + makes("python/model.py", "120000").replace(
            "+x\n", f"+{place.private}/key\n\\ No newline at end of file\n"
        )
    )
    return place.apply()


def submodule(path: str, place: Place) -> Ran:
    place.add(makes(path, "160000").replace("+x\n", f"+Subproject commit {'a' * 40}\n"))
    ran = place.run("lint")
    if ran.status == 0 and "submodule" not in ran.out:
        raise Wrong("lint does not tell of the submodule")
    return place.apply()


def attacks() -> Iterator[Attack]:
    for path, how in GIT_FOLDERS.items():
        what = f"a file in git's own folder, {how}"
        yield Attack(
            "patch", "apply", f"{what}: {path!r}", applied(makes(f"{path}/hooks/pre-commit"))
        )
        yield Attack("patch", "import", f"{what}: {path!r}", imported(makes(f"a/{path}/config")))
    for path, how in list(GIT_FOLDERS.items())[:14]:
        what = f"{how}: {path!r}"
        yield Attack(
            "patch",
            "apply",
            f"a rename into git's folder, {what}",
            applied(renames(f"{path}/config")),
        )
        yield Attack(
            "patch",
            "lint",
            f"a quoted name in git's folder, {what}",
            linted(quoted_new(f"{path}/x")),
        )
        yield Attack(
            "patch", "import", f"no `diff --git`, git's folder, {what}", imported(bare(f"{path}/x"))
        )
    for path, how in LEAVING.items():
        what = f"{how}: {path[:20]!r}"
        if path.isprintable():
            yield Attack("patch", "apply", f"a new file, {what}", applied(makes(path)))
            yield Attack("patch", "import", f"a copy, {what}", imported(renames(path, "copy")))
        yield Attack("patch", "lint", f"a quoted name, {what}", linted(quoted_new(path)))
        if not path.startswith(("a/./", "./", "a//", "//")):  # git drops these
            # git ends such a name at a blank, and takes what stands before it
            must = "held" if re.search("[\t\r]", path) else "refused"
            yield Attack("patch", "import", f"no `diff --git`, {what}", imported(bare(path)), must)
    for path, how in RULES.items():
        for change in ("new", "link") if len(path) % 2 else ("delete", "rename away"):
            yield Attack("patch", "import", f"{how}, {change}", told(path, change), "held")
    for mode in MODES:
        yield Attack("patch", "apply", f"a new file of mode {mode}", applied(makes("x", mode)))
        yield Attack("patch", "lint", f"a change to mode {mode}", linted(
            f"diff --git a/README.txt b/README.txt\nold mode 100644\nnew mode {mode}\n"))  # fmt: skip
    for what, diff in DAMAGED.items():
        yield Attack("patch", "apply", what, applied(diff))
        yield Attack("patch", "import", what, imported(diff))
    for one_patch in (True, False):
        how = "one patch" if one_patch else "two patches"
        for first, second in (("l", "l/key"), ("a/l", "a/l/b/key"), ("python/l", "python/l/new")):
            yield Attack("patch", "apply", f"a file behind a link {first}, in {how}",
                         through_link(first, second, one_patch=one_patch))  # fmt: skip
    for target in ("{private}/key", "{private}", "../../../../private/key", "/dev/zero", "/proc/self/environ",
                   "data", ".", "..", "other/../data", "__init__.py"):  # fmt: skip
        yield Attack("patch", "build", f"a link to {target}", link_then_worktree(target), "held")
    yield Attack("patch", "apply", "a link and a file that differ in case", case_twins)
    yield Attack("patch", "apply", "a link in place of a folder", folder_becomes_link, "held")
    yield Attack("patch", "apply", "a file that becomes a link", type_change, "held")
    for path in ("sub", "python/sub", ".git", "-x", "a b"):
        must = "refused" if path == ".git" else "held"
        yield Attack(
            "patch",
            "apply",
            f"a submodule at {path!r}",
            lambda place, path=path: submodule(path, place),
            must,
        )
