"""Which safetensors files make up a full checkpoint, and which tensor lies in which."""

from pathlib import Path

from antidote_ci.checkpoint.headers import Header
from antidote_ci.checkpoint.json_files import read_object, shorten_value
from antidote_ci.errors import UnsafeCheckpoint

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_INDEX_BYTES = 16 << 20
MAX_INDEX_VALUES = 600_000
"""Two a tensor."""


def find_shards(folder: Path, names: list[str]) -> tuple[str, ...]:
    """The shards among `names`: the one file, or those of the index, each a plain name of this folder.

    Raises UnsafeCheckpoint for an index that names anything else, and where there are two checkpoints.
    """
    if INDEX_FILE not in names:
        return (WEIGHTS_FILE,)
    present, shards = set(names), sorted(set(_read_index(folder).values()))
    for shard in shards:
        if "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise _index_error(f"names {shorten_value(shard)}, which is no safetensors file of this folder")
        if shard not in present:
            raise _index_error(f"names {shorten_value(shard)}, which is not there")
    if WEIGHTS_FILE in present and WEIGHTS_FILE not in shards:
        raise UnsafeCheckpoint(
            f"{INDEX_FILE} names other shards, and {WEIGHTS_FILE} is there too",
            cause="frameworks differ in which of the two they load, so one could be tested and the other used",
            hint="remove the one that is not meant",
        )
    return tuple(shards)


def map_weights(headers: dict[str, Header]) -> dict[str, str]:
    """Tensor name -> shard, for every tensor of every shard, also those the index forgot: a framework may load them.

    Raises UnsafeCheckpoint for a tensor that lies in two.
    """
    found: dict[str, str] = {}
    for shard, header in headers.items():
        for name in header.tensors:
            if name in found:
                raise UnsafeCheckpoint(
                    f"{shard} and {found[name]} both hold {shorten_value(name)}",
                    cause="readers would differ in which one they take",
                )
            found[name] = shard
    return found


def require_index_holds(folder: Path, weight_map: dict[str, str]) -> None:
    """Raise UnsafeCheckpoint when the index of `folder` promises a tensor that its shard does not hold."""
    for name, shard in _read_index(folder).items():
        if weight_map.get(name) != shard:
            raise _index_error(f"says that {shard} holds {shorten_value(name)}, which it does not")


def _read_index(folder: Path) -> dict[str, str]:
    entries = read_object(folder / INDEX_FILE, MAX_INDEX_BYTES, MAX_INDEX_VALUES).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise _index_error("has no weight_map")
    if any(not isinstance(shard, str) for shard in entries.values()):
        raise _index_error("has a weight_map with entries that are no file names")
    return entries


def _index_error(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{INDEX_FILE} {what}",
        cause="the upload is incomplete, or the index is made to open other files",
        hint="download the repository again, or save the checkpoint anew",
    )
