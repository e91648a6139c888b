"""Every setting and attribute by which git could write another patch file for the same commit.

The keys are from git's documentation: of format-patch, of diff, of log, of the charsets, and of the
attributes. Each value differs from the default, so that a format-patch that obeys it writes other
bytes for one of the commits of ``odd_commits`` or of a real history.
"""

from __future__ import annotations

from pathlib import Path

from support.repositories import NUMBERS, Git

_CONFIG = {
    "attr.tree": "HEAD",
    "author.email": "other@example.org",
    "author.name": "Somebody Else",
    "color.diff": "always",
    "color.ui": "always",
    "core.abbrev": "7",
    "core.attributesFile": "{folder}/attributes",
    "core.autocrlf": "true",
    "core.bigFileThreshold": "1",
    "core.commentChar": "f",
    "core.eol": "crlf",
    "core.fileMode": "false",
    "core.ignoreCase": "true",
    "core.notesRef": "refs/notes/mine",
    "core.precomposeUnicode": "true",
    "core.quotePath": "false",
    "core.safecrlf": "true",
    "core.symlinks": "false",
    "core.useReplaceRefs": "true",
    "core.whitespace": "cr-at-eol,tab-in-indent",
    "diff.algorithm": "patience",
    "diff.colorMoved": "zebra",
    "diff.colorMovedWS": "ignore-all-space",
    "diff.context": "9",
    "diff.default.xfuncname": "^(.*)$",
    "diff.dirstat": "lines,0",
    "diff.dstPrefix": "new/",
    "diff.external": "{folder}/program",
    "diff.ignoreSubmodules": "all",
    "diff.indentHeuristic": "true",
    "diff.interHunkContext": "20",
    "diff.mnemonicPrefix": "true",
    "diff.noPrefix": "true",
    "diff.orderFile": "{folder}/order",
    "diff.python.binary": "true",
    "diff.python.command": "{folder}/program",
    "diff.python.textconv": "{folder}/program",
    "diff.python.xfuncname": "^line 1",
    "diff.relative": "true",
    "diff.renameLimit": "1",
    "diff.renames": "copies",
    "diff.srcPrefix": "old/",
    "diff.statGraphWidth": "10",
    "diff.submodule": "log",
    "diff.suppressBlankEmpty": "true",
    "diff.wordRegex": ".",
    "diff.wsErrorHighlight": "all",
    "format.attach": "boundary",
    "format.cc": "other@example.org",
    "format.commitListFormat": "%H",
    "format.coverFromDescription": "subject",
    "format.coverLetter": "true",
    "format.encodeEmailHeaders": "false",
    "format.filenameMaxLength": "10",
    "format.forceInBodyFrom": "true",
    "format.from": "Somebody Else <other@example.org>",
    "format.headers": "X-Mine: yes",
    "format.mboxrd": "true",
    "format.noPrefix": "true",
    "format.notes": "refs/notes/mine",
    "format.numbered": "true",
    "format.outputDirectory": "{folder}/output",
    "format.pretty": "raw",
    "format.signOff": "true",
    "format.signature": "sent from somewhere",
    "format.signatureFile": "{folder}/attributes",
    "format.subjectPrefix": "RFC",
    "format.suffix": ".txt",
    "format.thread": "deep",
    "format.to": "other@example.org",
    "format.useAutoBase": "whenAble",
    "i18n.commitEncoding": "ISO-8859-1",
    "i18n.logOutputEncoding": "ISO-8859-1",
    "log.abbrevCommit": "true",
    "log.date": "relative",
    "log.decorate": "full",
    "log.diffMerges": "first-parent",
    "log.follow": "true",
    "log.mailmap": "true",
    "log.showRoot": "false",
    "log.showSignature": "true",
    "mailmap.blob": "HEAD:.mailmap",
    "mailmap.file": "{folder}/mailmap",
    "merge.renames": "false",
    "notes.displayRef": "refs/notes/*",
    "pager.format-patch": "{folder}/program",
    "submodule.recurse": "true",
    "user.email": "other@example.org",
    "user.name": "Somebody Else",
}  # fmt: skip
_ATTRIBUTES = (
    "* -diff", "* binary", "* diff=python", "* eol=crlf", "* ident", "* merge=union", "* text",
    "* whitespace=-trail", "* working-tree-encoding=UTF-16", "* -text diff", "* export-subst",
    "* diff=mine",
)  # fmt: skip

CONFIG = tuple(_CONFIG)
ATTRIBUTES = (*(f"info: {rule}" for rule in _ATTRIBUTES), "a work tree: * -diff")
ALL = (*CONFIG, *ATTRIBUTES)


class ForeignSettings:
    """Settings and attributes of a repository that can be made and taken back. The files that they
    name lie in ``folder``."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git = git
        self._folder = folder
        common = git("rev-parse", "--path-format=absolute", "--git-common-dir")
        self._config = Path(common) / "config"
        self._attributes = Path(common) / "info" / "attributes"
        self._before = self._config.read_bytes()
        program = folder / "program"
        program.write_text("#!/bin/sh\necho another text\n")
        program.chmod(0o755)
        (folder / "attributes").write_text("* diff=python\n")
        (folder / "order").write_text("*z*\n*m*\n")
        (folder / "mailmap").write_text("Somebody Else <other@example.org> <person@example.org>\n")
        git("notes", "--ref=mine", "add", "--force", "--message=a note", "HEAD")

    def make(self, *names: str) -> None:
        """Make the settings of these names."""
        text = ""
        rules = []
        for name in names:
            if name.startswith("info: "):
                rules.append(name.removeprefix("info: "))
            elif name.startswith("a work tree: "):
                (self._git.path / ".gitattributes").write_text(f"{name.partition(': ')[2]}\n")
            else:
                section, _, key = name.rpartition(".")
                section, _, sub = section.partition(".")
                head = f'[{section} "{sub}"]' if sub else f"[{section}]"
                text += f'{head}\n\t{key} = "{_CONFIG[name].format(folder=self._folder)}"\n'
        self._config.write_bytes(self._before + text.encode())
        self._attributes.parent.mkdir(exist_ok=True)
        self._attributes.write_text("".join(f"{rule}\n" for rule in rules))

    def take_back(self) -> None:
        """Make the repository as it was."""
        self._config.write_bytes(self._before)
        self._attributes.unlink(missing_ok=True)
        (self._git.path / ".gitattributes").unlink(missing_ok=True)


_CODE = "".join(
    f"def step_{n}(value):\n    if value:\n        return value + {n}\n\n    return {n}\n\n\n"
    for n in range(12)
)


def odd_commits(git: Git) -> list[str]:
    """Make commits whose patch files depend on a setting in one way or another. Returns their ids,
    oldest first."""
    git.commit(
        "base", a_py=_CODE, m_txt=NUMBERS, z__b_py="x\n\ny\n\nz\n", win_txt="a\r\nb\r\nc\r\n",
        **{"pïc": b"\0\1\2", "old name.txt": NUMBERS},
    )  # fmt: skip
    added = _CODE.replace("def step_5", "def new(value):\n    return 1\n\n\ndef step_5")
    moved = NUMBERS.replace("line 3\n", "").replace("line 20\n", "line 20\nline 3\n")
    commits = [
        git.commit("a: insert a function\n\nWhy.\n\n\tindented", a_py=added, z__b_py="x\n\nY\n\n"),
        git.commit(
            "m: two hunks near each other",
            m_txt=moved.replace("line 12\n", "line twelve\n").replace("line 22\n", "22\n"),
        ),
        git.commit(
            "Zoë's change of everything, in a subject that is so long that a mail has to fold it",
            **{"pïc": b"\0\3\2", "old name.txt": None, "new name.txt": NUMBERS + "more\n"},
            win_txt="a\r\nB\r\nc \r\n",
        ),
    ]
    git("update-index", "--add", "--cacheinfo", f"160000,{commits[0]},module")
    git("commit", "--quiet", "--author=Zoë <zoe@example.org>", "-m", "add a submodule")
    git("update-index", "--cacheinfo", f"160000,{commits[1]},module")
    git("commit", "--quiet", "-m", "move a submodule")
    git("update-index", "--chmod=+x", "a.py")
    git("commit", "--quiet", "-m", "a: make it executable")
    git("rm", "--quiet", "--cached", "module")
    git("commit", "--quiet", "-m", "take the submodule away")
    git("reset", "--quiet", "--hard")
    return git("rev-list", "--reverse", f"{commits[0]}^..HEAD").split()
