"""HTTP requests, responses and errors, independent of sockets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from loopback_hub.blobs import ReadableStream

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request."""

    base: str
    """The URL of the Hub, for links."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: ReadableStream
    path: str = "/"
    """Path and query as they were sent."""

    @property
    def token(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" and token else None

    def query_number(self, key: str) -> int:
        """Return a parameter of the query as an integer, 0 if it is absent."""
        text = self.query.get(key, "0")
        if not text.isdecimal():
            raise HttpError(400, f"{key} is not a number")
        return int(text)

    def has_flag(self, key: str) -> bool:
        """Whether the query sets `key`."""
        return self.query.get(key, "").lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        """Parse the body as a JSON object; an empty body gives an empty object."""
        try:
            content = json.loads(self.body.read() or b"{}")
        except ValueError as error:
            raise HttpError(400, "the body is not JSON") from error
        if not isinstance(content, dict):
            raise HttpError(400, "the body is not a JSON object")
        return cast(dict[str, Any], content)


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response. The body is bytes, a byte range of a file, or a stream."""

    status: int
    headers: dict[str, str]
    body: bytes | Path | Iterator[bytes]
    span: tuple[int, int] = (0, 0)
    """Start and length of the byte range if the body is a file."""

    @property
    def is_streamed(self) -> bool:
        """Whether the length of the body is unknown."""
        return not isinstance(self.body, bytes | Path)

    @property
    def length(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.span[1]


class HttpError(Exception):
    """An error response with the error code that the client reads."""

    def __init__(
        self, status: int, message: str, code: str | None = None, body: Mapping[str, object] | None = None
    ) -> None:
        """`body` holds additional fields of the JSON body."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = body or {}

    def response(self) -> HttpResponse:
        message = str(self).encode("ascii", "replace").decode().replace("\n", " ")
        codes = {"X-Error-Code": self.code} if self.code else {}
        body = json.dumps({"error": str(self), **self.body}).encode()
        headers = {"Content-Type": JSON, "X-Error-Message": message, **codes}
        return HttpResponse(self.status, headers, body)


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, {"Content-Type": JSON, **(headers or {})}, json.dumps(content, default=str).encode())


def page_response(items: Sequence[object], request: HttpRequest, size: int) -> HttpResponse:
    """Return the page `?p=` of a list, with a link to the next page."""
    number = request.query_number("p")
    headers = {"X-Total-Count": str(len(items))}
    if (number + 1) * size < len(items):
        query = urlencode({**request.query, "p": number + 1})
        headers["Link"] = f'<{request.base}{urlsplit(request.path).path}?{query}>; rel="next"'
    return json_response(items[number * size : (number + 1) * size], headers=headers)


def html_response(page: str) -> HttpResponse:
    return HttpResponse(200, {"Content-Type": HTML}, page.encode())
