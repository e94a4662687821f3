"""What our pull costs over the client's own download of the same files and one sha256 of each.

The Hub is a process of its own on this machine. Each turn downloads into an empty cache, by either way first.
"""

import hashlib
import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.pull import download_snapshot, resolve_revision
from benchmarks.speed.paired import Line, ratios, seconds
from loopback_hub import LoopbackHub

SHARDS = 8
SHARD_BYTES = 125_000_000
TURNS = 9
GOAL = 1.15
MODEL = "bench/model"


def main() -> None:
    """Measure, and print one line."""
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LoopbackHub(folder / "hub") as hub:
            hub.add(MODEL, _write_model(folder / "model"))
        with run_hub_process(folder / "hub") as endpoint:
            os.environ["HF_ENDPOINT"] = endpoint
            ours, bare = _turns(folder / "cache", _ours, _bare)
    line = Line("our pull over snapshot_download + sha256, 1 GB", ratios(ours, bare), "<=", GOAL)
    print(f"{line.name}: {line.median:.3f} ({min(line.values):.3f} to {max(line.values):.3f}, {TURNS} turns)")
    print(f"goal: {line.relation} {line.goal}, {'met' if line.met else 'MISSED'}")
    print("seconds, ours:", " ".join(f"{each:.2f}" for each in ours))
    print("seconds, bare:", " ".join(f"{each:.2f}" for each in bare))


def _ours(cache: Path) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(cache)
    access = HubAccess()
    download_snapshot(resolve_revision(MODEL, None, access), access, lambda _: None)


def _bare(cache: Path) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(MODEL, cache_dir=cache, endpoint=os.environ["HF_ENDPOINT"], token=False)
    for path in Path(folder).iterdir():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _turns(cache: Path, *works: Callable[[Path], None]) -> list[list[float]]:
    """Seconds of each work, turn by turn, in changing order; each runs once before anything is measured."""
    times: list[list[float]] = [[0.0] * (TURNS + 1) for _ in works]
    for turn in range(TURNS + 1):
        for which in sorted(range(len(works)), reverse=turn % 2 == 1):
            times[which][turn] = seconds(lambda which=which: works[which](cache))  # type: ignore[misc]
            shutil.rmtree(cache)
            os.sync()
    return [found[1:] for found in times]


def _write_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for number in range(1, SHARDS + 1):
        name = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        (folder / name).write_bytes(random.Random(number).randbytes(SHARD_BYTES))  # noqa: S311 - not a secret
    return folder


@contextmanager
def run_hub_process(root: Path) -> Iterator[str]:
    """Serve the repositories of `root` from a process of its own, whose costs are not measured. Yields the address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(root, there))
    server.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        server.join()


def _serve(root: Path, pipe: Connection) -> None:
    with LoopbackHub(root) as hub:
        pipe.send(hub.endpoint)
        pipe.recv()
