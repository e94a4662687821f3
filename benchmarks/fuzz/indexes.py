"""An index of two real shards, changed, and read by our reader and by a plain one."""

import json
import struct
from pathlib import Path
from random import Random

from antidote_ci.checkpoint.headers import (
    INDEX_FILE,
    list_shards,
    map_weights,
    read_header,
    read_index,
    require_index_holds,
)
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from benchmarks.fuzz import grammar, octets
from benchmarks.fuzz.headers import Verdict

SHARDS = {
    "model-00001-of-00002.safetensors": ["model.embed.weight", "model.layers.0.weight", "é"],
    "model-00002-of-00002.safetensors": ["model.layers.1.weight", "lm_head.weight"],
}
STRANGERS = ["other.safetensors", "config.json", "README.md"]
"""Files of the folder that are no part of the checkpoint."""
WORDS = [
    *SHARDS,
    *(name for names in SHARDS.values() for name in names),
    *STRANGERS,
    *("weight_map", "metadata", "total_size", "", ".", "..", "/", "\\", ".safetensors", "..safetensors"),
    *("../model-00001-of-00002.safetensors", "./model-00001-of-00002.safetensors", "/etc/passwd.safetensors"),
    *("..\\model-00001-of-00002.safetensors", "C:\\model.safetensors", "//host/share/model.safetensors"),
    *("file:///model.safetensors", "https://example.org/model.safetensors", "~/model.safetensors"),
    *("model-00001-of-00002.safetensors\0", "model-00001-of-00002.safetensors\0.safetensors"),
    *("MODEL-00001-OF-00002.SAFETENSORS", "model‐00001‐of‐00002.safetensors", "ｍodel-00001-of-00002.safetensors"),
    *("mоdel-00001-of-00002.safetensors", " model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors "),
    *("model-00001-of-00002.bin", "model.safetensors", "folder.safetensors", "..\u2215model.safetensors", "e\u0301"),
]


def prepare(folder: Path) -> None:
    """Write the shards and the other files of the checkpoint into `folder`."""
    for shard, names in SHARDS.items():
        entries = {name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]} for at, name in enumerate(names)}
        text = json.dumps(entries).encode()
        (folder / shard).write_bytes(struct.pack("<Q", len(text)) + text + bytes(len(names)))
    for name in STRANGERS:
        (folder / name).write_bytes(b"{}")
    (folder / "folder.safetensors").mkdir()


def case(rng: Random) -> bytes:
    """The index of `SHARDS` after one or two changes."""
    weight_map = [(name, shard) for shard, names in SHARDS.items() for name in names]
    rng.shuffle(weight_map)
    index = {"metadata": {"total_size": 5}, "weight_map": dict(weight_map)}
    text = json.dumps(index, ensure_ascii=rng.random() < 0.5)
    for _ in range(rng.choice((1, 1, 2))):
        text = grammar.mutated(text, WORDS, rng)
    return octets.mutated(text.encode(), rng) if rng.random() < 0.2 else text.encode()


def ours(folder: Path) -> tuple[str, ...] | None:
    """The shards that our reader would open, or nothing where it refuses."""
    names = [*SHARDS, *STRANGERS, INDEX_FILE]
    try:
        index = read_index(folder)
        shards = list_shards(index, names)
        require_index_holds(index, map_weights({shard: read_header(folder / shard) for shard in shards}))
    except (UnsafeCheckpoint, ConfigurationError):
        return None
    return shards


def judge(data: bytes, shards: tuple[str, ...] | None) -> Verdict:
    """Whether a plain reader of `data` would find what our reader found, and nothing beyond `SHARDS`."""
    try:
        entries = json.loads(data)["weight_map"]
        wanted = set(entries.values())
        sound = all(name in SHARDS[shard] for name, shard in entries.items())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        wanted, sound = set(), False
    if shards is None:
        return "refused by us only" if sound else "refused"
    if not sound:
        return "accepted by us only"
    return "accepted" if set(shards) == wanted else "read differently"
