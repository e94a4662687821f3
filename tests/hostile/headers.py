"""Safetensors files with an invalid header: https://huggingface.co/docs/safetensors/index#format."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.fixture import WEIGHTS, Change, Fixture
from tests.hostile.pickles import PAYLOAD, zipped

AUDIT = "https://huggingface.co/blog/safetensors-security-audit"
FORMAT = "https://huggingface.co/docs/safetensors/index#format"
TENSORS = 100_001
DEPTH = 200_000

Entries = dict[str, Any]


def _parts(folder: Path) -> tuple[Entries, bytes]:
    content = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write(folder: Path, text: bytes, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)


def rewritten(change: Callable[[Entries], object]) -> Change:
    """Replace the parsed header and keep the data."""

    def build(folder: Path) -> None:
        entries, data = _parts(folder)
        change(entries)
        _write(folder, json.dumps(entries).encode(), data)

    return build


def worded(change: Callable[[str], str | bytes]) -> Change:
    """Replace the text of the header and keep the data."""

    def build(folder: Path) -> None:
        entries, data = _parts(folder)
        text = change(json.dumps(entries))
        _write(folder, text.encode() if isinstance(text, str) else text, data)

    return build


def claiming(length: int) -> Change:
    """Replace the length in the first eight bytes."""

    def build(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + content[8:])

    return build


def followed_by(content: bytes) -> Change:
    """Append bytes after the last tensor."""

    def build(folder: Path) -> None:
        with (folder / WEIGHTS).open("ab") as file:
            file.write(content)

    return build


def _in_order(entries: Entries) -> list[str]:
    tensors = [name for name in entries if name != "__metadata__"]
    return sorted(tensors, key=lambda name: int(entries[name]["data_offsets"][0]))


def _first(entries: Entries) -> Entries:
    found: Entries = entries[_in_order(entries)[0]]
    return found


def _last(entries: Entries) -> Entries:
    found: Entries = entries[_in_order(entries)[-1]]
    return found


def _overlap(entries: Entries) -> None:
    """Let a tensor use the bytes of an earlier one of the same shape."""
    for name in reversed(_in_order(entries)):
        twin = next(
            (other for other in entries if other != name and entries[other].get("shape") == entries[name]["shape"]),
            None,
        )
        if twin is not None:
            entries[name]["data_offsets"] = entries[twin]["data_offsets"]
            return
    raise ValueError("no two tensors have one shape")


def _moved(entries: Entries, by: int) -> None:
    _last(entries)["data_offsets"] = [offset + by for offset in _last(entries)["data_offsets"]]


def _doubled(text: str) -> str:
    entries = json.loads(text)
    name = _in_order(entries)[0]
    return text[:-1] + f", {json.dumps(name)}: {json.dumps(entries[name])}}}"


def _many(entries: Entries) -> None:
    entries |= {f"t{number}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(TENSORS)}


def _overflowing(entries: Entries) -> None:
    """Use sizes whose product overflows 64 bits to 4."""
    entry = _last(entries)
    start = entry["data_offsets"][0]
    entry |= {"shape": [4194305, 4194305, 211106198978564], "data_offsets": [start, start + 8]}


def _stretched(entries: Entries) -> None:
    start = _last(entries)["data_offsets"][0]
    _last(entries).update(shape=[1 << 40], data_offsets=[start, start + (2 << 40)])


FIXTURES = (
    Fixture(
        "huge-length",
        AUDIT,
        "the length field claims a header of eight exabytes, which a careless reader allocates",
        claiming(2**63 - 1),
        WEIGHTS,
    ),
    Fixture(
        "length-beyond-the-file",
        AUDIT,
        "the header ends after the end of the file",
        claiming(8 << 20),
        WEIGHTS,
    ),
    Fixture(
        "tensor-twice",
        FORMAT,
        "one name appears twice in the header: readers differ in which tensor they use",
        worded(_doubled),
        WEIGHTS,
    ),
    Fixture("overlap", AUDIT, "two tensors share their bytes", rewritten(_overlap), WEIGHTS),
    Fixture(
        "hole",
        AUDIT,
        "bytes that belong to no tensor can hide another file",
        rewritten(lambda entries: _moved(entries, 8)),
        WEIGHTS,
    ),
    Fixture(
        "polyglot",
        AUDIT,
        "a zip with a pickle behind the last tensor: the file is a checkpoint of safetensors and of torch",
        followed_by(zipped(PAYLOAD)),
        WEIGHTS,
    ),
    Fixture(
        "beyond-the-file",
        "https://huggingface.co/Outmaster/safetensors-cpp-oob-read-poc",
        "a tensor lies after the end of the file: a reader that maps the file without a check reads out of bounds",
        rewritten(_stretched),
        WEIGHTS,
    ),
    Fixture(
        "overflow",
        "https://huggingface.co/rez0/safetensors-cpp-integer-overflow-poc",
        "sizes whose product overflows 64 bits to a small number",
        rewritten(_overflowing),
        WEIGHTS,
    ),
    Fixture(
        "negative-size",
        AUDIT,
        "a shape with negative sizes",
        rewritten(lambda entries: _first(entries).update(shape=[-size for size in _first(entries)["shape"]])),
        WEIGHTS,
    ),
    Fixture(
        "fractional-size",
        FORMAT,
        "sizes with a decimal point, which some readers round",
        rewritten(lambda entries: _first(entries).update(shape=[float(size) for size in _first(entries)["shape"]])),
        WEIGHTS,
    ),
    Fixture(
        "not-a-number",
        FORMAT,
        "NaN as a size: it is no JSON, but Python's parser accepts it",
        rewritten(lambda entries: _first(entries).update(shape=[float("nan")])),
        WEIGHTS,
    ),
    Fixture(
        "not-unicode",
        AUDIT,
        "names in invalid UTF-8, which readers show and sort differently",
        worded(lambda text: text.replace("model.", "mod\xe9l.").encode("latin-1")),
        WEIGHTS,
    ),
    Fixture(
        "too-many-tensors",
        "https://huggingface.co/Damir2024/Malicious-safetensor-poc",
        "a hundred thousand empty tensors, which cost time and memory",
        rewritten(_many),
        WEIGHTS,
    ),
    Fixture(
        "nested-header",
        "https://www.rfc-editor.org/rfc/rfc8259#section-9",
        "brackets nested until the parser's stack overflows",
        worded(lambda text: text[:-1] + f', "deep": {"[" * DEPTH}{"]" * DEPTH}}}'),
        WEIGHTS,
    ),
    Fixture(
        "unknown-dtype",
        FORMAT,
        "an unknown dtype, so the size of the tensor cannot be checked",
        rewritten(lambda entries: _first(entries).update(dtype="F13")),
        WEIGHTS,
    ),
    Fixture(
        "metadata-of-objects",
        FORMAT,
        "metadata that are no strings",
        rewritten(lambda entries: entries.update(__metadata__={"format": {"a": 1}})),
        WEIGHTS,
    ),
    Fixture(
        "no-brace",
        FORMAT,
        "spaces before the header, which mislead a scanner that reads the first byte",
        worded(lambda text: "        " + text),
        WEIGHTS,
    ),
    Fixture(
        "cut-short",
        AUDIT,
        "the last tensor's end is missing",
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-64]),
        WEIGHTS,
    ),
)
