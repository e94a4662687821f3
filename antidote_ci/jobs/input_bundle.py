"""Send local files with a Job, packed into one environment variable."""

import json
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.errors import ConfigurationError

VARIABLE = "ANTIDOTE_JOB_FILES"
MAX_PACKED = 96 * 1024
"""Bytes of the variable. Linux allows 128 KiB including the name: https://man7.org/linux/man-pages/man2/execve.2.html"""
MAX_UNPACKED = 64_000_000
"""Bytes of all unpacked files together."""


@dataclass(frozen=True)
class BundleFile:
    """A file in a folder. Folder and name are single path components."""

    folder: str
    name: str
    content: bytes


def pack_bundle(items: list[BundleFile]) -> str:
    """Pack files; equal files give equal text. Raises ConfigurationError when they are too large."""
    entries = [[item.folder, item.name, b64encode(item.content).decode()] for item in items]
    packed = b64encode(zlib.compress(json.dumps(entries).encode(), 9)).decode()
    if len(packed) > MAX_PACKED:
        largest = max(items, key=lambda item: len(item.content))
        raise ConfigurationError(
            f"the files of this run are too large for a Job: {len(packed):,} bytes packed, at most {MAX_PACKED:,}",
            cause=f"the largest is {largest.name}, {len(largest.content):,} bytes before packing",
            hint="use a published prompt set (docs/prompts.md), shorten the file, or run --on here",
        )
    return packed


def unpack_bundle(packed: str, folder: Path) -> None:
    """Write the files below `folder`. Raises ValueError for a name that is a path, other errors for invalid text."""
    unpacker = zlib.decompressobj()
    entries = json.loads(unpacker.decompress(b64decode(packed, validate=True), MAX_UNPACKED))
    for subfolder, name, content in entries:
        path = folder / _require_plain_name(subfolder) / _require_plain_name(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b64decode(content, validate=True))


def _require_plain_name(name: object) -> str:
    """The name. Raises ValueError unless it is a single path component."""
    if not isinstance(name, str) or not name or "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{name!r:.80} is not a file name")
    return name
