"""A pull and a publish of 1 GB, each killed twice on its way and started again.

LOOPBACK_HUB_VARIANT=xet transfers the files by Xet instead of git-lfs.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.destination import Destination
from antidote_ci.hub.pull import download_snapshot, resolve_revision
from benchmarks.costs.processes import folder_bytes
from loopback_hub import LoopbackHub
from loopback_hub.strictness import read_strictness
from tests.hub.campaign import SOURCE, Material, find_violations, publish_once, sums, to, write_material
from tests.hub.hub_samples import TOKEN

SHARD_BYTES = 350_000_000
"""Of each of three shards."""
KILLS = (0.3, 0.6)
"""The shares of the bytes after which a process is killed."""
RUN_SECONDS = 600


def main() -> None:
    """Run both, print one line for each, and end with 1 where a file differs."""
    way = "Xet" if read_strictness().has_xet else "git-lfs"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        material = write_material(folder / "material", columns=SHARD_BYTES // 64)
        with LoopbackHub(folder / "hub") as hub:
            revision, cache = hub.add(SOURCE, material.source), folder / "cache"
            seconds = survive(cache, lambda: start(hub, cache, _pull, folder / "pulled"))
            pulled = Path((folder / "pulled").read_text())
            correct = sums(pulled) == sums(material.source)
            print(f"pull by {way}, killed at {KILLS}: {len(sums(pulled))} files, sha256 equal: {correct}; {seconds}")
            destination = to("pull-request", revision)
            stored = folder / "hub"
            seconds = survive(stored, lambda: start(hub, cache, _publish, destination, material))
            broken = find_violations(hub, destination, material, finished=True)
            print(f"publish by {way}, killed at {KILLS}: sha256 equal, one pull request: {not broken}; {seconds}")
            for violation in broken:
                print(f"{violation.rule}: {violation.what}")
    sys.exit(not correct or bool(broken))


def survive(folder: Path, start_process: Callable[[], BaseProcess]) -> str:
    """Kill a process when `folder` has grown by each share of KILLS, then let one finish. Returns the times."""
    began, before, times = time.monotonic(), folder_bytes(folder), []
    for share in (*KILLS, None):
        process = start_process()
        while share and folder_bytes(folder) - before < share * 3 * SHARD_BYTES:
            if not process.is_alive():
                raise RuntimeError(f"the process ended with {process.exitcode} before it could be killed")
            time.sleep(0.01)
        if share and process.pid:
            os.kill(process.pid, signal.SIGKILL)
        process.join(RUN_SECONDS)
        if process.exitcode != (-signal.SIGKILL if share else 0):
            raise RuntimeError(f"exit code {process.exitcode} of the process at {share}")
        times.append(f"{time.monotonic() - began:.0f} s")
    return ", ".join(times)


def start(hub: LoopbackHub, cache: Path, target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a process whose client knows this Hub and this cache alone."""
    os.environ |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_XET_CACHE": str(cache / "xet"),
        "HF_HUB_DISABLE_XET": str(int(not read_strictness().has_xet)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def _pull(answer: Path) -> None:
    access = HubAccess(TOKEN)
    answer.write_text(str(download_snapshot(resolve_revision(SOURCE, None, access), access, lambda _: None)))


def _publish(destination: Destination, material: Material) -> None:
    publish_once(destination, material, HubAccess(TOKEN), run=1)
