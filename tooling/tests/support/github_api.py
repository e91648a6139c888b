"""GitHub's API on this machine, for tests: the endpoints that fixtool uses, with GitHub's own forms,
pages, refusals and faults. It listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN = "ghs_0123456789abcdefTOKEN"
LIMIT = 65_536
Json = dict[str, Any]


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match ``METHOD path``: an answer with
    ``status``, or no answer if that is None; ``after`` the request is carried out, or instead."""

    request: str
    status: int | None = None
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    times: int = 1


@dataclass
class Api:
    """A repository's pull requests, issues and comments; ``log`` has ``METHOD path`` a request;
    ``forks`` are other repositories, by name, with what differs from a fork of this one; the
    token's owner is the first of ``users``."""

    url: str
    repository: str = "acme/fork"
    default_branch: str = "main"
    users: tuple[str, ...] = ("octocat", "hubot")
    pulls: list[Json] = field(default_factory=list)
    issues: list[Json] = field(default_factory=list)
    comments: dict[int, list[str]] = field(default_factory=dict)
    reviews: dict[int, list[Json]] = field(default_factory=dict)
    forks: dict[str, Json] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    per_page: int = 100
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def writes(self) -> list[str]:
        return [request for request in self.log if not request.startswith("GET")]

    def fail(self, request: str, status: int | None = None, message: str = "", **more: Any) -> None:
        self.faults.append(Fault(request, status, message, **more))

    def new_number(self) -> int:
        return 1 + len(self.pulls) + len(self.issues)

    def next_fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if re.search(fault.request, request):
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def add_issue(self, title: str, body: str, labels: list[str]) -> Json:
        number = self.new_number()
        issue = self._common("issues", number, title, body) | {"labels": _labels(labels)}
        self.issues.append(issue)
        return issue

    def add_pull(self, head: str, base: str, title: str, body: str) -> Json:
        number = self.new_number()
        owner = self.repository.partition("/")[0]
        whose, _, ref = head.rpartition(":")
        pull = self._common("pull", number, title, body) | {
            "head": {"ref": ref, "sha": "0" * 40, "label": f"{whose or owner}:{ref}"},
            "base": {"ref": base, "sha": "0" * 40, "label": f"{owner}:{base}"},
            "merged_at": None,
            "merge_commit_sha": None,
            "labels": [],
        }
        pull["url"] = f"{self.url}/repos/{self.repository}/pulls/{number}"
        self.pulls.append(pull)
        return pull

    def add_review(self, number: int, login: str, state: str, when: str) -> None:
        self.reviews.setdefault(number, []).append({
            "id": len(self.reviews), "user": _user(login), "body": "", "state": state,
            "submitted_at": when,
        })  # fmt: skip

    def _common(self, kind: str, number: int, title: str, body: str) -> Json:
        here = f"{self.url}/repos/{self.repository}"
        return {
            "id": 10_000 + number, "number": number, "title": title, "body": body, "state": "open",
            "state_reason": None, "url": f"{here}/issues/{number}",
            "html_url": f"https://github.com/{self.repository}/{kind}/{number}",
            "comments_url": f"{here}/issues/{number}/comments", "issue_url": f"{here}/issues/{number}",
            "user": _user("github-actions[bot]"), "assignees": [], "assignee": None,
            "created_at": "2026-11-23T02:43:00Z", "updated_at": "2026-11-23T02:43:00Z",
        }  # fmt: skip


def _labels(names: list[str]) -> list[Json]:
    return [{"id": n, "name": name, "color": "ededed"} for n, name in enumerate(names)]


def _user(login: str) -> Json:
    return {"login": login, "id": len(login), "type": "User"}


@contextmanager
def serve() -> Iterator[Api]:
    httpd = _Httpd(("127.0.0.1", 0), _Handler)
    httpd.api = Api(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield httpd.api
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Httpd(ThreadingHTTPServer):
    daemon_threads = True
    api: Api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection."""


class _Refused(Exception):
    def __init__(self, status: int, message: str, errors: list[Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        if errors:
            self.body["errors"] = errors


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: _Httpd

    @property
    def api(self) -> Api:
        return self.server.api

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: ``Api.log`` holds the requests."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.api.lock:
            request = f"{self.command} {parts.path}"
            self.api.log.append(request)
            fault = self.api.next_fault(request)
            if not fault or fault.after:
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                status, body, headers = self._carry_out(request, query, json.loads(sent or b"{}"))
            if not fault:
                self._send(status, body, headers)
            elif fault.status is None:
                self.close_connection = True
                self.connection.close()
            else:
                self._send(fault.status, {"message": fault.message}, fault.headers)

    do_POST = do_PATCH = do_GET

    def _carry_out(
        self, request: str, query: dict[str, str], sent: Any
    ) -> tuple[int, Any, dict[str, str]]:
        try:
            self._check_login()
            body = self._answer(request, query, sent)
        except _Refused as refused:
            return refused.status, refused.body, {}
        if isinstance(body, list):
            body, headers = self._page(body, query)
            return 200, body, headers
        return 201 if self.command == "POST" else 200, body, {}

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(data)),
            "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4990", **headers,
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _check_login(self) -> None:
        login = self.headers.get("Authorization")
        if login is None and self.command != "GET":
            raise _Refused(401, "Requires authentication")
        if login is not None and login.partition(" ")[2] != TOKEN:
            raise _Refused(401, "Bad credentials")

    def _page(self, rows: list[Json], query: dict[str, str]) -> tuple[list[Json], dict[str, str]]:
        size = min(int(query.get("per_page", "30")), self.api.per_page)
        page = int(query.get("page", "1"))
        headers = {}
        if len(rows) > page * size:
            url = f"{self.api.url}{urlsplit(self.path).path}"
            headers["Link"] = f'<{url}?{urlencode({**query, "page": page + 1})}>; rel="next"'
        return rows[(page - 1) * size : page * size], headers

    def _answer(self, request: str, query: dict[str, str], sent: Any) -> Any:
        here = re.escape(f"/repos/{self.api.repository}")
        routes: list[tuple[str, Callable[..., Any]]] = [
            (rf"GET {here}", self._repository),
            (r"GET /repos/([\w.-]+/[\w.-]+)", self._fork),
            (r"GET /user", lambda query, sent: _user(self.api.users[0])),
            (rf"GET {here}/pulls/(\d+)/reviews", self._reviews),
            (rf"(?:GET|POST) {here}/pulls", self._pulls),
            (rf"(?:GET|PATCH) {here}/(?:pulls|issues)/(\d+)", self._thread),
            (rf"(?:GET|POST) {here}/issues", self._issues),
            (rf"POST {here}/issues/(\d+)/labels", self._label),
            (rf"POST {here}/issues/(\d+)/assignees", self._assign),
            (rf"(?:GET|POST) {here}/issues/(\d+)/comments", self._comments),
        ]
        for form, answer in routes:
            if match := re.fullmatch(form, request):
                return answer(query, sent, *match.groups())
        raise _Refused(404, "Not Found")

    def _repository(self, query: Any, sent: Json) -> Json:
        return {"full_name": self.api.repository, "name": "fork", "fork": False, "archived": False,
                "default_branch": self.api.default_branch}  # fmt: skip

    def _fork(self, query: Any, sent: Json, wanted: str) -> Json:
        for name, more in self.api.forks.items():
            if name.lower() == wanted.lower():
                root = {"full_name": self.api.repository}
                return {"full_name": name, "default_branch": "main", "fork": True,
                        "archived": False, "parent": root, "source": root, **more}  # fmt: skip
        raise _Refused(404, "Not Found")

    def _reviews(self, query: Any, sent: Json, number: str) -> list[Json]:
        self._find(number)
        return self.api.reviews.get(int(number), [])

    def _pulls(self, query: dict[str, str], sent: Json) -> Any:
        state, head = query.get("state", "open"), query.get("head", "")
        if self.command == "POST":
            owner = self.api.repository.partition("/")[0]
            head = sent["head"] if ":" in sent["head"] else f"{owner}:{sent['head']}"
        pulls = [pull for pull in self.api.pulls
                 if state in ("all", pull["state"]) and head in ("", pull["head"]["label"])]  # fmt: skip
        if self.command == "GET":
            return pulls
        if pulls:
            raise _invalid("PullRequest", f"A pull request already exists for {head}.")
        _check_body(sent, "PullRequest")
        return self.api.add_pull(sent["head"], sent["base"], sent["title"], sent["body"])

    def _issues(self, query: dict[str, str], sent: Json) -> Any:
        if self.command == "POST":
            _check_body(sent, "Issue")
            return self.api.add_issue(sent["title"], sent["body"], sent.get("labels", []))
        state, wanted = query.get("state", "open"), set(query.get("labels", "").split(","))
        pulls = [{**pull, "pull_request": {"url": pull["url"]}} for pull in self.api.pulls]
        return [issue for issue in [*self.api.issues, *pulls][::-1]
                if state in ("all", issue["state"])
                and wanted - {""} <= {label["name"] for label in issue["labels"]}]  # fmt: skip

    def _thread(self, query: Any, sent: Json, number: str) -> Json:
        _check_body(sent, "Issue")
        thread = self._find(number)
        thread.update(sent)
        return thread

    def _label(self, query: Any, sent: Any, number: str) -> Any:
        thread = self._find(number)
        names = [label["name"] for label in thread["labels"]]
        new = sent["labels"] if isinstance(sent, dict) else sent
        thread["labels"] = _labels(list(dict.fromkeys([*names, *new])))
        return thread["labels"]

    def _assign(self, query: Any, sent: Json, number: str) -> Json:
        """GitHub ignores users who may not be assigned."""
        thread = self._find(number)
        thread["assignees"] = [_user(name) for name in sent["assignees"] if name in self.api.users]
        return thread

    def _comments(self, query: Any, sent: Json, number: str) -> Any:
        self._find(number)
        bodies = self.api.comments.setdefault(int(number), [])
        if self.command == "POST":
            _check_body(sent, "IssueComment")
            bodies.append(sent["body"])
        comments = [
            {"id": n, "body": body, "user": _user("hubot")} for n, body in enumerate(bodies)
        ]
        return comments[-1] if self.command == "POST" else comments

    def _find(self, number: str) -> Json:
        for thread in (*self.api.issues, *self.api.pulls):
            if thread["number"] == int(number):
                return thread
        raise _Refused(404, "Not Found")


def _invalid(resource: str, message: str) -> _Refused:
    error = {"resource": resource, "code": "custom", "field": "body", "message": message}
    return _Refused(422, "Validation Failed", [error])


def _check_body(sent: Json, resource: str) -> None:
    if len(sent.get("body") or "") > LIMIT:
        raise _invalid(resource, f"body is too long (maximum is {LIMIT} characters)")


def record_git(folder: Path) -> str:
    """A PATH on which `git` also writes its arguments into ``folder / "argv"``."""
    git = shutil.which("git")
    spy = folder / "spy" / "git"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/argv\nexec {git} "$@"\n')
    spy.chmod(0o755)
    return f"{spy.parent}:{os.environ['PATH']}"


def assert_token_unseen(folders: Sequence[Path], *texts: str) -> None:
    """The token is in none of the texts and in no file of the folders, encoded or not."""
    secret = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for text in (*texts, *(path.read_bytes().decode("latin-1") for path in files)):
        assert TOKEN not in text
        assert secret not in text


def visible_to_github(text: str) -> str:
    """What GitHub would look for mentions, references and HTML in: all that is not code."""
    text = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)
    return re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
