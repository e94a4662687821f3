"""Changed files by number: case N of a seed is the same on every machine."""

import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from antidote_ci.checkpoint.headers import INDEX_FILE
from benchmarks.fuzz import headers, indexes
from benchmarks.fuzz.headers import FINDINGS, Verdict

Read = TypeVar("Read")
KINDS = ("header", "header", "header", "header", "header", "header", "file", "index", "index", "index")
"""Headers in memory, in a file, and indexes: the kind of case N is KINDS[N % 10]."""


@dataclass(frozen=True)
class Case:
    """One changed file and what came of it. `seconds`: of the processor, in our reader."""

    number: int
    kind: str
    data: bytes
    verdict: Verdict
    seconds: float
    trace: str = ""


@dataclass
class Tally:
    """What came of many."""

    counts: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    findings: list[Case] = field(default_factory=list)
    slowest: Case | None = None

    def add(self, case: Case) -> None:
        self.counts[case.kind, case.verdict] += 1
        if case.verdict in FINDINGS:
            self.findings.append(case)
        if self.slowest is None or case.seconds > self.slowest.seconds:
            self.slowest = case

    def join(self, other: "Tally") -> None:
        self.counts += other.counts
        self.findings += other.findings
        if other.slowest and (self.slowest is None or other.slowest.seconds > self.slowest.seconds):
            self.slowest = other.slowest


def run(seed: int, numbers: range, read: headers.Reader = headers.ours) -> Tally:
    """Every case of `numbers`. `read` is the reader of headers in memory."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        indexes.prepare(folder)
        for number in numbers:
            tally.add(_case(seed, number, folder, read))
    return tally


def _case(seed: int, number: int, folder: Path, read: headers.Reader) -> Case:
    rng = Random(f"{seed}/{number}")  # noqa: S311 - the same case for everyone
    kind = KINDS[number % len(KINDS)]
    if kind == "index":
        data = indexes.case(rng)
        (folder / INDEX_FILE).write_bytes(data)
        return _tried(number, kind, data, lambda: indexes.ours(folder), lambda shards: indexes.judge(data, shards))
    data = headers.case(rng)
    if kind == "header":
        return _tried(number, kind, data, lambda: read(data), lambda header: headers.judge(data, header))
    path = folder / "changed.safetensors"
    path.write_bytes(data)
    return _tried(
        number, kind, data, lambda: headers.ours_of_file(path), lambda header: headers.judge_file(path, header)
    )


def _tried(number: int, kind: str, data: bytes, read: Callable[[], Read], judge: Callable[[Read], Verdict]) -> Case:
    begun = time.process_time()
    try:
        found = read()
    except Exception:  # noqa: BLE001 - this is what is looked for
        return Case(number, kind, data, "uncaught", time.process_time() - begun, traceback.format_exc())
    seconds = time.process_time() - begun
    return Case(number, kind, data, judge(found), seconds)
