"""Files of this machine that go along with a Job, in one variable of its environment."""

import json
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.errors import ConfigurationError

VARIABLE = "ANTIDOTE_JOB_LUGGAGE"
MAX_PACKED = 96 * 1024
"""Bytes of the variable. Linux takes 128 KiB, with the name: https://man7.org/linux/man-pages/man2/execve.2.html"""
MAX_UNPACKED = 64_000_000
"""Bytes of all files together when they are unpacked."""


@dataclass(frozen=True)
class BundleFile:
    """One file, by a plain name in a folder of a plain name; never a path."""

    folder: str
    name: str
    content: bytes


def pack_bundle(items: list[BundleFile]) -> str:
    """Equal for equal files. Raises ConfigurationError where they do not fit."""
    listed = [[each.folder, each.name, b64encode(each.content).decode()] for each in items]
    packed = b64encode(zlib.compress(json.dumps(listed).encode(), 9)).decode()
    if len(packed) > MAX_PACKED:
        largest = max(items, key=lambda each: len(each.content))
        raise ConfigurationError(
            f"the files that this run reads do not fit into a Job: {len(packed):,} bytes packed, {MAX_PACKED:,} fit",
            cause=f"the largest is {largest.name}, {len(largest.content):,} bytes before packing",
            hint="name a published set (docs/prompts.md), shorten the file, or run --on here",
        )
    return packed


def unpack_bundle(packed: str, folder: Path) -> None:
    """Write the files under `folder`. Raises ValueError for a name that is a path, anything for what is not packed."""
    unpacker = zlib.decompressobj()
    listed = json.loads(unpacker.decompress(b64decode(packed, validate=True), MAX_UNPACKED))
    for under, name, content in listed:
        path = folder / _require_plain_name(under) / _require_plain_name(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b64decode(content, validate=True))


def _require_plain_name(name: object) -> str:
    """One part of a path, or ValueError."""
    if not isinstance(name, str) or not name or "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{name!r:.80} is not the name of a file")
    return name
