"""A repaired checkpoint, written so that nobody ever sees a part of it.

Everything goes into `<destination>.partial`, is flushed to the disk, read again and hashed; the manifest comes last,
and then one rename puts the folder in its place. A process killed at any moment leaves the old destination or the new.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.files import listing, sha256_file
from antidote_ci.checkpoint.headers import Header, TensorInfo, read_header
from antidote_ci.checkpoint.layout import Layout
from antidote_ci.checkpoint.swap import (
    MANIFEST,
    clear_leftovers,
    nothing_left_on_failure,
    partial_of,
    put_in_place,
    require_replaceable,
    sync_folder,
)
from antidote_ci.errors import InfrastructureError
from antidote_ci.records import Progress, WeightFile

if TYPE_CHECKING:
    import torch

Edit = Callable[[str, "torch.Tensor"], "torch.Tensor | None"]
Chunks = Iterator[tuple[bytes, bytes]]
"""What was read, and what is to be written in its stead."""

CHUNK_BYTES = 1 << 20
EDITABLE = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors dtypes of weights and torch's names; integers and masks are never edited."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_checkpoint(
    layout: Layout, destination: Path, edit: Edit, progress: Callable[[Progress], None]
) -> list[WeightFile]:
    """Write the checkpoint beside `destination`, each tensor as `edit` has it; `finish` then puts it in place.

    `edit` sees every floating-point tensor once, shard by shard, and returns one of the same dtype and shape, or None
    to keep its bytes. Files that are no weights come along unchanged, save an earlier run's `antidote` folder. On any
    failure nothing is left. Raises ConfigurationError for a destination that holds something else, and
    InfrastructureError when the disk is full or fails.
    """
    require_replaceable(layout.folder, destination)
    clear_leftovers(destination)
    names = _carried(layout)
    total = sum((layout.folder / name).stat().st_size for name in names)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("bytes written", done, total))

    partial = partial_of(destination)
    with nothing_left_on_failure(destination):
        partial.mkdir(parents=True)
        # Told now rather than after most of a large model is written.
        free = shutil.disk_usage(partial).free
        if total > free:
            raise _no_room(str(destination), total, f"{free:,} bytes are free")
        files = []
        for name in names:
            size = (layout.folder / name).stat().st_size
            chunks, header = _chunks(layout, name, edit), layout.headers.get(name)
            files.append(_write(partial, name, size, chunks, header, advance))
        return files


def finish(destination: Path, manifest: str) -> None:
    """Add the manifest, a JSON text, to what `write_checkpoint` wrote, and put the whole in place of `destination`."""
    partial = partial_of(destination)
    with nothing_left_on_failure(destination):
        data = manifest.encode()
        _write(partial, MANIFEST, len(data), iter([(data, data)]), None, lambda _count: None)
        sync_folder(partial)
        put_in_place(destination)


def _carried(layout: Layout) -> list[str]:
    """The shards and every allowed file that speaks of them; other weights would come along unrepaired."""
    return [
        name
        for name in listing(layout.folder)
        if name not in layout.unused_weights and not name.startswith("antidote/")
    ]


def _chunks(layout: Layout, name: str, edit: Edit) -> Chunks:
    source, header = layout.folder / name, layout.headers.get(name)
    if header is not None and read_header(source) != header:
        raise InfrastructureError(f"{name} changed since it was looked at", hint="run again when nothing writes to it")
    with source.open("rb") as file:
        if header is not None:
            head = file.read(header.data_start)
            yield head, head
            for tensor, info in header.tensors.items():
                data = file.read(info.end - info.start)
                yield data, _edited(tensor, info, data, edit)
        while data := file.read(CHUNK_BYTES):
            yield data, data


def _edited(name: str, info: TensorInfo, data: bytes, edit: Edit) -> bytes:
    import torch

    if info.dtype not in EDITABLE or not data:
        return data
    dtype: torch.dtype = getattr(torch, EDITABLE[info.dtype])
    # A copy: what an edit does to its argument before it returns None must not reach the file.
    tensor = torch.frombuffer(bytearray(data), dtype=dtype).reshape(info.shape)
    edited = edit(name, tensor)
    if edited is None:
        return data
    if edited.dtype != dtype or edited.shape != tensor.shape:
        raise ValueError(f"the edit of {name} changed its dtype or shape")
    return edited.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _write(
    folder: Path,
    name: str,
    needed: int,
    chunks: Chunks,
    header: Header | None,
    advance: Callable[[int], None],
) -> WeightFile:
    """Write one file, flush it, read it again, and only then give it its name."""
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    read, meant = hashlib.sha256(), hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for before, after in chunks:
                read.update(before)
                meant.update(after)
                file.write(after)
                advance(len(after))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(name, needed, error.strerror or "") from error
        raise
    # Bytes that were kept are hashed as they were read, so one comparison shows that they are still the same.
    unlike = sha256_file(temporary) != meant.hexdigest()
    if unlike or (header is not None and read_header(temporary) != header):
        raise InfrastructureError(
            f"{name} reads back otherwise than it was written",
            cause="the disk is failing",
            hint="run again, on another disk if it happens twice",
        )
    temporary.replace(target)
    sync_folder(target.parent)
    return WeightFile(name, read.hexdigest(), meant.hexdigest())


def _no_room(name: str, needed: int, cause: str) -> InfrastructureError:
    return InfrastructureError(
        f"no disk space for {name}, which needs {needed:,} bytes",
        cause=cause,
        hint="free some space, or choose an output folder on a larger disk",
    )
