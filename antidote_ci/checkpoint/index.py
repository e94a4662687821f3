"""Which safetensors files make up a full checkpoint, and which tensor lies in which."""

from pathlib import Path

from antidote_ci.checkpoint.headers import Header
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 16 << 20


def find_shards(folder: Path, names: list[str]) -> tuple[str, ...]:
    """The shards among `names`: the one file, or those of the index, each a plain name of this folder.

    Raises UnsafeCheckpoint for an index that names anything else, ConfigurationError where there are two checkpoints.
    """
    if INDEX not in names:
        return (WEIGHTS,)
    entries = _index(folder)
    for shard in sorted(set(entries.values())):
        if "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise _index_error(f"names {shard!r:.200}, which is no safetensors file of this folder")
        if shard not in names:
            raise _index_error(f"names {shard!r:.200}, which is not there")
    if WEIGHTS in names and WEIGHTS not in entries.values():
        # Frameworks differ in which of the two they load.
        raise ConfigurationError(
            f"{folder} holds both {WEIGHTS} and an index of other shards",
            hint="remove the one that is not meant",
        )
    return tuple(sorted(set(entries.values())))


def map_weights(headers: dict[str, Header]) -> dict[str, str]:
    """Tensor name -> shard, for every tensor of every shard, also those the index forgot: a framework may load them.

    Raises UnsafeCheckpoint for a tensor that lies in two.
    """
    found: dict[str, str] = {}
    for shard, header in headers.items():
        for name in header.tensors:
            if name in found:
                raise UnsafeCheckpoint(
                    f"{shard} and {found[name]} both hold {name!r:.200}",
                    cause="readers would differ in which one they take",
                )
            found[name] = shard
    return found


def require_index_holds(folder: Path, weight_map: dict[str, str]) -> None:
    """Raise UnsafeCheckpoint when the index of `folder` promises a tensor that its shard does not hold."""
    for name, shard in _index(folder).items():
        if weight_map.get(name) != shard:
            raise _index_error(f"says that {shard} holds {name!r:.200}, which it does not")


def _index(folder: Path) -> dict[str, str]:
    entries = read_object(folder / INDEX, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise _index_error("has no weight_map")
    if any(not isinstance(shard, str) for shard in entries.values()):
        raise _index_error("has a weight_map with entries that are no file names")
    return entries


def _index_error(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{INDEX} {what}",
        cause="the upload is incomplete, or the index is made to open other files",
        hint="download the repository again, or save the checkpoint anew",
    )
