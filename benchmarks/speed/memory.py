"""Peak memory of scoring and applying on a sharded random Llama of 3 GB, in a process of its own."""

import subprocess
import sys
import tempfile
import threading
from math import prod
from pathlib import Path

from benchmarks.speed.large import llama, write_pair
from benchmarks.speed.paired import Line
from benchmarks.speed.procedure import repaired

BUDGET = 64 << 20
ROWS = 24
SAMPLING_SECONDS = 0.005


def run(turns: int) -> list[Line]:
    """One line; a turn takes minutes and differs by little, so there is one."""
    del turns
    shape = llama(blocks=20)
    block_bytes = 2 * sum(prod(size) for name, size in shape.tensors().items() if name.startswith("model.layers.0."))
    with tempfile.TemporaryDirectory() as folder:
        source, reference = write_pair(Path(folder), shape, shards=10)
        command = [sys.executable, "-m", "benchmarks.speed.memory", str(source), str(reference), f"{folder}/out"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = int(result.stdout)
    return [
        Line(
            "peak memory above imports / (2 x block + budget)",
            [peak / (2 * block_bytes + BUDGET)],
            "<=",
            1.1,
            f"peak {peak / 1e6:.0f} MB; a block {block_bytes / 1e6:.0f} MB, the budget {BUDGET / 1e6:.0f} MB",
        )
    ]


def anonymous_bytes() -> int:
    """What this process holds that is no file's page."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("this needs Linux")


def main() -> None:
    """Repair in this process and print the peak in bytes above what the imports took."""
    import peft  # noqa: F401 - part of the baseline
    import transformers  # noqa: F401

    source, reference, out = map(Path, sys.argv[1:])
    baseline = peak = anonymous_bytes()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(SAMPLING_SECONDS):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    repaired(source, reference, out, ROWS, BUDGET)
    ended.set()
    watcher.join()
    print(peak - baseline)


if __name__ == "__main__":
    main()
