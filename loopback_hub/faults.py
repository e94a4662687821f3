"""What goes wrong between a client and the loopback Hub, by seed."""

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
"""Nobody needs the pages that people read to fail."""
DOWNLOAD = re.compile(r"/.+/resolve/.+")
LONGEST_WAIT = 30
"""Seconds that a client may be asked to wait."""
DRIPS = 8
LINES = 10
"""Of a log, before it breaks off at the latest."""
DRIP_SECONDS = 0.002


class HangUp(Exception):
    """The connection ends without an answer, or in the middle of one."""


@dataclass(frozen=True)
class Fault:
    """What one request suffers."""

    kind: FaultKind
    position: float
    """From 0 to 1: how far into the body, or how long a wait."""


@dataclass(frozen=True)
class FaultInjector:
    """A share of the requests, each with a fault that depends on the seed and its number alone."""

    seed: int
    share: float

    def pick(self, number: int, method: str, path: str) -> Fault | None:
        """What the request of this number suffers, counted from 1; None for nothing."""
        draw = random.Random(f"{self.seed} {number}")  # noqa: S311 - noise
        if draw.random() >= self.share or not FOR_PROGRAMS.match(path):
            return None
        kinds = WITHOUT_BODY if method == "HEAD" else WITH_BODY
        # Only where the client has a hash to compare: nothing protects an answer in JSON.
        if method == "GET" and DOWNLOAD.fullmatch(path):
            kinds = (*kinds, "wrong bytes")
        return Fault(draw.choice(kinds), draw.random())


def replacement_response(fault: Fault) -> HttpResponse | None:
    """The answer to a request that is never processed, None for one that is; raises HangUp."""
    match fault.kind:
        case "connection dropped":
            raise HangUp
        case "too many requests":
            refused = HttpError(429, "Too many requests").response()
            wait = str(round(fault.position * LONGEST_WAIT))
            return replace(refused, headers={**refused.headers, "Retry-After": wait})
        case "internal error":
            return HttpError(500, "Internal error").response()
        case "bad gateway":
            return _gateway_response(502, "Bad Gateway")
        case "gateway timed out":
            return _gateway_response(504, "Gateway Timeout")
    return None


def spoil_response(fault: Fault, response: HttpResponse) -> HttpResponse:
    """What becomes of the answer to a request that was processed; raises HangUp."""
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
    """The body as it is sent; raises HangUp where it ends early."""
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
    """As a proxy in front of the Hub answers: not in JSON."""
    return HttpResponse(status, {"Content-Type": HTML}, f"<html><h1>{status} {reason}</h1></html>".encode())
