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

PIECE_CHARACTERS = 1000
"""Characters of a piece: no log cuts lines so short."""
CHECKSUM_DIGITS = 8
MAX_RESULT = 64_000_000
"""Bytes of a parcel when it is open."""


@dataclass(frozen=True)
class JobResult:
    """How the command ended inside, and what it left."""

    exit_code: int
    report: str | None
    """report.json."""
    card: str | None
    """README.md, read with `surrogateescape`."""


def encode_result(result: JobResult, token: str) -> list[str]:
    """The lines to print."""
    content = b64encode(zlib.compress(json.dumps(asdict(result)).encode(), 9)).decode()
    pieces = [content[start : start + PIECE_CHARACTERS] for start in range(0, len(content), PIECE_CHARACTERS)]
    whole = _sha256(content)
    return [
        f"antidote-ci:{token} {whole} {number}/{len(pieces)} {_sha256(piece)[:CHECKSUM_DIGITS]} {piece}"
        for number, piece in enumerate(pieces, 1)
    ]


def decode_result(lines: Iterable[str], token: str) -> JobResult | None:
    """The last parcel that is whole among the lines; None where none is."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for line in lines:
        for whole, number, count, check, piece in _line_pattern(token).findall(line):
            if _sha256(piece)[:CHECKSUM_DIGITS] == check:
                pieces = found.pop((whole, int(count)), {})
                found[whole, int(count)] = {**pieces, int(number): piece}
    for (whole, count), pieces in reversed(found.items()):
        content = "".join(pieces[number] for number in sorted(pieces))
        if len(pieces) == count and _sha256(content) == whole:
            return _parse_result(content)
    return None


def is_result_line(line: str, token: str) -> bool:
    """Whether a line is for this module, and no news for people."""
    return f"antidote-ci:{token} " in line


def _line_pattern(token: str) -> re.Pattern[str]:
    numbers = r"([0-9a-f]{64}) ([0-9]{1,6})/([0-9]{1,6})"
    return re.compile(
        rf"antidote-ci:{re.escape(token)} {numbers} ([0-9a-f]{{{CHECKSUM_DIGITS}}}) ([A-Za-z0-9+/]+={{0,2}})"
    )


def _parse_result(content: str) -> JobResult | None:
    """None for what another version packed."""
    try:
        return JobResult(**json.loads(zlib.decompressobj().decompress(b64decode(content), MAX_RESULT)))
    except (ValueError, TypeError, zlib.error):
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
