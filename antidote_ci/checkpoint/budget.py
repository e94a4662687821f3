"""The budget for opening one checkpoint: what reading all its files together may cost."""

import time
from collections import Counter
from typing import Literal

from antidote_ci.errors import UnsafeCheckpoint

Unit = Literal["bytes", "JSON values", "tensors", "bytes of chat templates"]
LIMITS: dict[Unit, int] = {
    "bytes": 192 << 20,
    "JSON values": 6_000_000,
    "tensors": 200_000,
    "bytes of chat templates": 256 << 10,
}
"""Limits for all files of a checkpoint except the weights behind the headers.

The largest published checkpoints have 92,000 tensors (DeepSeek-V3, 163 shards) to 150,000 (Kimi K2), with eleven JSON
values in a header and two in the index each; the largest tokenizer.json has 2.6 million values in 33 MB.
"""
SECONDS = 20
"""Processor time. Reading a checkpoint at the limits takes five seconds and 350 MB."""


class Budget:
    """Counts what opening one checkpoint costs. Every reader charges it."""

    def __init__(self) -> None:
        self._spent: Counter[Unit] = Counter()
        self._started = time.thread_time()

    def charge(self, file: str, unit: Unit, amount: int) -> None:
        """Add `amount`. Raises UnsafeCheckpoint that names `file` when a limit is exceeded, also that of time."""
        self._spent[unit] += amount
        if self._spent[unit] > LIMITS[unit]:
            raise _budget_error(file, f"{LIMITS[unit]:,} {unit}")
        if time.thread_time() - self._started > SECONDS:
            raise _budget_error(file, f"{SECONDS} seconds of processor time")


def _budget_error(file: str, limit: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{file} and the files before it exceed the limit of {limit} for one checkpoint",
        cause="the largest published models stay far below it; this one may be meant to exhaust the machine",
        hint="remove the files that do not belong to the model, or save the checkpoint again with transformers",
    )
