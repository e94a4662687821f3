"""Read changed headers and indexes by the million, and open combined changes of small checkpoints.

Prints what came of them; ends in 1 if a reader of ours failed, hung, or took what the safetensors library refuses, or
if a combination broke a rule (`combinations`). Case N of a seed is the same on every machine.
"""

import argparse
import faulthandler
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.fuzz import bombs, campaign, combinations
from benchmarks.fuzz.campaign import Tally

BATCH = 5_000
REPORT_INTERVAL = 20
"""Batches between two lines of progress."""
TIMEOUT = 300
"""Seconds until a batch of some two seconds counts as hung, and says where."""


def main() -> int:
    """Run the campaign, the bombs and the combinations. Returns the exit code."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description="fuzz the checks of checkpoints")
    options.add_argument("--cases", type=int, default=1_000_000, help="headers and indexes")
    options.add_argument("--combinations", type=int, default=100_000, help="combined changes of checkpoints")
    options.add_argument("--first", type=int, default=0, help="number of the first combination, to resume")
    options.add_argument("--only", type=int, help="run one combination alone and print all of it")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = options.parse_args()
    seed, workers = arguments.seed, arguments.workers

    if arguments.only is not None:
        return combinations.run_and_report(seed, 1, workers, only=arguments.only)
    failed = _read_headers(seed, arguments.cases, workers) if arguments.cases else 0
    if arguments.combinations:
        print()
        return max(failed, combinations.run_and_report(seed, arguments.combinations, workers, arguments.first))
    return failed


def _read_headers(seed: int, cases: int, workers: int) -> int:
    begun = time.monotonic()
    tally = run(seed, cases, workers)
    print(f"{cases:,} cases of seed {seed} in {time.monotonic() - begun:.0f} s")
    for (kind, verdict), count in sorted(tally.counts.items()):
        print(f"{kind:8} {verdict:20} {count:10,}")
    for case in tally.findings[:20]:
        print(f"case {case.number}, {case.kind}: {case.verdict}\n{case.data[:2000]!r}\n{case.trace}")
    slowest = tally.slowest.seconds if tally.slowest else 0.0
    print(f"findings {len(tally.findings)}; slowest {slowest * 1000:.1f} ms")

    print()
    return max(bombs.main(), int(bool(tally.findings) or slowest > bombs.SECONDS))


def run(seed: int, cases: int, workers: int) -> Tally:
    """Every case below `cases`, on `workers` processes."""
    tally = Tally()
    batches = [range(start, min(start + BATCH, cases)) for start in range(0, cases, BATCH)]
    with ProcessPoolExecutor(workers) as pool:
        for done, part in enumerate(pool.map(_batch, [seed] * len(batches), batches), 1):
            tally.join(part)
            if done % REPORT_INTERVAL == 0:
                print(f"{done * BATCH:,} of {cases:,}, findings {len(tally.findings)}", file=sys.stderr, flush=True)
    return tally


def _batch(seed: int, numbers: range) -> Tally:
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    try:
        return campaign.run(seed, numbers)
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main())
