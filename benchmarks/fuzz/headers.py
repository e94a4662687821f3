"""Small safetensors files, changed, and read by our reader and by the library."""

import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal, get_args

from safetensors import SafetensorError, deserialize, safe_open

from antidote_ci.checkpoint.headers import DTYPE_BITS, Header, parse_header, read_header
from antidote_ci.errors import UnsafeCheckpoint
from benchmarks.fuzz import grammar, octets

Right = Literal["accepted", "refused by us only", "refused"]
Finding = Literal["accepted by us only", "read differently", "uncaught"]
Verdict = Right | Finding
"""What can come of a changed file."""
FINDINGS: tuple[str, ...] = get_args(Finding)

Reader = Callable[[bytes], Header | None]
"""The header of a file, or nothing where it is refused."""

NAMES = ["a", "b", "model.layers.0.mlp.up_proj.weight", "", "é", "😀", 'quo"te', "back\\slash", "__metadata", "shape"]
SHAPES = [(), (0,), (1,), (2,), (4,), (8,), (2, 2), (2, 4), (0, 3), (3, 0), (1, 1, 2), (2, 1, 4), (1, 8)]
SHAPES_OF = {
    dtype: [shape for shape in SHAPES if math.prod(shape) * bits % 8 == 0] for dtype, bits in DTYPE_BITS.items()
}
METADATA: list[dict[str, str]] = [{}, {"format": "pt"}, {"": "", "dtype": "F32", "é": "😀"}]
WORDS = [*DTYPE_BITS, "f32", "F32 ", "F128", "dtype", "shape", "data_offsets", "__metadata__", "format", "a", "b"]
LENGTHS = [0, 1, 2, 7, 8, 9, 100_000_000, 100_000_001, (16 << 20) + 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]


@dataclass(frozen=True)
class File:
    """The parts of a safetensors file. `length`: what it says of its header, where that is a lie."""

    text: bytes
    data: bytes
    length: int | None = None

    def packed(self) -> bytes:
        return struct.pack("<Q", len(self.text) if self.length is None else self.length) + self.text + self.data


def valid(rng: Random) -> File:
    """A file without fault: up to four tensors of any dtypes. No two bytes of its data are alike."""
    entries: list[tuple[str, object]] = []
    reached = 0
    for name in rng.sample(NAMES, rng.randint(0, 4)):
        dtype = rng.choice(list(DTYPE_BITS))
        shape = rng.choice(SHAPES_OF[dtype])
        start, reached = reached, reached + math.prod(shape) * DTYPE_BITS[dtype] // 8
        entries.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [start, reached]}))
    if rng.random() < 0.5:
        entries.append(("__metadata__", rng.choice(METADATA)))
    rng.shuffle(entries)
    text = json.dumps(dict(entries), ensure_ascii=rng.random() < 0.5)
    return File(text.encode(), bytes(range(256))[:reached])


def changed_grammar(file: File, rng: Random) -> File:
    text = grammar.mutated(file.text.decode("utf-8", "replace"), WORDS, rng)
    return replace(file, text=text.encode())


def changed_bytes(file: File, rng: Random) -> File:
    return replace(file, text=octets.mutated(file.text, rng))


def changed_length(file: File, rng: Random) -> File:
    near = len(file.text) + rng.choice((-9, -1, 1, 2, 8, len(file.data), len(file.data) + 1))
    return replace(file, length=rng.choice((max(near, 0), rng.choice(LENGTHS))))


def changed_data(file: File, rng: Random) -> File:
    return replace(file, data=rng.choice((file.data[:-1], file.data + b"\0", b"", file.data * 2)))


def padded(file: File, rng: Random) -> File:
    blanks = rng.choice((b" ", b"\0", b"\n", b"{}")) * rng.randint(1, 8)
    return replace(file, text=rng.choice((file.text + blanks, blanks + file.text)))


def spliced(file: File, rng: Random) -> File:
    return replace(file, text=octets.spliced(file.text, valid(rng).text, rng))


EDITS = [*[changed_grammar] * 8, changed_bytes, changed_bytes, changed_length, changed_data, padded, spliced]


def case(rng: Random) -> bytes:
    """A valid file after one or two changes."""
    file = valid(rng)
    for _ in range(rng.choice((1, 1, 2))):
        file = rng.choice(EDITS)(file, rng)
    return octets.mutated(file.packed(), rng) if rng.random() < 0.1 else file.packed()


def ours(data: bytes) -> Header | None:
    """What our reader makes of the bytes of a file."""
    try:
        return parse_header(io.BytesIO(data), len(data))
    except ValueError:
        return None


def judge(data: bytes, header: Header | None) -> Verdict:
    """Whether the library takes `data` as our reader took it."""
    try:
        theirs = dict(deserialize(data))  # type: ignore[no-untyped-call]
    # the library's sentence about a bad header may hold bytes that are no UTF-8
    except (SafetensorError, UnicodeDecodeError):
        return "refused" if header is None else "accepted by us only"
    if header is None:
        return "refused by us only"
    start = header.data_start
    read = {
        name: {"dtype": info.dtype, "shape": list(info.shape), "data": data[start + info.start : start + info.end]}
        for name, info in header.tensors.items()
    }
    return "accepted" if read == theirs else "read differently"


def ours_of_file(path: Path) -> Header | None:
    """What our reader makes of a file."""
    try:
        return read_header(path)
    except UnsafeCheckpoint:
        return None


def judge_file(path: Path, header: Header | None) -> Verdict:
    """Whether the library opens the file at `path` as our reader took it."""
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            theirs = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, UnicodeDecodeError):
        return "refused" if header is None else "accepted by us only"
    if header is None:
        return "refused by us only"
    read = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    return "accepted" if (read, header.metadata) == (theirs, metadata) else "read differently"
