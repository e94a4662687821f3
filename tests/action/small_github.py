"""A small server with GitHub's REST interface for comments, and a fixture that starts it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from action import comment

TOKEN = "ghs_job"
PATH = re.compile(r"/repos/team/models/issues/(?:(?P<number>\d+)/comments|comments/(?P<id>\d+))")


@dataclass
class GitHub:
    """The comments of pull request 7, and the requests that were answered."""

    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    answer: int | None = None
    """A status for every request."""
    address: str = ""

    def add(self, author: str, body: str) -> dict[str, Any]:
        created = {"id": len(self.comments) + 1, "user": {"login": author}, "body": body}
        self.comments.append(created)
        return created

    @property
    def environ(self) -> dict[str, str]:
        return {
            "GITHUB_API_URL": f"{self.address}/",
            "GITHUB_REPOSITORY": "team/models",
            "GITHUB_REF": "refs/pull/7/merge",
            "GITHUB_TOKEN": TOKEN,
        }


@pytest.fixture
def github() -> Iterator[GitHub]:
    github = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            github.requests.append(f"{self.command} {self.path}")
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            size = int(self.headers["Content-Length"] or 0)
            sent = json.loads(self.rfile.read(size)) if size else {}
            address = urlsplit(self.path)
            match = PATH.fullmatch(address.path)
            if github.answer is not None or match is None:
                self.send_response(github.answer or 404)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answer: object
            if self.command == "GET":
                query = parse_qs(address.query)
                size, page = int(query["per_page"][0]), int(query["page"][0])
                answer = github.comments[size * (page - 1) : size * page]
            elif self.command == "POST":
                answer = github.add(comment.AUTHOR, sent["body"])
            else:
                github.comments[int(match["id"]) - 1]["body"] = sent["body"]
                answer = {}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = respond

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    github.address = f"http://127.0.0.1:{server.server_port}"
    yield github
    server.shutdown()
    server.server_close()
