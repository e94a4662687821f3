"""A fake run of half a second: `python fake_run.py LEDGER run REPOSITORY --revision SHA ...`

The real executor starts it. It records its start and end in a durable ledger, and writes a report.json as a real run
does. It uses the standard library only, so that it starts quickly.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

VERDICTS = (("pass", 0), ("pass", 0), ("repaired", 7), ("repaired", 7), ("fail", 1), ("inconclusive", 4))
INFRASTRUCTURE = 3
FAULT_IN = 8
"""The first run of one of this many commits ends with INFRASTRUCTURE, as if the Hub were unreachable."""
SHORTEST, LONGEST = 0.2, 0.5
LONG_IN, LONG = 16, 4.0
"""The run of one of this many commits takes so long that it outlives a killed service."""


def verdict(revision: str) -> tuple[str, int]:
    """The verdict of a commit's run, and its exit code."""
    return VERDICTS[int(revision[:8], 16) % len(VERDICTS)]


def seconds(revision: str) -> float:
    """The duration of a commit's run."""
    if int(revision[20:28], 16) % LONG_IN == 0:
        return LONG
    return SHORTEST + (LONGEST - SHORTEST) * (int(revision[8:12], 16) / 0xFFFF)


def main() -> int:
    ledger, command, repository, *rest = sys.argv[1:]
    options = dict(zip(rest[::2], rest[1::2], strict=False))
    revision, out = options["--revision"], Path(options["--out"])
    run = {"run": f"{os.getpid()}-{time.monotonic_ns()}", "repository": repository, "revision": revision}
    # The kernel releases a lock when its process ends for any reason.
    lock = os.open(Path(ledger) / "locks" / repository.replace("/", "--"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    alone = _locked(lock)
    _write(
        ledger, {**run, "what": "start", "command": command, "service": os.environ.get("STORM_SERVICE"), "alone": alone}
    )
    time.sleep(seconds(revision))
    if int(revision[12:20], 16) % FAULT_IN == 0 and _first(Path(ledger) / "faults" / revision):
        _write(ledger, {**run, "what": "fault"})
        return INFRASTRUCTURE
    name, code = verdict(revision)
    report = json.loads((Path(ledger) / "reports" / f"{name}.json").read_text())
    report["source"] |= {"id": repository, "revision": revision}
    out.mkdir(parents=True, exist_ok=True)
    part = out / "report.json.part"
    part.write_text(json.dumps(report))
    part.replace(out / "report.json")
    _write(ledger, {**run, "what": "finish", "verdict": name, "code": code})
    return code


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _first(mark: Path) -> bool:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _write(ledger: str, entry: dict[str, object]) -> None:
    """Append one line and wait until it is on the disk. The clock is the same for all processes of the machine."""
    line = json.dumps({**entry, "at": time.monotonic()}) + "\n"
    file = os.open(Path(ledger) / "runs.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


if __name__ == "__main__":
    sys.exit(main())
