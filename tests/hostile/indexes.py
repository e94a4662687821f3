"""Indexes that name files elsewhere, or wrong shards."""

import json
from pathlib import Path

from tests.hostile.fixture import INDEX, WEIGHTS, Change, Fixture, edited
from tests.hostile.pickles import PAYLOAD

TRANSFORMERS = "https://github.com/huggingface/transformers"


def leading_to(shard: str) -> Change:
    """Let the index place the first tensor in `shard`."""
    return edited(INDEX, lambda index: index["weight_map"].update({next(iter(index["weight_map"])): shard}))


def _first_shard(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


def _pickled_shard(folder: Path) -> None:
    """Replace the first shard with a pickle, in the index too."""
    shard = _first_shard(folder)
    shard.unlink()
    (folder / "pytorch_model-00001-of-00003.bin").write_bytes(PAYLOAD)
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace(shard.name, "pytorch_model-00001-of-00003.bin"))


def _in_two_shards(folder: Path) -> None:
    """Add the tensors of the first shard to the second one."""
    from safetensors.torch import load_file, save_file

    first, second = sorted(folder.glob("model-*.safetensors"))[:2]
    save_file(load_file(first) | load_file(second), second, {"format": "pt"})


def _exchanged(index: dict[str, dict[str, str]]) -> None:
    """Swap the shards of two tensors in the index only."""
    shards = index["weight_map"]
    names = list(shards)
    shards[names[0]], shards[names[-1]] = shards[names[-1]], shards[names[0]]


def _both(folder: Path) -> None:
    """Add a complete checkpoint beside the shards."""
    (folder / WEIGHTS).write_bytes(_first_shard(folder).read_bytes())


def _twice(folder: Path) -> None:
    """Repeat the first entry with another shard."""
    entries = json.loads((folder / INDEX).read_text())["weight_map"]
    name, shards = next(iter(entries)), sorted(set(entries.values()))
    text = (folder / INDEX).read_text()
    first, second = f'"{name}": "{entries[name]}"', f'"{name}": "{shards[-1]}"'
    (folder / INDEX).write_text(text.replace(first, f"{first}, {second}"))


FIXTURES = (
    Fixture(
        "parent-folder",
        f"{TRANSFORMERS}/issues/47176",
        "a shard two folders up: transformers joins the name and opens it",
        leading_to("../../other/model.safetensors"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "absolute-path",
        "CVE-2026-69112",
        "a shard anywhere on this machine; accelerate opens it, and has no repaired version",
        leading_to("/etc/hostname"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "absolute-safetensors",
        f"{TRANSFORMERS}/pull/46913",
        "an absolute path to another model's weights in place of a shard",
        leading_to("/srv/models/private/model.safetensors"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "drive-letter",
        "https://github.com/unslothai/unsloth-zoo/pull/829",
        "a Windows path, which a check for slashes accepts",
        leading_to("C:\\models\\model.safetensors"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "subfolder",
        f"{TRANSFORMERS}/pull/46281",
        "a shard in a subfolder, which is neither downloaded nor checked",
        leading_to("hidden/model.safetensors"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "address",
        f"{TRANSFORMERS}/issues/46097",
        "a URL in place of a file name",
        leading_to("https://127.0.0.1/model.safetensors"),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "pickled-shard",
        f"{TRANSFORMERS}/pull/46272",
        "one shard of three is a pickle",
        _pickled_shard,
        INDEX,
        start="sharded",
    ),
    Fixture(
        "missing-shard",
        "https://github.com/unslothai/unsloth/issues/1122",
        "a shard that was never uploaded: a framework would fill the gap with random numbers",
        lambda folder: _first_shard(folder).unlink(),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "in-two-shards",
        "CWE-436",
        "a tensor lies in two shards, and readers differ in which one they take",
        _in_two_shards,
        "model-00002-of-00003.safetensors",
        start="sharded",
    ),
    Fixture(
        "lying-index",
        "CWE-436",
        "the index names the wrong shard for two tensors",
        edited(INDEX, _exchanged),
        INDEX,
        start="sharded",
    ),
    Fixture(
        "entry-twice",
        "https://bishopfox.com/blog/json-interoperability-vulnerabilities",
        "one tensor appears twice in the index, with two shards",
        _twice,
        INDEX,
        start="sharded",
    ),
    Fixture(
        "two-checkpoints",
        f"{TRANSFORMERS}/blob/main/src/transformers/modeling_utils.py",
        "a complete checkpoint beside the index of another: one may be tested and the other used",
        _both,
        INDEX,
        start="sharded",
    ),
    Fixture(
        "unlisted-tensor",
        "CWE-436",
        "a shard holds a tensor that the index omits: readers differ in whether they load it",
        edited(INDEX, lambda index: index["weight_map"].pop(next(iter(index["weight_map"])))),
        INDEX,
        start="sharded",
    ),
)
