"""What passes between a Job and its owner: files in an environment variable, and a result in the log.

A log may lose, repeat, reorder and mix lines. Each line of a result is `antidote-ci:TOKEN SHA256 NUMBER/COUNT CHECKSUM
PIECE`. Only the Job and its owner know TOKEN. SHA256 is that of all pieces together, CHECKSUM the first digits of the
piece's own SHA-256.
"""

import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError

FILES_VARIABLE = "ANTIDOTE_JOB_FILES"
TOKEN_VARIABLE = "ANTIDOTE_JOB_TOKEN"  # noqa: S105 - the name of the variable
"""Marks the lines of the log that carry the result. It grants no access."""
MAX_PACKED = 96 * 1024
"""Bytes of the variable. Linux allows 128 KiB including the name: https://man7.org/linux/man-pages/man2/execve.2.html"""
MAX_UNPACKED = 64_000_000
"""Bytes of all unpacked files together, and of a decompressed result."""
PLAIN_PATH = re.compile(r"(?!\.{1,2}/)[^/\0]+/(?!\.{1,2}\Z)[^/\0]+")
"""FOLDER/NAME."""
PIECE_CHARACTERS = 1000
"""Characters of a piece: short enough that no log splits a line."""
CHECKSUM_DIGITS = 8


@dataclass(frozen=True)
class JobResult:
    """Exit code and files of a command inside a Job."""

    exit_code: int
    report: str | None
    """Content of report.json."""
    card: str | None
    """Content of README.md, decoded with `surrogateescape`."""


def pack_files(files: Mapping[str, bytes]) -> str:
    """Pack files, FOLDER/NAME -> content. Equal files give equal text. Raises ConfigurationError for too large ones."""
    packed = _pack({path: b64encode(content).decode() for path, content in files.items()})
    if len(packed) > MAX_PACKED:
        largest = max(files, key=lambda path: len(files[path]))
        raise ConfigurationError(
            f"the files of this run are too large for a Job: {len(packed):,} bytes packed, at most {MAX_PACKED:,}",
            cause=f"the largest is {largest.partition('/')[2]}, {len(files[largest]):,} bytes before packing",
            hint="use a published prompt set (docs/prompts.md), shorten the file, or run --on here",
        )
    return packed


def unpack_files(packed: str, folder: Path) -> None:
    """Write the files below `folder`. Raises ValueError for another path, other errors for invalid text."""
    for path, content in _unpack(packed).items():
        if not PLAIN_PATH.fullmatch(path):
            raise ValueError(f"{path!r:.80} is not a file in a folder")
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b64decode(content, validate=True))


def encode_result(result: JobResult, token: str) -> list[str]:
    """The log lines that carry the result."""
    content = _pack(asdict(result))
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
        return JobResult(**_unpack(content))
    except (ValueError, TypeError, zlib.error):
        return None


def _pack(document: object) -> str:
    return b64encode(zlib.compress(json.dumps(document).encode(), 9)).decode()


def _unpack(packed: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        zlib.decompressobj().decompress(b64decode(packed, validate=True), MAX_UNPACKED)
    )
    return document


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
