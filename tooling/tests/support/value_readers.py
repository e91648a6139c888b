"""The readers of single values, of git's outputs, and of the answers of hosts and programs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from email.header import Header
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch as replaced

from github import GithubException, UnknownObjectException
from github.Requester import Requester

from fixtool import documents, interpreter, markdown, settings, text
from fixtool.documents import Field
from fixtool.errors import FixtoolError, Refused
from fixtool.git import trees
from fixtool.git.database import ObjectDatabase
from fixtool.git.names import check_ref, check_url
from fixtool.git.objects import Oid, Signature, parse_signature
from fixtool.git.repo import Output, Repo
from fixtool.github import client
from fixtool.github.model import (
    GitHubRepository,
    check_login,
    check_repository,
    find_repository,
)
from fixtool.github.push import PushRemote
from fixtool.history import _verdicts, log, tags
from fixtool.history.releases import releases_within
from fixtool.incoming.change import author_from
from fixtool.incoming.fork import read_range
from fixtool.incoming.sections import read_sections
from fixtool.judgement import manifest
from fixtool.profile import SGLANG
from fixtool.rebase import session
from fixtool.series import mail
from fixtool.series.diff import read_diff
from fixtool.series.facts import FactKind, read_fact
from fixtool.series.lines import Lines, lines_of
from fixtool.series.patch import is_slug, read_trailers, slugify
from fixtool.sources import index, source
from fixtool.sources.release import is_native
from fixtool.sources.resolve import version_of
from fixtool.text import public_url, redact
from fixtool.upstream import _checks, _commits, _hooks
from fixtool.verify import test_file
from fixtool.wheel import _manifest, _metadata
from support.reader import Reader, text_of

_SHA = "0123456789abcdef0123456789abcdef01234567"
_OTHER = "89abcdef0123456789abcdef0123456789abcdef"
_TREE = f"100644 blob {_SHA}\ta/b.py\x00100755 blob {_OTHER}\t\xc3\xbc x\0"
_RAW_DIFF = f":100644 100644 {_SHA} {_OTHER} M\0a.py\0:000000 100644 {'0' * 40} {_SHA} A\0b\0"
_COMMIT = (
    f"tree {_SHA}\nparent {_OTHER}\nauthor A B <a@b> 1700000000 +0530\n"
    "committer C <c@d> 1700000000 -0100\nencoding latin-1\n\nSubject\n\nBody\n"
)
_MANIFEST = {
    "line": "main", "base": _SHA, "onto": _SHA, "own_commits": 1, "patches": [
        {"slug": "fix", "subject": "s", "sha256": "0" * 64, "verdict": "clean", "commit": _SHA,
         "evidence": ["e"], "culprit": None},
        {"slug": "two", "subject": "s", "sha256": "0" * 64, "verdict": "absorbed", "commit": None,
         "evidence": [], "culprit": {"sha": _SHA, "author": "A", "date": "2026-01-02T03:04:05+01:00",
                                     "subject": "s (#1)", "pr": 1}}],
}  # fmt: skip
_PULL = {
    "number": 12, "html_url": "https://github.com/o/n/pull/12", "url": "https://api.github.com/x",
    "title": "t", "body": None, "state": "open", "labels": [{"name": "l"}], "merged_at": None,
    "assignees": [{"login": "a"}], "user": {"login": "u"}, "created_at": "2026-01-02T03:04:05Z",
    "merge_commit_sha": None, "submitted_at": "2026-01-03T00:00:00Z", "default_branch": "main",
    "full_name": "o/n", "fork": True, "archived": False, "source": {"full_name": "p/n"},
    "login": "me", "message": "m", "errors": [{"field": "f", "code": "c"}, "x"],
}  # fmt: skip
_METADATA = "Metadata-Version: 2.4\nName: sglang\nVersion: 0.5.23\nSummary: A\n B\n\nText\n"
_PROJECT = """\
[project]
name = "sglang"
dynamic = ["version"]
readme = "README.md"
license = {file = "LICENSE"}
requires-python = ">=3.10"
dependencies = ["torch>=2.9; python_version > '3.8'", "numpy"]
classifiers = ["Programming Language :: Python :: 3"]
authors = [{name = "A", email = "a@b.org"}]
urls = {Home = "https://example.org"}
scripts = {sglang = "sglang.cli:main"}
[project.optional-dependencies]
dev = ["pytest"]
[project.entry-points."x.y"]
z = "a:b"
[tool.setuptools.packages.find]
exclude = ["tests*"]
"""
_PIP = "global.index-url='https://u:p@host/simple'\n:env:.timeout='3'\ninstall.no-index='true'\n"
_FACTS = {
    "name": "cpython", "version": [3, 12], "threads": 0, "libc": ["glibc", "2.39"], "debug": False,
    "platform": "linux-x86_64",
}  # fmt: skip
_HEADS = f"ref: refs/heads/main\tHEAD\n{_SHA}\tHEAD\n{_SHA}\trefs/heads/x\n"
_PYTEST = "Ran 3 tests in 0.1s\n\nOK (skipped=1)\n===== 3 passed, 1 skipped in 0.12s =====\n"
_PUSH = "To x\n!\trefs/heads/x:refs/heads/x\t[rejected] (stale info)\nDone\n"


class GitWithAnswer(Repo):
    """A repository whose git answers every question with the same bytes."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        Repo.__init__(self, folder)
        self.answer = answer

    def _execute(self, *_: object, **__: object) -> Output:
        return Output(0, self.answer, self.answer.decode("utf-8", "replace"))


class _RemoteWithAnswer(GitWithAnswer, PushRemote):
    """The same, as a remote to push to."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        GitWithAnswer.__init__(self, folder, answer)
        self.url, self.branch = "https://example.org/x", "x"
        self.github = GitHubRepository("https://api.github.com", "https://github.com", "o/n")

    def _ask_remote(self, *_: object) -> Output:
        return self._execute()


class ValueReaders:
    """These readers. They write what they are given into the folder ``place``."""

    def __init__(self, place: Path) -> None:
        self._place = place / "values"
        (self._place / "objects").mkdir(parents=True)
        self._manifest = manifest.read_manifest(Field(_MANIFEST))

    def all(self) -> list[Reader]:
        return [*self._texts(), *self._of_git(), *self._of_others()]

    def _texts(self) -> list[Reader]:
        return [
            Reader("quoted-path", self.quoted_path, (b'"a/\\303\\274 \\"x\\"" "b/\\303\\274 \\"x\\""', b"a/x b/x")),
            Reader("encoded-word", self.encoded_word, (b"=?utf-8?b?w6Q=?= =?utf-8?q?=C3=A4?= x", "ä b".encode())),
            Reader("charset", self.charset, (b"utf-8\nx", b"iso-8859-1\n\xe4", b"shift_jis\n\x82\xa0", b"gb18030\nx")),
            Reader("date", self.date, (b"Fri, 2 Jan 2026 03:04:05 +0100", b"2 Jan 26 3:4 EST", b"31 Feb 2026 0:0")),
            Reader("address", self.address, (b'"A \\"B\\"" <a@b.org>', b"a@b.org (A B)", b"a@b.org")),
            Reader("trailers", self.trailers, (b"Why.\n\nFixes: x\nDepends-On: a, b\n c\nBug: http://x/pull/1",)),
            Reader("fact-value", self.fact_value, (f'{_SHA} ("[x] y (#12)"), #12, 0.5.23'.encode(), b"commit:abcdef1, none")),
            Reader("version", self.version, (b"0.5.23", b"v1.0rc1.post2.dev3+local.1", b"1!2.0")),
            Reader("ref", self.ref, (b"v0.5.23", b"feature/x", b"main@{1}", b"HEAD~2")),
            Reader("url", self.url, (b"https://user:secret@example.org/x.git", b"git@host:o/n.git", b"ext::sh")),
            Reader("span", self.span, (b"0.5.12..0.5.23", b"..", b"0.5.12..")),
            Reader("repository-name", self.repository_name, (b"owner/name", b"git@github.com:o/n.git", b"https://t@github.com/o/n")),
            Reader("commit-subject", self.commit_subject, (b'Revert "[Fix] x (#12)" (#13)\nThis reverts commit 0123456789.\nReverts a/b#12', b"[Fix] re-land #12: x")),
            Reader("slug", self.slug, (b"gemma4: give X its Y", b"a-b.c")),
            Reader("environment", self.environment, (b"timeout\n12.5", b"project\nsglang", b"url\nhttps://x")),
            Reader("option", self.option, (b"A B <a@b.org>", b"main..HEAD~2", b"o/n")),
            Reader("marker", self.marker, (b"<!-- fixtool rebase-issue 1 a=b c=d/e,f -->\nx",)),
            Reader("wheel-name", self.wheel_name, (b"sglang-0.5.23-cp310-abi3-manylinux_2_34_x86_64.whl", b"sglang-0.5.23.tar.gz")),
            Reader("shown", self.shown, (b"\x1b[31mred\x1b]0;t\x07\n##[x]\n::error::y", "\u202eabc".encode())),
            Reader("hunk-places", self.hunk_places, (b"a\nb\n\0a\nb\nc\na\nb\n",)),
        ]  # fmt: skip

    def _of_git(self) -> list[Reader]:
        batch = f"{_SHA} blob 3\nabc\n{_OTHER} commit {len(_COMMIT)}\n{_COMMIT}\n"
        return [
            Reader("git-ls-tree", self.git(lambda repo: (trees.list_tree(repo, "x"), trees.list_folders(repo, "x", "a"), trees.missing_files(repo, "x"))), (_TREE.encode("latin-1"),)),
            Reader("git-diff-tree", self.git(lambda repo: trees.changed_files(repo, "a", "b")), (_RAW_DIFF.encode(),)),
            Reader("git-changed-paths", self.git(lambda repo: trees.changed_paths(repo, [Oid(_SHA), Oid(_OTHER)])), (f"{_SHA}\0:100644 100644 {_SHA} {_OTHER} M\0a.py\0{_OTHER}\0".encode(),)),
            Reader("git-similar", self.git(self._similar), (f"C075\told/{_SHA}\tnew/{_OTHER}\n".encode(),)),
            Reader("git-merge-tree", self.git(self._merge), (f"{_SHA}\0a.py\0b.py\0".encode(), _SHA.encode())),
            Reader("git-cat-file", self.git(self._blobs), (batch.encode(),)),
            Reader("git-sizes", self.git(lambda repo: repo.sizes([Oid(_SHA)])), (f"{_SHA} 12\n{_OTHER} 3\n".encode(),)),
            Reader("git-commit", self.git(lambda repo: repo.read_commit(Oid(_SHA))), (_COMMIT.encode(),)),
            Reader("git-ids", self.git(self._ids), (f"{_SHA}\n".encode(),)),
            Reader("git-commit-and-tree", self.git(self._commits), (f"{_SHA} {_OTHER}\n".encode(),)),
            Reader("git-status", self.git(lambda repo: repo.status()), (b" M a.py\0?? b.py\0",)),
            Reader("git-numstat", self.git(self._numstat), (b"1\t2\ta.py\0-\t-\tb\0",)),
            Reader("git-remotes", self.git(lambda repo: source._remote_of(repo, "https://x")), (b"remote.origin.url\nhttps://x\0",)),
            Reader("git-tags", self.git(self._tags), (b"v0.5.23\nv0.5.24rc1\ngateway-v1\n",)),
            Reader("git-log-of-tree", self.git(lambda repo: manifest._read_log(repo, "x")), (f"{_SHA}\0A <a@b> 1 +0000\0s\n".encode(),)),
            Reader("git-ls-remote", self.remote, (_HEADS.encode(), _PUSH.encode())),
            Reader("git-rerere", self.rerere, (f"{_SHA}\ta.py\0{_OTHER}.1\tb.py\0".encode(),)),
            Reader("sections", self.sections, (b"diff --git a/x b/x\nindex 1234..5678\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
                   b"--- x.orig\t2026-01-01 00:00:00\n+++ x\n@@ -0,0 +1 @@\n+b\n", b'diff --git "a/\\303\\274" "b/\\303\\274"\nrename from a b\nrename to c\n')),
            Reader("places-in-diff", lambda raw: _commits._places(raw, "a.py"), (b"diff --git a/a.py b/a.py\n@@ -1 +1 @@ def f():\n+def g():\n",)),
        ]  # fmt: skip

    def _of_others(self) -> list[Reader]:
        pull = json.dumps(_PULL).encode()
        return [
            Reader("github-answer", self.github, (b"200\n\n" + pull, b"200\n\n[" + pull + b"]", b"403\nretry-after: 3\n" + pull,
                   b"422\n\n{}", b"429\nx-ratelimit-remaining: 0|x-ratelimit-reset: 17\n{}"), slow=True),
            Reader("pip-config", self.pip_config, (_PIP.encode(), b"install.no-index='false'\n")),
            Reader("interpreter", self.interpreter, (json.dumps(_FACTS).encode(),)),
            Reader("wheel-metadata", self.wheel_metadata, (_METADATA.encode(), b"Name: x\r\nDescription: a\r\n  b\r\n\r\n")),
            Reader("wheel-plan", self.wheel_plan, (_PROJECT.encode(),), slow=True),
            Reader("native-file", lambda raw: is_native(raw), (b"\x7fELF\2\1" + bytes(12) + b">\0", b"MZ" + bytes(58) + b"@\0\0\0PE\0\0")),
            Reader("manifest", self.manifest, (json.dumps(_MANIFEST).encode(),)),
            Reader("verdict-cache", self.own(_verdicts._read_states), (b'{"k": [["clean", ["e"]]]}',)),
            Reader("file-cache", self.own(_verdicts._read_outcomes),
                   (b'{"k": [true, null, ["e"], false, true, false, true]}',)),
            Reader("check-cache", self.own(documents.written(_checks._Ran)), (b'{"hooks": [], "tests": [], "changed": []}',)),
            Reader("test-output", lambda raw: (test_file.counts(text_of(raw)), _hooks._in_one_line(text_of(raw))), (_PYTEST.encode(),)),
            Reader("commit-text", self.commit_text, (b"area: do it\n\nWhy. /home/me/x token=ghp_abcdefghij0123456789abcdefghij012345",)),
        ]  # fmt: skip

    def _file(self, raw: bytes) -> Path:
        path = self._place / "input"
        path.write_bytes(raw)
        return path

    # -- single values -------------------------------------------------------------------------

    def quoted_path(self, raw: bytes) -> object:
        mode = b"\nold mode 100644\nnew mode 100755\n"
        quoted = b"".join(
            bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte
            for byte in raw
        )
        if raw:
            (file,) = read_diff(b'diff --git "a/%s" "b/%s"%s' % (quoted, quoted, mode), where="x")
            assert file.path == text_of(raw)
        return read_diff(b"diff --git " + raw.replace(b"\n", b" ") + mode, where="x")

    def encoded_word(self, raw: bytes) -> object:
        subject = " ".join(text.visible(raw.decode("utf-8", "replace")).split())[:300]
        mail_of = "From: A <a@b>\nDate: Fri, 2 Jan 2026 03:04:05 +0100\nSubject: {}\n\n"
        encoded = mail_of.format(Header(subject, "utf-8").encode())
        if subject:
            assert mail.read_mail(encoded.encode(), "x").subject == subject
        return mail.read_mail(mail_of.encode().replace(b"{}", raw), "x")

    def charset(self, raw: bytes) -> object:
        charset, _, body = raw.partition(b"\n")
        head = b"From: A <a@b>\nDate: Fri, 2 Jan 2026 03:04:05 +0100\nSubject: x\nContent-Type: text/plain; charset="
        return mail.read_mail(head + charset + b"\n\n" + body, "x")

    def date(self, raw: bytes) -> object:
        date = mail.read_date(text_of(raw))
        if date is not None:
            signature = Signature("A", "a@b", date)
            assert parse_signature(str(signature)) == signature
            assert signature.day
        return date

    def address(self, raw: bytes) -> object:
        name, address = mail.split_address(text_of(raw))
        assert not re.search(r"[<>\s]", address)
        return mail.fits_commit(name)

    def trailers(self, raw: bytes) -> object:
        found = read_trailers(text_of(raw))
        again = "\n".join(f"{key}: {value}" for key, value in found)
        assert read_trailers(f"x\n\n{again}") == found
        return found

    def fact_value(self, raw: bytes) -> object:
        for kind in FactKind:
            fact = read_fact(kind, text_of(raw))
            assert read_fact(kind, fact.value) == fact
        return fact.in_release("0.5.23"), fact.names(_SHA)

    def version(self, raw: bytes) -> object:
        name = text_of(raw)
        tags.tag_version(name)
        if (release := version_of(name)) is not None:
            assert version_of(release) == release
        return index.parse_version(name)

    def ref(self, raw: bytes) -> object:
        ref = check_ref(text_of(raw))
        assert not ref.startswith("-")
        assert not re.search(r"[\s\0]", ref, re.ASCII)
        return ref

    def url(self, raw: bytes) -> object:
        url = text_of(raw)
        assert public_url(public_url(url)) == public_url(url)
        redact(url, "token")
        return check_url(url)

    def span(self, raw: bytes) -> object:
        return releases_within(text_of(raw), ("0.5.12", "0.5.13rc1", "0.5.13"))

    def repository_name(self, raw: bytes) -> object:
        name = text_of(raw)
        with suppress(FixtoolError):
            find_repository({"GITHUB_API_URL": name})
        with suppress(FixtoolError):
            find_repository({"GITHUB_REPOSITORY": "o/n", "GITHUB_SERVER_URL": name})
        with suppress(FixtoolError):
            find_repository({}, name)
        with suppress(FixtoolError):
            check_login(name)
        return check_repository(name)

    def commit_subject(self, raw: bytes) -> object:
        subject, _, body = text_of(raw).partition("\n")
        return log.reverted(subject, body), log.restored(subject), log.upstream_pull(subject)

    def slug(self, raw: bytes) -> object:
        slug = slugify(text_of(raw))
        assert is_slug(slug)
        return slug

    def environment(self, raw: bytes) -> object:
        name, _, value = text_of(raw).partition("\n")
        return settings.load(None, {"HOME": "/home/x", f"FIXTOOL_{name.upper()}": value})

    def option(self, raw: bytes) -> object:
        """Values of options that a module parses: an author, a range, a title."""
        value = text_of(raw)
        with suppress(FixtoolError):
            author = author_from(value, "1 +0000")
            assert parse_signature(str(author)).email == author.email
        repo = cast(Any, SimpleNamespace(borrow=lambda _: None))
        with suppress(Refused):  # git's answer says that the commit is a merge
            read_range(repo, GitWithAnswer(self._place, _SHA.encode()), value)
        return None

    def marker(self, raw: bytes) -> object:
        return markdown.read_marker(text_of(raw), "rebase-issue")

    def wheel_name(self, raw: bytes) -> object:
        listing = index._Listing()
        index._add(listing, "sglang", text_of(raw), "https://x/y", None, None)
        for wheel in listing.wheels.values():
            assert "/" not in wheel.filename
        return listing.versions

    def shown(self, raw: bytes) -> object:
        whole = text_of(raw)
        for shown in (text.printable(whole), text.visible(whole), text.without_controls(whole)):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
            shown.encode()
        return None

    def hunk_places(self, raw: bytes) -> object:
        """The lines of a hunk in a file, against the plain way of looking for them."""
        wanted, _, whole = text_of(raw).partition("\0")
        hunk, lines = lines_of(wanted)[:20], lines_of(whole)
        found = Lines(whole).places(hunk)
        if hunk and len(lines) < 200:
            plain = [at for at in range(len(lines)) if lines[at : at + len(hunk)] == hunk]
            assert found == plain
            assert Lines(whole)._places_in_one_pass(hunk) == plain
        return found

    # -- what git answers ----------------------------------------------------------------------

    def git(self, read: Callable[[Repo], object]) -> Callable[[bytes], object]:
        return lambda raw: read(GitWithAnswer(self._place, raw))

    @staticmethod
    def _similar(repo: Repo) -> object:
        pair = (Oid(_SHA), Oid(_OTHER))
        with replaced.object(trees, "write_trees", lambda *_: [Oid(_SHA)] * 2):
            return trees.similar_blobs(repo, [pair, pair])

    @staticmethod
    def _merge(repo: Repo) -> object:
        with replaced.object(ObjectDatabase, "flush", lambda _: None):
            return ObjectDatabase(repo).merge_three_way(Oid(_SHA), Oid(_SHA), Oid(_SHA))

    @staticmethod
    def _blobs(repo: Repo) -> object:
        ids = [Oid(_SHA), Oid(_OTHER)]
        with suppress(FixtoolError):  # which takes another form of the answer
            repo.lacks(ids)
        return repo.commits_here(ids), list(repo.read_blobs(ids))

    @staticmethod
    def _ids(repo: Repo) -> object:
        answers = [
            repo.commit_id("x"), repo.tree_id("x"), repo.ref("x"),
            repo.write_commit(SimpleNamespace(raw=b"")),
        ]  # fmt: skip
        assert all(answer is None or re.fullmatch("[0-9a-f]{40}", answer) for answer in answers)
        return answers

    @staticmethod
    def _commits(repo: Repo) -> object:
        if (commit := repo.commit_id(_SHA)) is None:
            return None
        answers = [commit, repo.tree_id(commit), *repo.candidates("0123456")]
        assert all(re.fullmatch("[0-9a-f]{40}", answer) for answer in answers)
        return answers

    @staticmethod
    def _numstat(repo: Repo) -> object:
        with replaced.object(_commits, "changed_files", lambda *_: []):
            return _commits._files(repo, "a", "b", b"")

    @staticmethod
    def _tags(repo: Repo) -> object:
        local = source.Local.__new__(source.Local)
        local.clone = repo
        found = tags.release_tags(local)
        return found and found.first(Oid(_SHA))

    def remote(self, raw: bytes) -> object:
        remote = _RemoteWithAnswer(self._place, raw)
        remote._complaint(Output(1, raw, text_of(raw)))
        return remote.heads()

    @staticmethod
    def sections(raw: bytes) -> object:
        lines = raw.split(b"\n")
        end = 0
        for section in read_sections(lines):
            assert end <= section.first < section.end <= len(lines)
            end = section.end
            for strip in (0, 1, 2):
                section.path(strip), section.reversed().source(strip)
        return None

    def rerere(self, raw: bytes) -> object:
        (self._place / "MERGE_RR").write_bytes(raw)
        return session._conflicts(GitWithAnswer(self._place, raw))

    # -- hosts and programs --------------------------------------------------------------------

    def github(self, raw: bytes) -> object:
        status, headers, data = (*raw.split(b"\n", 2), b"", b"")[:3]
        fields = (line.partition(": ") for line in headers.decode("latin-1").split("|"))
        hub = client.GitHub(
            GitHubRepository("https://api.github.com", "https://github.com", "o/n", "t")
        )
        calls = [
            hub.default_branch, hub.login, hub.info, lambda: hub.pull_request_status(1),
            lambda: hub.pull_requests("x"), lambda: hub.issues("x"), lambda: hub.comments(1),
            lambda: hub.create_pull_request("h", "b", "t", "x"), lambda: hub.assign(1, ["a"]),
        ]  # fmt: skip
        with _github_answers(status, {name: value for name, _, value in fields}, data):
            for call in calls:
                with suppress(FixtoolError):
                    call()
        return None

    def pip_config(self, raw: bytes) -> object:
        answer = raw.decode("utf-8", "replace")
        pip = SimpleNamespace(communicate=lambda: (answer, ""), returncode=0)
        with replaced.object(index.subprocess, "Popen", lambda *_, **__: nullcontext(pip)):
            return index._pip_config.__wrapped__(())

    def interpreter(self, raw: bytes) -> object:
        done = subprocess.CompletedProcess([], 0, raw.decode("utf-8", "replace"), "")
        with (
            replaced.object(interpreter, "run", lambda *_, **__: done),
            replaced.object(interpreter, "absolute", lambda python: python),
        ):
            return interpreter.interpreter_tags("x")

    def wheel_metadata(self, raw: bytes) -> object:
        return _manifest.describe(raw, self._manifest)

    def wheel_plan(self, raw: bytes) -> object:
        names = ("pyproject.toml", "README.md", "LICENSE", "sglang/a.py", "tests/b.py")
        listing = "".join(
            f"100644 blob {number:040x}\tpython/{name}\0" for number, name in enumerate(names)
        )
        repo = GitWithAnswer(self._place, listing.encode())
        blobs = {Oid(f"{0:040x}"): raw}
        read = lambda ids: iter([blobs.get(blob, b"x\n") for blob in ids])  # noqa: E731
        with replaced.object(repo, "read_blobs", read):
            return _metadata.plan_from_tree(repo, "x", "0.5.23")

    def manifest(self, raw: bytes) -> object:
        read = manifest.read_manifest(Field(documents.load(self._file(raw))))
        assert manifest.read_manifest(Field(json.loads(json.dumps(asdict(read))))) == read
        assert read.digest
        return read

    def own(self, read: Callable[[Field], object]) -> Callable[[bytes], object]:
        return lambda raw: documents.read_own(self._file(raw), read)

    def commit_text(self, raw: bytes) -> object:
        whole = text_of(raw)
        names = re.compile("fork", re.IGNORECASE)
        commit = cast(Any, SimpleNamespace(slug="fix", title=whole.partition("\n")[0]))
        return (
            list(_checks.search_line(whole, "x", names)),
            list(_checks._search_active_text(whole, "x")),
            list(_checks._search_title(commit, "x", SGLANG)),
        )


@contextmanager
def _github_answers(status: bytes, headers: Mapping[str, str], data: bytes) -> Iterator[None]:
    """GitHub answers every request with this status, these headers and this JSON, at once."""
    code = int(status) if re.fullmatch(rb"[1-5][0-9][0-9]", status) else 200
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = {"data": text_of(data)}

    def answer(*_: object, **__: object) -> tuple[Mapping[str, str], Any]:
        if code >= 400:
            kind = UnknownObjectException if code == 404 else GithubException
            raise kind(code, value, dict(headers))
        return headers, value

    with (
        replaced.object(Requester, "requestJsonAndCheck", answer),
        replaced.object(client.time, "sleep", lambda _: None),
    ):
        yield
