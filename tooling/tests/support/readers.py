"""Every reader of texts that others write, as a function of bytes, with seeds for a fuzzer.

A reader answers: it returns a value, or raises FixtoolError. Any other exception is a fault. Some
readers also check what comes out, with ``assert``.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from markdown_it import MarkdownIt

from fixtool import documents, markdown, text
from fixtool.announce.outcome import load_history, read_outcome
from fixtool.announce.text import NightlyTexts, annotate
from fixtool.apply.home import home_at
from fixtool.apply.worktree import read_record
from fixtool.documents import Field
from fixtool.edit import parked, waiting
from fixtool.errors import FixtoolError
from fixtool.git.objects import Oid, parse_signature
from fixtool.git.repo import Output, Repo
from fixtool.git.store import Store
from fixtool.history import log
from fixtool.history.result import HistoryDocument
from fixtool.incoming.inputs import read_inputs
from fixtool.incoming.read import Given, read_paths
from fixtool.install import record
from fixtool.judgement.covered import read_coverage
from fixtool.operations.log import Log
from fixtool.operations.state import describe
from fixtool.profile import SGLANG
from fixtool.rebase.session import load_session
from fixtool.replay.verdict import read_patch_result
from fixtool.report.page import html
from fixtool.report.page import markdown as report_page
from fixtool.series import commit, mail, shelf
from fixtool.series.context import Context
from fixtool.series.diff import read_diff
from fixtool.series.facts import FactKind, RecordedFact, fact_trailers
from fixtool.series.line import Line, PatchRepository, read_series, read_upstream
from fixtool.series.lint import lint
from fixtool.series.patch import is_slug, parse, slugify
from fixtool.series.paths import rules_touched, unsafe_paths
from fixtool.series.trailers import with_fact
from fixtool.series.write import moved_toml, series_text
from fixtool.settings import Settings, load
from fixtool.sources import index
from fixtool.sources.index import PipConfig
from fixtool.sources.release import Release, open_wheel, safe_members
from fixtool.upstream import _figures, _hooks, _template
from fixtool.verify import bundle, suite
from fixtool.verify._render import junit
from fixtool.verify._render import markdown as verify_page
from fixtool.verify.proof import exit_code, prove
from fixtool.verify.result import Result, read_kept, read_result
from fixtool.wheel import _metadata
from fixtool.wheel.build import BuiltWheel
from support import report_example as example
from support.reader import Reader, text_of
from support.value_readers import ValueReaders

_SHA = "0123456789abcdef0123456789abcdef01234567"
_INSTALLED = b"a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\r\na/RECORD,,\r\n"
_UPSTREAM = (
    f'why = "a \\"line\\""\nurl = "https://example.org/x.git"\nbase = "{_SHA}"\ntree = "{_SHA}"\n'
    'version = "0.5.23"\ndate = "2026-05-23"\n'
)
_MAIL = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: =?UTF-8?q?Zo=C3=AB?= Person <zoe@example.org>
Date: Fri, 2 Jan 2026 03:04:05 +0100
Subject: [PATCH] area: fix =?utf-8?b?w6Q=?= and
 more
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit

Why it is so, for @nobody.

    indented `code`

Origin: vendor,
 continued
Fixes: 4c0ce0345b1f4c0ce0345b1f4c0ce0345b1f4c0c (#25284), 0.5.13
Applied-Upstream: 89ff2bc1115c, #26026, none
Depends-On: other, third
Probe: probes/fix.py --x 'a b'
Signed-off-by: Zoe <zoe@example.org>
"""
_DIFF = """\
diff --git a/python/model.py b/python/model.py
index 0123456789012345678901234567890123456789..1123456789012345678901234567890123456789 100644
--- a/python/model.py
+++ b/python/model.py
@@ -17,4 +17,4 @@ line 16
 line 17
 line 18
-line 19
+line 19 fixed
 line 20
\\ No newline at end of file
@@ -30 +30,2 @@
 line 30
+line 31
diff --git "a/\\303\\274 \\"x\\"" "b/\\303\\274 \\"x\\""
new file mode 100755
index 0000000..1234567
--- /dev/null
+++ "b/\\303\\274 \\"x\\""
@@ -0,0 +1 @@
+new
diff --git a/old name b/new name
similarity index 90%
rename from old name
rename to new name
diff --git a/gone b/gone
deleted file mode 120000
index 1234567..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-target
\\ No newline at end of file
diff --git a/b.png b/b.png
index 1234567..89abcde 100644
GIT binary patch
literal 4
LcmZQzWMT#Y01f~L

literal 0
HcmV?d00001

diff --git a/run b/run
old mode 100644
new mode 100755
"""
_PYPROJECT = """\
[project]
name = "sglang"
dynamic = ["version"]
readme = "README.md"
dependencies = ["torch>=2.9", "numpy"]
[tool.setuptools.packages.find]
exclude = ["tests*"]
[tool.setuptools_scm]
version_file = "sglang/_version.py"
[[tool.setuptools-rust.ext-modules]]
target = "sglang._core"
"""
_CHECKS = """\
[[check]]
name = "routing"
script = "probes/fix.py"
args = ["--x"]
needs = "gpu"
timeout = 60
[bundle]
python = "3.12"
requirements = "requirements.txt"
drop = ["*.so"]
[bundle.lines.main]
capability = "9.0"
"""
_MUTANTS = """\
[[mutant]]
name = "m"
patch = "fix"
what = "breaks it"
killer = "probe"
[[mutant.edit]]
files = ["a.py"]
find = "a(.*)b"
replace = "c"
"""
_HOOKS = """\
default_stages: [pre-commit, pre-push]
repos:
  - repo: https://github.com/psf/black-pre-commit-mirror
    rev: 24.10.0
    hooks:
      - id: black
        args: [--line-length=100]
        additional_dependencies: [x==1]
  - repo: local
    hooks:
      - {id: own, language: script, entry: ./x, stages: [manual]}
"""
_TEMPLATE = """\
<!-- a comment -->
## Motivation

<!-- say why -->

## Modifications
```
# code
```
## Checklist

- [ ] Format your code according to the [guide](x).
- [ ] Add unit tests.
"""
_LOG = (
    f"\x01{_SHA}\0{_SHA}\0A Person\x002026-01-02T03:04:05+01:00\0"
    'Reapply "[Fix] x (#12)" (#13)\0This reverts commit 0123456789.\nReverts a/b#12\n\0'
    f"\n:100644 100644 {_SHA} {_SHA} M\0a.py\0:100644 000000 {_SHA} {_SHA} D\0b.py\0"
)
_INDEX = """\
<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head><body>
<a href="../sglang-0.5.23-py3-none-any.whl#sha256=DIGEST" data-requires-python="&gt;=3.10">sglang-0.5.23-py3-none-any.whl</a>
<a href="sglang-0.5.22.tar.gz">sglang-0.5.22.tar.gz</a></body></html>
""".replace("DIGEST", "0" * 64)


_PROSE = f'''why = """
base = "of the line"
"""
{_UPSTREAM.partition(chr(10))[2]}'''
_SHELF = f"""\
# kept
[[patch]]
slug = "fix"
why = "a \\"reason\\""
base = "{_SHA}"
verdict = "absorbed"
upstream = "{_SHA}"
"""
_KERNEL = {
    "peer": "p", "peers": ["p"], "device": "GPU", "torch": "2", "triton": "3", "patch": "one",
    "files": {"ours": "b" * 40, "p@1": "c" * 40},
    "points": [{"part": "bfloat16", "T": 1, "E": 128, "K": 8, "us": {"ours": [1.0], "p": [2.0]}}],
}  # fmt: skip
_SERVER = {
    "patch": "one", "device": "GPU", "layers": 30, "boots": [1, 2],
    "contenders": {"series": {"python_tree": _SHA}, "fixes": {"python_tree": "b"}},
    "summary": {"decode": {"1": {"fixes": {"median": 1.0}, "series": {"median": 2.0}}},
                "routing": {"1": {"series": {"share_percent": 1.5}}}},
}  # fmt: skip
_RECORD = {
    "line": "main", "patches": "/x", "base": _SHA, "onto": _SHA, "commit": _SHA, "branch": "fixtool/x",
    "version": "0.5.23", "release": None, "commits": {"fix": _SHA}, "moving_to": None, "proposal": None,
    "manifest": {"line": "main", "base": _SHA, "onto": _SHA, "patches": [
        {"slug": "fix", "subject": "s", "sha256": "0" * 64, "verdict": "clean", "commit": _SHA,
         "evidence": [], "culprit": None}], "own_commits": 0},
}  # fmt: skip
_HALF = {
    "files": {"main/fix.patch": "a" * 64, "/pyproject.toml": f"{'b' * 64}+x"},
    "branch": {"name": "refs/heads/main", "commit": _SHA}, "waiting": {"rebase/main": "c" * 64},
    "trees": {"/x/tree": {
        "store": "x.git", "head": _SHA, "branch": "refs/heads/fixtool/x", "record": "d" * 64,
        "note": None, "files": _SHA, "index": "e" * 64, "git_files": {"MERGE_MSG": "f" * 64},
        "branches": {"refs/heads/fixtool/y": _SHA}}},
}  # fmt: skip
_OPERATION = {
    "number": 1, "time": "2026-01-02T03:04:05+00:00", "words": ["drop", "fix"], "patches": "/x",
    "before": _HALF, "after": {"files": {}, "branch": None, "waiting": {}, "trees": {}}, "exit_code": 0, "beyond": None, "standing": "done", "steps": [],
}  # fmt: skip
_WAITING = {"patches": "/x", "line": "main", "verb": "rebase"}
_SESSION = {
    "line": "main", "patches": "/x", "ref": "main", "onto": _SHA, "source": "git", "store": "/x/y.git",
    "worktree": "/x", "parent": _SHA, "slug": "fix", "position": 1, "of": 2, "conflicts": ["a.py"],
    "memory": [_SHA], "merged": _SHA, "unmerged": ["a.py"], "new_line": None, "probe": False, "python": None,
    "remembered": False,
    "resolved": {"one": _SHA}, "skipped": {"two": "why"}, "learned": {f"resolutions/{_SHA}.diff": "eA=="},
}  # fmt: skip
_IMPORTED = {"tree": _SHA, "notes": ["n"], "excluded": ["a"], "recorded": ["a (it lacks it)"]}
_IMPORT = {
    "line": "main", "source": "git", "base": _SHA, "before": "a", "number": 0, "parent": _SHA,
    "conflicts": ["a.py"], "fitted": _IMPORTED, "resolved": {"1": _IMPORTED}, "after": "",
    "replacing": False, "skip_empty": False, "split": "file",
    "fit": {"strip": None, "folder": "x", "exclude": ["t"], "three_way": True,
            "leave_out_missing": False},
    "changes": [{
        "subject": "s", "body": "b", "diff": "eA==", "where": "a.patch", "commit": None,
        "author": {"name": "A", "email": "a@b", "date": "1700000000 +0000"}, "notes": [],
        "strip": None, "reverse": False, "first_line": 1,
    }],
}  # fmt: skip
_EDIT = {
    "verb": "edit", "line": "main", "source": "git", "store": "y.git", "base": _SHA, "before": "a",
    "number": 0, "parent": _SHA, "step": 1, "conflicts": ["a.py"], "stop": None, "commit": True,
    "made": False, "after": "",
    "plan": {
        "wanted": [{
            "slug": "fix", "commit": _SHA, "old": "fix", "message": "s\n", "tree": _SHA,
            "author": {"name": "A", "email": "a@b", "date": "1700000000 +0000"}, "ends_in": _SHA,
            "then": [_SHA],
        }],
        "subject": "edit fix", "body": "", "names": {"old": ["fix"]}, "same_tree": True,
        "emptied": None, "files": {"shelf/old.patch": "eA=="}, "remove": ["shelf.toml"], "notes": [],
    },
}  # fmt: skip
_NOTE = {"message": "m", "folders": [
    {"folder": "/x/patches/main", "before": "a", "after": "b", "files": {"shelf/a.patch": "eA=="},
     "remove": ["a.patch"]}]}  # fmt: skip
_PATCH_RESULT = {
    "slug": "fix", "subject": "s", "verdict": "offset", "commit": _SHA, "evidence": ["x"],
    "files": [{"path": "a.py", "verdict": "offset", "hunks": [
        {"number": 1, "verdict": "offset", "written_for": 3, "line": 4, "offset": 1}]}],
}  # fmt: skip
_WHEEL_FILE = {"filename": "x-1-py3-none-any.whl", "url": "https://x/", "sha256": "0" * 64, "size": 1,
               "version": "1", "tags": ["py3-none-any"], "uploaded": None}  # fmt: skip
_RELEASE = {
    "version": "1", "commit": _SHA, "tree": _SHA, "files": 3, "published": "2026-01-02",
    "natives": [{"path": "a.so", "sha256": "0" * 64, "size": 9}], "wheel": _WHEEL_FILE,
    "wheels": [_WHEEL_FILE],
}  # fmt: skip
_WHEEL = {
    "path": "x-1-py3-none-any.whl", "version": "1", "sha256": "0" * 64, "size": 1, "reused": False,
    "natives_kept": ["a.so"], "natives_missing": [], "metadata_source": "x", "notes": ["n"],
    "manifest": None,
}  # fmt: skip


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _wheel() -> bytes:
    """A small wheel."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sglang/__init__.py", "x = 1\n")
        archive.writestr("sglang-0.5.23.dist-info/METADATA", "Name: sglang\nVersion: 0.5.23\n")
        archive.writestr("sglang-0.5.23.dist-info/RECORD", "")
    return file.getvalue()


def _tar() -> bytes:
    """A tar file with a patch and a series."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("x/series", "x/a.patch"):
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def _runner_result() -> dict[str, Any]:
    """What the runner of a bundle writes."""
    kept = example.result("text")
    about = {**{key: kept[key] for key in ("line", "ref", "source", "base", "onto", "patches", "kinds")},
             "missing": [{"name": "-one", "why": "w"}]}  # fmt: skip
    return {"schema": 1, "plan": about, "finished": True,
            **{key: kept[key] for key in ("environment", "trees", "steps", "started", "ended")}}  # fmt: skip


class Readers:
    """All readers. They write what they are given into the folder ``place``."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._root = place / "team"
        self._line = self._root / "patches/main"
        self._line.mkdir(parents=True)
        (self._root / "verify/probes").mkdir(parents=True)
        (self._root / "verify/mutants").mkdir()
        (self._root / "verify/probes/fix.py").write_text("")
        (self._root / "verify/requirements.txt").write_text("numpy==2.0\n")
        (self._line / "series").write_text("fix.patch\n")
        (self._line / "upstream.toml").write_text(_UPSTREAM)
        (self._line / "fix.patch").write_text(_MAIL + _DIFF)
        (place / "git").mkdir()
        settings = Settings(state=place / "state", cache=place / "cache")
        (settings.state / "rebase").mkdir(parents=True, mode=0o700)
        self._context = Context(PatchRepository(self._root), settings)
        self._report = example.report()
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    def all(self) -> list[Reader]:
        whole = (_MAIL + _DIFF).encode()
        results = (_json(example.result("text")), _json(_runner_result()))
        nightly = (
            _json(example.rebase(("one", "clean", "kept"), ("two", "conflict", "asked"))),
            _json(example.rebase(("one", "clean", "kept"), session=example.session("one"))),
            _json({**example.rebase(), "ok": False, "exit_code": 4,
                   "error": {"message": "m", "where": None, "hint": "h"}}),
        )  # fmt: skip
        histories = (
            _json(example.history(example.patch("one", ("clean", 3), ("conflict", 2)))),
            _json(example.history(releases={"versions": ["0.5.12"], "patches": [
                {"slug": "s", "subject": "s", "cells": [
                    {"version": "0.5.12", "verdict": "clean", "evidence": []}]}]})),
        )  # fmt: skip
        return [
            Reader("diff", self.diff, (_DIFF.encode(),)),
            Reader("diff-as-git", self.diff_as_git, (_DIFF.encode(),), slow=True),
            Reader("mail", self.mail, (_MAIL.encode(),)),
            Reader("patch", self.patch, (whole,)),
            Reader("lint", self.lint, (whole,)),
            Reader("fact", self.fact, (whole,)),
            Reader("series", lambda raw: read_series(raw, "x"), (b"# c\n\na.patch # x\n b-2.patch -p1\n",)),
            Reader("series-text", self.series_text, (b"# c\n\na.patch # x\n b-2.patch -p1\nc.patch\n",)),
            Reader("upstream-toml", self.upstream_toml, (_UPSTREAM.encode(), _PROSE.encode())),
            Reader("shelf", lambda raw: shelf.parse_shelf(raw, "x"), (_SHELF.encode(),)),
            Reader("settings", self.settings, (b'[tool.fixtool]\nsource = "git"\nproject = "sglang"\n',)),
            Reader("installed", lambda raw: record.parse(raw, "x"), (_INSTALLED,)),
            Reader("checks", self.checks, (_CHECKS.encode(),)),
            Reader("mutants", self.mutants, (_MUTANTS.encode(),)),
            Reader("pyproject", self.pyproject, (_PYPROJECT.encode(),)),
            Reader("hooks", self.hooks, (_HOOKS.encode(),), slow=True),
            Reader("template", self.template, (_TEMPLATE.encode(),)),
            Reader("result", self.result, results),
            Reader("figures", self.figures, (*results, _json(_KERNEL), _json(_SERVER))),
            Reader("history", self.history, histories),
            Reader("report", self.report, histories, slow=True),
            Reader("nightly", self.nightly, nightly),
            Reader("coverage", self.coverage, (_json(example.coverage()), _json(example.coverage_of_releases()))),
            Reader("record", self.record, (_json(_RECORD),)),
            Reader("session", self.session, (_json(_SESSION),)),
            Reader("operation", self.operation, (_json(_OPERATION),)),
            Reader("home", self.home, (_json(_WAITING),)),
            Reader("import-session", self.import_session, (_json(_IMPORT),)),
            Reader("edit-session", self.edit_session, (_json(_EDIT),)),
            Reader("note", self.note, (_json(_NOTE),)),
            Reader("cached-replay", self.own(read_patch_result), (_json(_PATCH_RESULT),)),
            Reader("cached-release", self.own(documents.written(Release)), (_json(_RELEASE),)),
            Reader("cached-wheel", self.own(documents.written(BuiltWheel)), (_json(_WHEEL),)),
            Reader("log", self.log, (_LOG.encode(),)),
            *ValueReaders(self._place).all(),
            Reader("signature", lambda raw: parse_signature(text_of(raw)).day, (b"A <a@b> 1700000000 +0530",)),
            Reader("index", self.index, (_INDEX.encode(),)),
            Reader("wheel", self.wheel, (_wheel(),)),
            Reader("markdown", self.markdown, (_TEMPLATE.encode(), example.HOSTILE.encode("utf-8", "replace"))),
            Reader("archive", self.archive, (_wheel(), _tar(), gzip.compress(_tar(), mtime=0), b"a.patch -p1\n")),
            Reader("import", self.imported, (whole, _DIFF.encode(), whole * 2), slow=True),
        ]  # fmt: skip

    def _file(self, raw: bytes, name: str = "input") -> Path:
        path = self._place / name
        path.write_bytes(raw)
        return path

    # -- a line --------------------------------------------------------------------------------

    def diff(self, raw: bytes) -> object:
        files = read_diff(raw, where="x")
        for file in files:
            assert file.paths
            rules_touched(file)
        return unsafe_paths(files)

    def diff_as_git(self, raw: bytes) -> object:
        """git finds no path in a diff that the reader does not find."""
        paths = [file.new_path or file.old_path for file in read_diff(raw, where="x")]
        repo = Repo(self._place)
        out = repo._execute(
            ["-C", str(self._place), "apply", "--numstat", "-z", "-"], stdin=raw, accept=None
        )
        if out.status == 0:
            rows = text_of(out.stdout).split("\0")[:-1]
            # git passes over a `diff --git` line with nothing below it.
            assert {row.split("\t", 2)[2] for row in rows} <= set(paths)
        return paths

    def mail(self, raw: bytes) -> object:
        read = mail.read_mail(raw, "x")
        assert "\n" not in read.subject
        assert not re.search(r"[<>\n\0]", f"{read.author.name}{read.author.email}")
        assert parse_signature(str(read.author)) == read.author
        return read.author.day

    def patch(self, raw: bytes) -> object:
        patch = parse(raw, "x")
        assert patch.head + patch.diff == raw
        assert is_slug(slugify(patch.subject))
        return patch.files, patch.trailers, patch.depends_on, patch.commit(Oid(_SHA), Oid(_SHA)).raw

    def lint(self, raw: bytes) -> object:
        (self._line / "fix.patch").write_bytes(raw)
        (self._line / "series").write_text("fix.patch\n")
        return lint(self._read_line())

    def fact(self, raw: bytes) -> object:
        patch = parse(raw, "x")
        fact_trailers(patch)
        fact = RecordedFact(FactKind.APPLIED, _SHA, 12, "0.5.23")
        if (edited := with_fact(patch, fact)) is not None:
            after = parse(edited, "x")
            assert (after.subject, after.diff, after.author) == (
                patch.subject,
                patch.diff,
                patch.author,
            )
        return None

    def _read_line(self) -> Line:
        repository = PatchRepository(self._root)
        return repository.line("main")

    def series_text(self, raw: bytes) -> object:
        (self._line / "series").write_bytes(raw)
        line = self._read_line()
        slugs = list(dict.fromkeys(entry.slug for entry in line.entries))
        for order in (slugs[1:], [*slugs[1:], "new"], list(reversed(slugs))):
            written = series_text(line, order)
            assert [entry.slug for entry in read_series(written, "x")] == order
        return None

    def upstream_toml(self, raw: bytes) -> object:
        upstream = read_upstream(raw, "x")
        moved = replace(
            upstream, base=Oid("f" * 40), version="9.9", release=None, date="2027-01-01"
        )
        assert read_upstream(moved_toml(raw, moved, "x"), "x") == moved
        return None

    # -- a patch repository --------------------------------------------------------------------

    def settings(self, raw: bytes) -> object:
        (self._root / "pyproject.toml").write_bytes(raw)
        return load(self._root, {"HOME": str(self._place)})

    def checks(self, raw: bytes) -> object:
        (self._root / "verify/checks.toml").write_bytes(raw)
        (self._root / "verify/mutants/m.toml").write_bytes(b"")
        return bundle.read_host_packages(suite.read_suite(self._context.repository), "main")

    def mutants(self, raw: bytes) -> object:
        (self._root / "verify/checks.toml").write_bytes(b"")
        (self._root / "verify/mutants/m.toml").write_bytes(raw)
        return suite.read_suite(self._context.repository)

    # -- upstream's tree and history -----------------------------------------------------------

    def pyproject(self, raw: bytes) -> object:
        tables = _metadata._ToolTables(Field(documents.parse_toml(raw, "x")))
        rule = _metadata._package_rule(tables.setuptools, "x")
        return tables.name, tables.version_file, tables.rust_modules, rule("sglang/a/b.py")

    def hooks(self, raw: bytes) -> object:
        config = _hooks._read(self._file(raw))
        for repo in config["repos"]:
            for hook in repo["hooks"]:
                _hooks._stages(hook, config)
            _hooks._local_hooks(repo, repo["hooks"])
        return json.dumps(config, default=str)

    def template(self, raw: bytes) -> object:
        whole = raw.decode("utf-8", "replace")[: _template._LARGEST]
        return _template.fill(whole, {"motivation": "x", "speed": "", "accuracy": "y"}, {}, SGLANG)

    def log(self, raw: bytes) -> object:
        def run(*args: str, **_: object) -> Output:
            return Output(0, raw if args[0] in ("log", "show") else b"", "")

        repo = cast(Any, SimpleNamespace(run=run, ahead_by=lambda *_: 1, git_dir=self._place))
        changes = log.first_parent_changes(repo, Oid(_SHA), Oid("f" * 40))
        return log.takes_and_reverts(changes, [_SHA[:9]], [12]), [
            item.commit.day for item in changes
        ]

    # -- documents -----------------------------------------------------------------------------

    def result(self, raw: bytes) -> object:
        path = self._file(raw, "result.json")
        results: list[Result] = []
        for read in (read_result, read_kept):
            with suppress(FixtoolError):
                results += filter(None, [read(path)])
        for result in results:
            matrix = prove(result)
            exit_code(result, matrix, require_gpu=True)
            self.require_harmless(verify_page(result, matrix), headings=1)
            junit(result, matrix).encode()
        return None

    def figures(self, raw: bytes) -> object:
        patch = parse((_MAIL + _DIFF).encode(), "one")
        content = _figures.ProposedContent(
            (patch,), frozenset({"b" * 40}), frozenset({_SHA}), frozenset()
        )
        figures = _figures._read_figures(self._file(raw, "2026-01-02.json"), content)
        return list(_figures._check_tables(
            ("x", figure) for figure in figures or () if isinstance(figure, _figures.CheckFigure)
        ))  # fmt: skip

    def history(self, raw: bytes) -> object:
        return load_history(self._file(raw))

    def report(self, raw: bytes) -> object:
        history = load_history(self._file(raw))
        if history is None:
            return None
        document = HistoryDocument(history.line, history, None)
        report = replace(self._report, line=history.line, history=document)
        self.require_harmless(report_page(report))
        return html(report)

    def nightly(self, raw: bytes) -> object:
        outcome = read_outcome(self._file(raw), "main")
        texts = NightlyTexts(outcome)
        for annotation in annotate(outcome):
            assert "\n" not in annotation
        self.require_harmless(texts.comment())
        self.require_harmless(texts.done())
        return texts.summary(), outcome.state

    def coverage(self, raw: bytes) -> object:
        return read_coverage(documents.load(self._file(raw)), "x")

    # -- files of fixtool's own ----------------------------------------------------------------

    def own(self, read: Callable[[Field], object]) -> Callable[[bytes], object]:
        return lambda raw: documents.read_own(self._file(raw), read)

    def record(self, raw: bytes) -> object:
        path = self._place / "git/fixtool.json"
        path.write_bytes(raw)
        return read_record(cast(Any, SimpleNamespace(git_dir=path.parent)))

    def session(self, raw: bytes) -> object:
        context = self._context
        name = f"{context.repository.digest[:10]}-main.json"
        (context.settings.state / "rebase" / name).write_bytes(raw)
        session = load_session(context, "main")
        assert session is None or Path(session.worktree).is_relative_to(context.settings.worktrees)
        assert session is None or Path(session.store).parent == context.settings.stores
        return session

    def operation(self, raw: bytes) -> object:
        log = Log(self._context.repository, self._context.settings)
        log.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (log.folder / "000001.json").write_bytes(raw)
        operation = log.read(1)
        return operation.command, describe(operation.before, operation.after)

    def home(self, raw: bytes) -> object:
        top = self._place / "home-tree"
        (top / ".git").mkdir(parents=True, exist_ok=True)
        (top / ".git/HEAD").write_text("ref: refs/heads/fixtool/x\n")
        (top / ".git/fixtool.waiting.json").write_bytes(raw)
        found = home_at(top)
        assert found is None or found.patches.is_absolute()
        return found

    def import_session(self, raw: bytes) -> object:
        context = self._context
        self._session_file("import").write_bytes(raw)
        return parked.load_session(context, "main")

    def edit_session(self, raw: bytes) -> object:
        context = self._context
        self._session_file(waiting.SESSION).write_bytes(raw)
        session = waiting.load_session(context, "main")
        store = context.settings.stores / session.store if session else None
        assert store is None or store.parent == context.settings.stores
        return session

    def _session_file(self, verb: str) -> Path:
        folder = self._context.settings.state / verb
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / f"{self._context.repository.digest[:10]}-main.json"

    def note(self, raw: bytes) -> object:
        def read(note: Field) -> object:
            return note["folders"].each(lambda entry: commit._read_rewrite(entry, self._root))

        return documents.read_own(self._file(raw), read)

    # -- hosts ---------------------------------------------------------------------------------

    def index(self, raw: bytes) -> object:
        page = self._file(raw, "index.html")
        before, index.pip_config = index.pip_config, lambda *_: PipConfig((), (page.as_uri(),))
        try:
            return index.find("sglang", "0.5.23")
        finally:
            index.pip_config = before

    def wheel(self, raw: bytes) -> object:
        with open_wheel(self._file(raw, "x-1.0-py3-none-any.whl")) as archive:
            return [
                archive.read(member)
                for member in safe_members(archive)
                if member.file_size < 1 << 20
            ]

    # -- texts ---------------------------------------------------------------------------------

    def markdown(self, raw: bytes) -> object:
        whole = text_of(raw)
        shown = text.printable(whole)
        assert text.printable(shown) == shown
        shown.encode()
        assert "\n" not in text.visible(whole)
        for made in (markdown.code(whole), markdown.inline(whole), markdown.code_block(whole)):
            self.require_harmless(made)
        self.require_harmless(markdown.prose(whole), lists=True)
        markdown.read_marker(whole, "rebase-issue")
        return None

    def archive(self, raw: bytes) -> object:
        """A set of patches, as a zip or tar file, or compressed, and a quilt series."""
        folder = self._place / "set"
        folder.mkdir(exist_ok=True)
        for name in ("x.zip", "x.tar", "x.tar.gz", "x.patch.xz"):
            (folder / name).write_bytes(raw)
            with suppress(FixtoolError):
                for item in read_inputs([folder / name]):
                    assert re.fullmatch(r"\d{1,12} \+0000", item.changed_at)
            (folder / name).unlink()
        (folder / "a.patch").write_bytes(b"")
        (folder / "series").write_bytes(raw)
        return read_inputs([folder])

    def imported(self, raw: bytes) -> object:
        store = Store.create(self._place / "x.git")
        return read_paths(store, [self._file(raw)], Given(date="2000-01-01 00:00:00 +0000"))

    def require_harmless(
        self, made: str, *, headings: int | None = None, lists: bool = False
    ) -> None:
        """Raise AssertionError if a page holds what GitHub acts on, or a control character."""
        made.encode()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", made)
        if len(made) > 2_000:  # the parser of the test is slow
            return
        tokens = self._markdown.parse(made)
        every = [part for token in tokens for part in (token, *(token.children or ()))]
        kinds = {part.type for part in every}
        active = {"html_inline", "html_block", "image", "blockquote_open", "hr"}
        assert not kinds & (active if lists else {*active, "ordered_list_open"})
        if headings is not None:
            assert sum(part.type == "heading_open" for part in every) == headings
        for part in every:
            if part.type == "text":
                assert not re.search(r"(?<![^\W_])@[A-Za-z0-9]", part.content), part.content
                assert not re.search(r"\b(closes|fixes) #\d", part.content, re.IGNORECASE)
