"""Single tensors of safetensors files. Nothing is mapped: memory holds what was asked for and no more."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.headers import DTYPE_BITS, TensorInfo, read_header
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError, InfrastructureError

if TYPE_CHECKING:
    import torch

WEIGHT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors dtypes of weights, and torch's names. Integers and packed numbers are never scored or edited."""
ALIGNMENT = 64
"""Bytes, as torch aligns its own: on several threads a product of matrices that lie otherwise has other last bits."""
OWN_DTYPES = WEIGHT_DTYPES | {"U8": "uint8"}
"""Beside them, the bits of masks."""
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Safetensors dtype and shape by tensor name, in the order in which the tensors are written."""


def read_tensor(layout: CheckpointLayout, name: str) -> "torch.Tensor":
    """The tensor `name` of a checkpoint in its own dtype. Raises ConfigurationError for a dtype that is no weight's."""
    shard = layout.weight_map[name]
    header = layout.headers[shard]
    info = header.tensors[name]
    if info.dtype not in WEIGHT_DTYPES:
        raise ConfigurationError(
            f"{name} in {shard} is stored as {info.dtype}",
            cause="quantised or packed numbers are no weights",
            hint="use the checkpoint before quantisation, repair it, and quantise the result",
        )
    return _read_from(layout.folder / shard, header.data_start, info)


def read_delta(source: CheckpointLayout, reference: CheckpointLayout | None, name: str) -> "torch.Tensor":
    """What fine-tuning added: W - W_ref in float32, or, without a reference, the weight itself."""
    weight = read_tensor(source, name).float()
    return weight if reference is None else weight.sub_(read_tensor(reference, name).float())


class TensorFile:
    """A safetensors file of this program's own, read one tensor at a time."""

    def __init__(self, path: Path) -> None:
        """Raises UnsafeCheckpoint for a file that is none."""
        self.path, self.header = path, read_header(path)

    def __contains__(self, name: str) -> bool:
        return name in self.header.tensors

    def read(self, name: str) -> "torch.Tensor":
        """The tensor `name`; raises KeyError where the file has none."""
        return _read_from(self.path, self.header.data_start, self.header.tensors[name])


@contextmanager
def open_writer(path: Path, shapes: Shapes, metadata: Mapping[str, str]) -> Iterator[Callable[["torch.Tensor"], None]]:
    """Write a safetensors file whose tensors are handed over one at a time, in the order of `shapes`.

    It has its name when all are there, and is gone when something is raised before. Raises ValueError for a tensor of
    another dtype or shape than announced, and for one that never came.
    """
    import torch

    order = iter(shapes.items())
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_build_header(shapes, metadata))

            def write(tensor: torch.Tensor) -> None:
                name, (dtype, shape) = next(order, ("", ("U8", ())))
                if not name:
                    raise ValueError(f"{path.name} has all its tensors already")
                if tensor.shape != shape or tensor.dtype != getattr(torch, OWN_DTYPES[dtype]):
                    raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")
                file.write(tensor_bytes(tensor))

            yield write
        if missing := [name for name, _ in order]:
            raise ValueError(f"{path.name} lacks {missing[0]}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_at(file: BufferedReader, info: TensorInfo) -> "torch.Tensor":
    """The tensor that lies where `file` stands. Raises InfrastructureError when the file ends before it."""
    import numpy
    import torch

    size = info.end - info.start
    # numpy asks for huge pages, torch does not: fresh small ones take longer than the read itself.
    room = numpy.empty(size + ALIGNMENT, dtype=numpy.uint8)
    data = room[-room.ctypes.data % ALIGNMENT :][:size]
    if file.readinto(data.data) != size:
        raise InfrastructureError(
            f"{Path(file.name).name} was cut short while it was read",
            cause="something else writes to it",
            hint="run again when nothing does",
        )
    return torch.from_numpy(data).view(getattr(torch, OWN_DTYPES[info.dtype])).reshape(info.shape)


def tensor_bytes(tensor: "torch.Tensor") -> memoryview:
    """Its entries as safetensors stores them, without a copy where they lie so already."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _read_from(path: Path, data_start: int, info: TensorInfo) -> "torch.Tensor":
    with path.open("rb") as file:
        file.seek(data_start + info.start)
        return read_at(file, info)


def _build_header(shapes: Shapes, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (offset, offset + size)}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins on an eight-byte boundary, as the library writes it
    return struct.pack("<Q", len(text)) + text
