"""What a Job sends home through its log, which loses, repeats, reorders and mixes lines. Pure.

A line of it is `antidote-ci:TOKEN SHA256 NUMBER/COUNT CHECK PIECE`. The token is known to the Job and to its owner
alone, SHA256 is that of the whole, and CHECK the first digits of the piece's own.
"""

import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass

PIECE = 1000
"""Characters of a piece: no log cuts lines so short."""
CHECK = 8
LARGEST = 64_000_000
"""Bytes of a parcel when it is open."""


@dataclass(frozen=True)
class Parcel:
    """How the command ended inside, and what it left."""

    exit_code: int
    report: str | None
    """report.json."""
    card: str | None
    """README.md, read with `surrogateescape`."""


def pack(parcel: Parcel, token: str) -> list[str]:
    """The lines to print."""
    content = b64encode(zlib.compress(json.dumps(asdict(parcel)).encode(), 9)).decode()
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    whole = _sha256(content)
    return [
        f"antidote-ci:{token} {whole} {number}/{len(pieces)} {_sha256(piece)[:CHECK]} {piece}"
        for number, piece in enumerate(pieces, 1)
    ]


def unpack(lines: Iterable[str], token: str) -> Parcel | None:
    """The last parcel that is whole among the lines; None where none is."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for line in lines:
        for whole, number, count, check, piece in _pattern(token).findall(line):
            if _sha256(piece)[:CHECK] == check:
                pieces = found.pop((whole, int(count)), {})
                found[whole, int(count)] = {**pieces, int(number): piece}
    for (whole, count), pieces in reversed(found.items()):
        content = "".join(pieces[number] for number in sorted(pieces))
        if len(pieces) == count and _sha256(content) == whole:
            return _opened(content)
    return None


def is_piece(line: str, token: str) -> bool:
    """Whether a line is for this module, and no news for people."""
    return f"antidote-ci:{token} " in line


def _pattern(token: str) -> re.Pattern[str]:
    numbers = r"([0-9a-f]{64}) ([0-9]{1,6})/([0-9]{1,6})"
    return re.compile(rf"antidote-ci:{re.escape(token)} {numbers} ([0-9a-f]{{{CHECK}}}) ([A-Za-z0-9+/]+={{0,2}})")


def _opened(content: str) -> Parcel | None:
    """None for what another version packed."""
    try:
        return Parcel(**json.loads(zlib.decompressobj().decompress(b64decode(content), LARGEST)))
    except (ValueError, TypeError, zlib.error):
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
