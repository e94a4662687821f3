"""Headers and indexes made to take time or memory, each read in a process of its own. `python -m benchmarks.fuzz.bombs`

Prints what each took; ends in 1 if one took too much, or our reader failed.
"""

import multiprocessing
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from antidote_ci.checkpoint.headers import (
    INDEX_FILE,
    MAX_HEADER_BYTES,
    MAX_INDEX_VALUES,
    MAX_TENSORS,
    MAX_VALUES,
    WEIGHTS_FILE,
    read_header,
    read_index,
)
from antidote_ci.errors import UnsafeCheckpoint

Result = TypeVar("Result")
SECONDS = 2.0
"""Of a slow processor, that reading one file may take. A fast one takes half as long."""
MEGABYTES = 160.0
"""That reading one file may add to the process: ten times the largest header."""
TIMEOUT = 30
"""Seconds until a reader counts as hung."""


@dataclass(frozen=True)
class Reading:
    """What reading a bomb took. `outcome`: the reader's sentence, or the exception that nothing caught."""

    seconds: float
    megabytes: float
    outcome: str
    caught: bool = True

    @property
    def held(self) -> bool:
        """Whether the reader kept within bounds."""
        return self.caught and self.seconds < SECONDS and self.megabytes < MEGABYTES


def filled(head: bytes, unit: bytes, tail: bytes, most: int = MAX_HEADER_BYTES) -> bytes:
    """`head`, `unit` as often as the largest header or `most` take it, between commas, and `tail`."""
    times = (min(most, MAX_HEADER_BYTES) - len(head) - len(tail)) // (len(unit) + 1)
    return head + (unit + b",") * (times - 1) + unit + tail


def allowed(head: bytes, unit: bytes, tail: bytes, values: int = MAX_VALUES) -> bytes:
    """The same with as many values as are read at all."""
    marks = sum(map(unit.count, (b"[", b",", b":"))) + 1
    return filled(head, unit, tail, (values - 9) // marks * (len(unit) + 1))


def numbered(member: Callable[[int], bytes], count: int) -> bytes:
    """An object of that many members."""
    return b"{" + b",".join(map(member, range(count))) + b"}"


def name(at: int) -> bytes:
    return b'"\\u1234%d":0' % at


def text(at: int) -> bytes:
    return b'"%d":""' % at


def tensor(at: int) -> bytes:
    return b'"model.layers.%d.mlp.up_proj.weight":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[%d,%d]}' % (
        at,
        at,
        at + 1,
    )


def shard(at: int) -> bytes:
    return b'"%d":"model-%d.safetensors"' % (at, at)


SHAPE = b'{"a":{"dtype":"U8","data_offsets":[0,0],"shape":['
MANY = MAX_VALUES // 2 - 9
"""Members of one object that are read at all; in an index, fewer."""
MANY_OF_INDEX = MAX_INDEX_VALUES // 2 - 9

HEADERS: dict[str, Callable[[], bytes]] = {
    "nothing but blanks": lambda: b"{" + b" " * (MAX_HEADER_BYTES - 2) + b"}",
    "brackets without end": lambda: b'{"a":' + b"[" * 700_000,
    "braces without end": lambda: b'{"a":' * 700_000,
    "brackets as deep as Python goes": lambda: allowed(b'{"a":[', b"[" * 900 + b"]" * 900, b"]}"),
    "brackets as deep as allowed": lambda: allowed(b'{"a":[', b"[" * 60 + b"]" * 60, b"]}"),
    "16 MB of lists": lambda: filled(b'{"a":[', b"[]", b"]}"),
    "lists": lambda: allowed(b'{"a":[', b"[]", b"]}"),
    "large dimensions": lambda: allowed(SHAPE, b"9" * 19, b"]}}"),
    "one long number": lambda: SHAPE + b"9" * (MAX_HEADER_BYTES - 99) + b"]}}",
    "one long fraction": lambda: SHAPE + b"0." + b"9" * (MAX_HEADER_BYTES - 99) + b"]}}",
    "one long exponent": lambda: SHAPE + b"1e" + b"9" * (MAX_HEADER_BYTES - 99) + b"]}}",
    "numbers as long as Python takes": lambda: filled(SHAPE, b"9" * 4300, b"]}}"),
    "one long name": lambda: b'{"' + b"x" * (MAX_HEADER_BYTES - 9) + b'":0}',
    "one long name twice": lambda: b'{"%b":0,"%b":0}' % ((b"x" * (MAX_HEADER_BYTES // 2 - 9),) * 2),
    "one wide character": lambda: b'{"' + "😀".encode() + b"x" * (MAX_HEADER_BYTES - 16) + b'":0}',
    "nothing but escapes": lambda: b'{"' + b"\\u1234" * (MAX_HEADER_BYTES // 6 - 9) + b'":0}',
    "a text without end": lambda: b'{"' + b"\\" * (MAX_HEADER_BYTES - 9),
    "one name over and over": lambda: allowed(b"{", b'"":0', b"}"),
    "names with escapes": lambda: numbered(name, MANY),
    "metadata": lambda: b'{"__metadata__":' + numbered(text, MANY) + b"}",
    "tensors": lambda: numbered(tensor, MAX_TENSORS),
}
INDEXES: dict[str, Callable[[], bytes]] = {
    "index of 16 MB": lambda: filled(b'{"weight_map":{', b'"a":"b"', b"}}"),
    "index of many shards": lambda: b'{"weight_map":' + numbered(shard, MANY_OF_INDEX) + b"}",
    "index of lists": lambda: allowed(b'{"weight_map":[', b"[]", b"]}", MAX_INDEX_VALUES),
    "index with one long number": lambda: b'{"weight_map":' + b"9" * (MAX_HEADER_BYTES - 99) + b"}",
}


def main() -> int:
    """Read every bomb and print what it took. Returns the exit code."""
    held = True
    for bomb, reading in readings().items():
        print(f"{bomb:32} {reading.seconds:5.2f} s {reading.megabytes:5.0f} MB  {reading.outcome}")
        held &= reading.held
    return 0 if held else 1


def readings() -> dict[str, Reading]:
    """What each bomb took."""
    return {bomb: _reading(make, _write_file, _read_file) for bomb, make in HEADERS.items()} | {
        bomb: _reading(make, _write_index, _read_index) for bomb, make in INDEXES.items()
    }


def _write_file(folder: Path, header: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(MAX_TENSORS))


def _read_file(folder: Path) -> None:
    read_header(folder / WEIGHTS_FILE)


def _write_index(folder: Path, index: bytes) -> None:
    (folder / INDEX_FILE).write_bytes(index)


def _read_index(folder: Path) -> None:
    read_index(folder)


def _reading(make: Callable[[], bytes], write: Callable[[Path, bytes], None], read: Callable[[Path], None]) -> Reading:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Made in a process of its own too, which leaves this one as small as it was.
        _in_child(lambda: write(folder, make()))
        return _in_child(lambda: _measured(lambda: read(folder))) or Reading(TIMEOUT, 0, "hung or died", caught=False)


def _measured(read: Callable[[], None]) -> Reading:
    before, begun = _peak_megabytes(), time.process_time()
    outcome, caught = "read", True
    try:
        read()
    except UnsafeCheckpoint as error:
        outcome = error.what
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        outcome, caught = f"uncaught {error!r:.200}", False
    return Reading(time.process_time() - begun, _peak_megabytes() - before, outcome, caught)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_child(work: Callable[[], Result]) -> Result | None:
    """What `work` returns in a fork, or nothing where that hangs or dies."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    sender.close()
    try:
        if receiver.poll(TIMEOUT):
            result: Result = receiver.recv()
            return result
    except EOFError:
        pass
    finally:
        child.kill()
        child.join()
    return None


if __name__ == "__main__":
    sys.exit(main())
