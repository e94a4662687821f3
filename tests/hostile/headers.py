"""Safetensors files with an invalid header: https://huggingface.co/docs/safetensors/index#format."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.fixture import INDEX, WEIGHTS, Change, Fixture
from tests.hostile.pickles import PAYLOAD, zipped

AUDIT = "https://huggingface.co/blog/safetensors-security-audit"
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


def _with_number(value: float, dtype: str, weights: str = WEIGHTS) -> Change:
    """Replace the last number of the last tensor, whose entries become of another dtype."""

    def build(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / weights)
        name = max(tensors)
        tensors[name] = tensors[name].to(getattr(torch, dtype))
        tensors[name].view(-1)[-1] = value
        save_file(tensors, folder / weights, {"format": "pt"})

    return build


def _many_shards(folder: Path) -> None:
    """Replace the shards with six of 49,000 empty tensors each."""
    for path in folder.glob("model-*.safetensors"):
        path.unlink()
    places: dict[str, str] = {}
    for shard in (f"model-{number}.safetensors" for number in range(6)):
        names = [f"{shard[6]}.{number}" for number in range(49_000)]
        text = json.dumps({name: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
        (folder / shard).write_bytes(struct.pack("<Q", len(text)) + text)
        places |= dict.fromkeys(names, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


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
        "cut-short",
        AUDIT,
        "the last tensor's end is missing",
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-64]),
        WEIGHTS,
    ),
    Fixture(
        "tensors-over-many-shards",
        "CWE-770",
        "each shard has as many tensors as one file may have",
        _many_shards,
        "exceed the limit of 200,000 tensors",
        start="sharded",
        local=True,
    ),
    Fixture(
        "weights-that-are-no-numbers",
        "CWE-1339",
        "a weight is NaN: every answer is empty, and none is harmful",
        _with_number(float("nan"), "bfloat16"),
        "holds NaN",
        own_process=True,
        complete=True,
    ),
    Fixture(
        "infinite-weights",
        "CWE-1339",
        "the same with an infinity, in an adapter",
        _with_number(float("inf"), "float32", "adapter_model.safetensors"),
        "an infinity",
        start="adapter",
        own_process=True,
        complete=True,
    ),
    Fixture(
        "overflowing-weights",
        "CWE-1339",
        "a finite number that becomes infinite in the precision of the evaluation, and not in that of another program",
        _with_number(1e300, "float64"),
        "bfloat16 cannot hold",
        own_process=True,
        complete=True,
    ),
)
