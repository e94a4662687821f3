"""Transfer a result through the log of a Job, which may lose, repeat, reorder and mix lines. Pure.

Each line is `antidote-ci:TOKEN SHA256 NUMBER/COUNT CHECKSUM PIECE`. Only the Job and its owner know TOKEN. SHA256 is
that of all pieces together, CHECKSUM the first digits of the piece's own SHA-256.
"""

import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass

PIECE_CHARACTERS = 1000
"""Characters of a piece: short enough that no log splits a line."""
CHECKSUM_DIGITS = 8
MAX_RESULT = 64_000_000
"""Bytes of a decompressed result."""


@dataclass(frozen=True)
class JobResult:
    """Exit code and files of a command inside a Job."""

    exit_code: int
    report: str | None
    """Content of report.json."""
    card: str | None
    """Content of README.md, decoded with `surrogateescape`."""


def encode_result(result: JobResult, token: str) -> list[str]:
    """The log lines that carry the result."""
    content = b64encode(zlib.compress(json.dumps(asdict(result)).encode(), 9)).decode()
    pieces = [content[start : start + PIECE_CHARACTERS] for start in range(0, len(content), PIECE_CHARACTERS)]
    digest = _sha256(content)
    return [
        f"antidote-ci:{token} {digest} {number}/{len(pieces)} {_sha256(piece)[:CHECKSUM_DIGITS]} {piece}"
        for number, piece in enumerate(pieces, 1)
    ]


def decode_result(lines: Iterable[str], token: str) -> JobResult | None:
    """The last complete result in the lines; None when there is none."""
    results: dict[tuple[str, int], dict[int, str]] = {}
    for line in lines:
        for digest, number, count, checksum, piece in _line_pattern(token).findall(line):
            if _sha256(piece)[:CHECKSUM_DIGITS] == checksum:
                pieces = results.pop((digest, int(count)), {})
                results[digest, int(count)] = {**pieces, int(number): piece}
    for (digest, count), pieces in reversed(results.items()):
        content = "".join(pieces[number] for number in sorted(pieces))
        if len(pieces) == count and _sha256(content) == digest:
            return _parse_result(content)
    return None


def is_result_line(line: str, token: str) -> bool:
    """Whether a line carries a part of a result."""
    return f"antidote-ci:{token} " in line


def _line_pattern(token: str) -> re.Pattern[str]:
    numbers = r"([0-9a-f]{64}) ([0-9]{1,6})/([0-9]{1,6})"
    return re.compile(
        rf"antidote-ci:{re.escape(token)} {numbers} ([0-9a-f]{{{CHECKSUM_DIGITS}}}) ([A-Za-z0-9+/]+={{0,2}})"
    )


def _parse_result(content: str) -> JobResult | None:
    """None for a result that another version encoded."""
    try:
        return JobResult(**json.loads(zlib.decompressobj().decompress(b64decode(content), MAX_RESULT)))
    except (ValueError, TypeError, zlib.error):
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
