"""Inject reproducible network and server faults, selected by a seed."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from loopback_hub.messages import HTML, HttpError, HttpResponse

RequestFault = Literal[
    "connection dropped",
    "too many requests",
    "internal error",
    "bad gateway",
    "gateway timed out",
    "gateway timed out after all was done",
    "answer lost",
]
BodyFault = Literal["answer cut short", "answer in slow drips"]
FaultKind = RequestFault | BodyFault | Literal["wrong bytes"]
WITHOUT_BODY: tuple[FaultKind, ...] = get_args(RequestFault)
WITH_BODY: tuple[FaultKind, ...] = (*WITHOUT_BODY, *get_args(BodyFault))
FOR_PROGRAMS = re.compile(r"/api/|/.+(?:\.git/info/lfs|/resolve)/")
"""Paths of the API. Web pages get no faults."""
DOWNLOAD = re.compile(r"/.+/resolve/.+")
LONGEST_WAIT = 30
"""Maximum of Retry-After in seconds."""
DRIPS = 8
LINES = 10
"""Maximum number of log lines before the connection breaks."""
DRIP_SECONDS = 0.002


class HangUp(Exception):
    """The connection closes before or during the response."""


@dataclass(frozen=True)
class Fault:
    """The fault of one request."""

    kind: FaultKind
    position: float
    """From 0 to 1: position in the body, or share of the longest wait."""


@dataclass(frozen=True)
class FaultInjector:
    """Gives a share of the requests a fault. It depends only on the seed and the number of the request."""

    seed: int
    share: float

    def pick(self, number: int, method: str, path: str) -> Fault | None:
        """Return the fault of request `number`, counted from 1, or None."""
        draw = random.Random(f"{self.seed} {number}")  # noqa: S311 - noise
        if draw.random() >= self.share or not FOR_PROGRAMS.match(path):
            return None
        kinds = WITHOUT_BODY if method == "HEAD" else WITH_BODY
        # Only for downloads: the client has no hash to detect wrong bytes in JSON.
        if method == "GET" and DOWNLOAD.fullmatch(path):
            kinds = (*kinds, "wrong bytes")
        return Fault(draw.choice(kinds), draw.random())


def replacement_response(fault: Fault) -> HttpResponse | None:
    """Return the response that replaces the request, or None to process it. Raises HangUp."""
    match fault.kind:
        case "connection dropped":
            raise HangUp
        case "too many requests":
            response = HttpError(429, "Too many requests").response()
            wait = str(round(fault.position * LONGEST_WAIT))
            return replace(response, headers={**response.headers, "Retry-After": wait})
        case "internal error":
            return HttpError(500, "Internal error").response()
        case "bad gateway":
            return _gateway_response(502, "Bad Gateway")
        case "gateway timed out":
            return _gateway_response(504, "Gateway Timeout")
    return None


def spoil_response(fault: Fault, response: HttpResponse) -> HttpResponse:
    """Apply the fault to the response of a processed request. Raises HangUp."""
    match fault.kind:
        case "answer lost":
            raise HangUp
        case "gateway timed out after all was done":
            return _gateway_response(504, "Gateway Timeout")
        case "wrong bytes" if response.status < 300 and response.length:
            content = bytearray(_read_content(response))
            content[int(fault.position * len(content))] ^= 1
            return replace(response, body=bytes(content))
    return response


def send_pieces(fault: Fault, response: HttpResponse) -> Iterator[bytes]:
    """Yield the body in pieces. Raises HangUp where the connection breaks."""
    if not isinstance(response.body, bytes | Path):
        yield from islice(response.body, 1 + int(fault.position * LINES)) if "cut" in fault.kind else response.body
        raise HangUp
    content = _read_content(response)
    match fault.kind:
        case "answer cut short":
            yield content[: int(fault.position * len(content))]
            raise HangUp
        case "answer in slow drips":
            step = len(content) // DRIPS + 1
            for start in range(0, len(content), step):
                yield content[start : start + step]
                time.sleep(DRIP_SECONDS)
        case _:
            yield content


def _read_content(response: HttpResponse) -> bytes:
    if not isinstance(response.body, Path):
        return response.body if isinstance(response.body, bytes) else b""
    start, length = response.span
    with response.body.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _gateway_response(status: int, reason: str) -> HttpResponse:
    """An HTML error like that of a proxy in front of the Hub."""
    return HttpResponse(status, {"Content-Type": HTML}, f"<html><h1>{status} {reason}</h1></html>".encode())
