"""What can come of a changed file: three ends that are right, and three findings."""

from typing import Literal, get_args

Right = Literal["accepted", "refused by us only", "refused"]
Finding = Literal["accepted by us only", "read differently", "uncaught"]
Verdict = Right | Finding

FINDINGS: tuple[str, ...] = get_args(Finding)
