"""GitHub's API on this machine, for tests: the few endpoints that fixtool asks, with GitHub's own
forms, pages, refusals and bad days. It listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "ghs_0123456789abcdefTOKEN"
LIMIT = 65_536
Json = dict[str, Any]


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match ``METHOD path``: an answer, or, where
    ``status`` is None, none at all; ``after`` the request was carried out, or instead."""

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
    reviewers: dict[int, list[str]] = field(default_factory=dict)
    reviews: dict[int, list[Json]] = field(default_factory=dict)
    forks: dict[str, Json] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    per_page: int = 100
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def writes(self) -> list[str]:
        return [one for one in self.log if not one.startswith("GET")]

    def fail(self, request: str, status: int | None = None, message: str = "", **more: Any) -> None:
        self.faults.append(Fault(request, status, message, **more))

    def new_number(self) -> int:
        return 1 + len(self.pulls) + len(self.issues)

    def thread(self, number: int) -> Json | None:
        return next((one for one in [*self.issues, *self.pulls] if one["number"] == number), None)

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
        """A client that was cut off is no news."""


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

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the log has it."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_GET

    def _serve(self) -> None:
        api = self.server.api
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with api.lock:
            request = f"{self.command} {parts.path}"
            api.log.append(request)
            fault = next((one for one in api.faults if re.search(one.request, request)), None)
            if fault:
                fault.times -= 1
                if not fault.times:
                    api.faults.remove(fault)
            if fault and not fault.after:
                self._fault(fault)
                return
            headers: dict[str, str] = {}
            try:
                self._check_login(parts.path)
                found = self._answer(parts.path, parse_qs(parts.query), json.loads(sent or b"{}"))
                status, body = 201 if self.command == "POST" else 200, found
                if isinstance(found, list):
                    body, headers = self._page(found, parts.path, parse_qs(parts.query))
            except _Refused as refused:
                status, body = refused.status, refused.body
            if fault:
                self._fault(fault)
                return
            self._send(status, body, headers)

    def _fault(self, fault: Fault) -> None:
        if fault.status is None:
            self.close_connection = True
            self.connection.close()
            return
        self._send(fault.status, {"message": fault.message}, fault.headers)

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        left = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4990", **headers}
        for name, value in {"Content-Type": "application/json; charset=utf-8", **left}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _check_login(self, path: str) -> None:
        said = self.headers.get("Authorization")
        if said is None and self.command == "GET":
            return
        if said is None:
            raise _Refused(401, "Requires authentication")
        if said.partition(" ")[2] != TOKEN:
            raise _Refused(401, "Bad credentials")

    def _page(self, found: list[Json], path: str, query: Any) -> tuple[list[Json], dict[str, str]]:
        api = self.server.api
        size = min(int(query.get("per_page", ["30"])[0]), api.per_page)
        page = int(query.get("page", ["1"])[0])
        headers = {}
        if len(found) > page * size:
            kept = "&".join(f"{key}={value[0]}" for key, value in query.items() if key != "page")
            headers["Link"] = f'<{api.url}{path}?{kept}&page={page + 1}>; rel="next"'
        return found[(page - 1) * size : page * size], headers

    def _answer(self, path: str, query: dict[str, list[str]], sent: Any) -> Any:
        here = re.escape(f"/repos/{self.server.api.repository}")
        routes: list[tuple[str, Callable[..., Any]]] = [
            (rf"GET {here}", self._repository),
            (r"GET /repos/[\w.-]+/[\w.-]+", self._fork),
            (r"GET /user", lambda query, sent: _user(self.server.api.users[0])),
            (rf"GET {here}/pulls/(\d+)/reviews", self._reviews),
            (rf"(GET|POST) {here}/pulls", self._pulls),
            (rf"(GET|PATCH) {here}/pulls/(\d+)", self._thread),
            (rf"POST {here}/pulls/(\d+)/requested_reviewers", self._reviewers),
            (rf"(GET|POST) {here}/issues", self._issues),
            (rf"(GET|PATCH) {here}/issues/(\d+)", self._thread),
            (rf"POST {here}/issues/(\d+)/labels", self._label),
            (rf"POST {here}/issues/(\d+)/assignees", self._assign),
            (rf"(GET|POST) {here}/issues/(\d+)/comments", self._comments),
            (r"GET /users/(\S+)", self._user),
        ]
        for form, answer in routes:
            if match := re.fullmatch(form, f"{self.command} {path}"):
                numbers = [int(one) for one in match.groups() if one.isdigit()]
                return answer(query, sent, *numbers)
        raise _Refused(404, "Not Found")

    def _repository(self, query: Any, sent: Json) -> Json:
        api = self.server.api
        return {"full_name": api.repository, "name": "fork", "default_branch": api.default_branch,
                "fork": False, "archived": False}  # fmt: skip

    def _fork(self, query: Any, sent: Json) -> Json:
        wanted = urlsplit(self.path).path.removeprefix("/repos/")
        for name, more in self.server.api.forks.items():
            if name.lower() == wanted.lower():
                root = {"full_name": self.server.api.repository}
                return {"full_name": name, "default_branch": "main", "fork": True,
                        "archived": False, "parent": root, "source": root, **more}  # fmt: skip
        raise _Refused(404, "Not Found")

    def _reviews(self, query: Any, sent: Json, number: int) -> list[Json]:
        self._found(number)
        return self.server.api.reviews.get(number, [])

    def _user(self, query: Any, sent: Json) -> Json:
        login = self.path.rpartition("/")[2]
        for one in self.server.api.users:
            if one.lower() == login.lower():
                return _user(one)
        raise _Refused(404, "Not Found")

    def _pulls(self, query: dict[str, list[str]], sent: Json) -> Any:
        api = self.server.api
        if self.command == "GET":
            state, head = query.get("state", ["open"])[0], query.get("head", [""])[0]
            return [one for one in api.pulls
                    if state in ("all", one["state"]) and head in ("", one["head"]["label"])]  # fmt: skip
        for one in api.pulls:
            owner = api.repository.partition("/")[0]
            head = sent["head"] if ":" in sent["head"] else f"{owner}:{sent['head']}"
            if one["state"] == "open" and one["head"]["label"] == head:
                message = f"A pull request already exists for {head}."
                raise _Refused(422, "Validation Failed", [
                    {"resource": "PullRequest", "code": "custom", "message": message}
                ])  # fmt: skip
        self._check_body(sent, "PullRequest")
        return api.add_pull(sent["head"], sent["base"], sent["title"], sent["body"])

    def _issues(self, query: dict[str, list[str]], sent: Json) -> Any:
        api = self.server.api
        if self.command == "POST":
            self._check_body(sent, "Issue")
            return api.add_issue(sent["title"], sent["body"], sent.get("labels", []))
        state, wanted = (
            query.get("state", ["open"])[0],
            set(query.get("labels", [""])[0].split(",")),
        )
        pulls = [{**one, "pull_request": {"url": one["url"]}} for one in api.pulls]
        return [one for one in [*api.issues, *pulls][::-1]
                if state in ("all", one["state"])
                and wanted - {""} <= {label["name"] for label in one["labels"]}]  # fmt: skip

    def _thread(self, query: Any, sent: Json, number: int) -> Json:
        found = self._found(number)
        self._check_body(sent, "Issue")
        found.update(sent)
        return found

    def _label(self, query: Any, sent: Any, number: int) -> Any:
        found = self._found(number)
        names = [one["name"] for one in found["labels"]]
        new = sent["labels"] if isinstance(sent, dict) else sent
        found["labels"] = _labels(list(dict.fromkeys([*names, *new])))
        return found["labels"]

    def _assign(self, query: Any, sent: Json, number: int) -> Json:
        found = self._found(number)
        known = [one for one in sent["assignees"] if one in self.server.api.users]  # else: silence
        found["assignees"] = [_user(one) for one in known]
        return found

    def _reviewers(self, query: Any, sent: Json, number: int) -> Json:
        for one in sent["reviewers"]:
            if one not in self.server.api.users:
                raise _Refused(422, "Reviews may only be requested from collaborators.")
        self.server.api.reviewers[number] = sent["reviewers"]
        return self._found(number)

    def _comments(self, query: Any, sent: Json, number: int) -> Any:
        self._found(number)
        said = self.server.api.comments.setdefault(number, [])
        if self.command == "POST":
            self._check_body(sent, "IssueComment")
            said.append(sent["body"])
        found = [{"id": n, "body": body, "user": _user("hubot")} for n, body in enumerate(said)]
        return found[-1] if self.command == "POST" else found

    def _found(self, number: int) -> Json:
        found = self.server.api.thread(number)
        if found is None:
            raise _Refused(404, "Not Found")
        return found

    def _check_body(self, sent: Json, resource: str) -> None:
        if len(sent.get("body") or "") > LIMIT:
            message = f"body is too long (maximum is {LIMIT} characters)"
            errors = [{"resource": resource, "code": "custom", "field": "body", "message": message}]
            raise _Refused(422, "Validation Failed", errors)


def visible_to_github(text: str) -> str:
    """What GitHub would look for mentions, references and HTML in: all that is not code."""
    text = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)
    return re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
