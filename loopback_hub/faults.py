"""What goes wrong between a client and the loopback Hub, by seed."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from loopback_hub.messages import HTML, Refused, Response

OfAnything = Literal[
    "connection dropped",
    "too many requests",
    "internal error",
    "bad gateway",
    "gateway timed out",
    "gateway timed out after all was done",
    "answer lost",
]
OfBodies = Literal["answer cut short", "answer in slow drips"]
Kind = OfAnything | OfBodies | Literal["wrong bytes"]
WITHOUT_BODY: tuple[Kind, ...] = get_args(OfAnything)
WITH_BODY: tuple[Kind, ...] = (*WITHOUT_BODY, *get_args(OfBodies))
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

    kind: Kind
    place: float
    """From 0 to 1: how far into the body, or how long a wait."""


@dataclass(frozen=True)
class Faults:
    """A share of the requests, each with a fault that depends on the seed and its number alone."""

    seed: int
    share: float

    def of(self, number: int, method: str, path: str) -> Fault | None:
        """What the request of this number suffers, counted from 1; None for nothing."""
        draw = random.Random(f"{self.seed} {number}")  # noqa: S311 - noise
        if draw.random() >= self.share or not FOR_PROGRAMS.match(path):
            return None
        kinds = WITHOUT_BODY if method == "HEAD" else WITH_BODY
        # Only where the client has a hash to compare: nothing protects an answer in JSON.
        if method == "GET" and DOWNLOAD.fullmatch(path):
            kinds = (*kinds, "wrong bytes")
        return Fault(draw.choice(kinds), draw.random())


def instead(fault: Fault) -> Response | None:
    """The answer to a request that is never processed, None for one that is; raises HangUp."""
    match fault.kind:
        case "connection dropped":
            raise HangUp
        case "too many requests":
            refused = Refused(429, "Too many requests").response()
            wait = str(round(fault.place * LONGEST_WAIT))
            return replace(refused, headers={**refused.headers, "Retry-After": wait})
        case "internal error":
            return Refused(500, "Internal error").response()
        case "bad gateway":
            return _gateway(502, "Bad Gateway")
        case "gateway timed out":
            return _gateway(504, "Gateway Timeout")
    return None


def spoilt(fault: Fault, response: Response) -> Response:
    """What becomes of the answer to a request that was processed; raises HangUp."""
    match fault.kind:
        case "answer lost":
            raise HangUp
        case "gateway timed out after all was done":
            return _gateway(504, "Gateway Timeout")
        case "wrong bytes" if response.status < 300 and response.length:
            content = bytearray(_content(response))
            content[int(fault.place * len(content))] ^= 1
            return replace(response, body=bytes(content))
    return response


def pieces(fault: Fault, response: Response) -> Iterator[bytes]:
    """The body as it is sent; raises HangUp where it ends early."""
    if not isinstance(response.body, bytes | Path):
        yield from islice(response.body, 1 + int(fault.place * LINES)) if "cut" in fault.kind else response.body
        raise HangUp
    content = _content(response)
    match fault.kind:
        case "answer cut short":
            yield content[: int(fault.place * len(content))]
            raise HangUp
        case "answer in slow drips":
            step = len(content) // DRIPS + 1
            for start in range(0, len(content), step):
                yield content[start : start + step]
                time.sleep(DRIP_SECONDS)
        case _:
            yield content


def _content(response: Response) -> bytes:
    if not isinstance(response.body, Path):
        return response.body if isinstance(response.body, bytes) else b""
    start, length = response.span
    with response.body.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _gateway(status: int, reason: str) -> Response:
    """As a proxy in front of the Hub answers: not in JSON."""
    return Response(status, {"Content-Type": HTML}, f"<html><h1>{status} {reason}</h1></html>".encode())
