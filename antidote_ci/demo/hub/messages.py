"""One request and one response, apart from the sockets they travel on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from antidote_ci.demo.hub.blobs import Readable

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """A request whose path has been taken apart by its route."""

    base: str
    """The Hub's own address, for links."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Readable

    @property
    def token(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" and token else None

    def json(self) -> dict[str, Any]:
        try:
            content = json.loads(self.body.read())
        except ValueError as error:
            raise Refused(400, "the body is not JSON") from error
        if not isinstance(content, dict):
            raise Refused(400, "the body is not a JSON object")
        return cast(dict[str, Any], content)


@dataclass(frozen=True)
class Response:
    """Bytes, or a span of a file."""

    status: int
    headers: dict[str, str]
    body: bytes | Path
    span: tuple[int, int] = (0, 0)
    """Where the part of a file starts, and its bytes."""

    @property
    def length(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.span[1]


class Refused(Exception):
    """An answer other than success, with the code by which the client knows which."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self) -> Response:
        message = str(self).encode("ascii", "replace").decode().replace("\n", " ")
        codes = {"X-Error-Code": self.code} if self.code else {}
        body = json.dumps({"error": str(self)}).encode()
        headers = {"Content-Type": JSON, "X-Error-Message": message, **codes}
        return Response(self.status, headers, body)


def as_json(content: object, status: int = 200) -> Response:
    return Response(status, {"Content-Type": JSON}, json.dumps(content, default=str).encode())


def as_html(page: str) -> Response:
    return Response(200, {"Content-Type": HTML}, page.encode())
