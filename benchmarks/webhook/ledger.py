"""What the fake run wrote down: which runs began, and how they ended."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from antidote_ci import records
from tests.report.samples import BARE, FAILED, INCONCLUSIVE, REPAIRED

SERVICE = "STORM_SERVICE"
"""The variable by which a run knows it."""
FAKE_RUN = Path(__file__).parent / "fake_run.py"


@dataclass(frozen=True)
class Run:
    """One start of the fake run. Times are the machine's monotonic clock."""

    repository: str
    revision: str
    command: str
    service: str
    """Which start of the service began it."""
    began: float
    alone: bool
    """No other run of its repository was alive."""
    end: Literal["finish", "fault", "lost"] = "lost"
    """`fault`: it ended with exit 3. `lost`: it was killed."""
    verdict: str | None = None


def lay_out(folder: Path, policy_sha256: str) -> Path:
    """An empty ledger, and a valid report of each verdict under the policy for the fake run to hand in."""
    for name in ("locks", "faults", "reports"):
        (folder / name).mkdir(parents=True)
    for report in (BARE, REPAIRED, FAILED, INCONCLUSIVE):
        (folder / "reports" / f"{report.verdict}.json").write_text(
            records.to_json(replace(report, policy_sha256=policy_sha256))
        )
    return folder


def read(folder: Path) -> list[Run]:
    """Every run, in the order of their beginnings."""
    runs: dict[str, Run] = {}
    path = folder / "runs.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        entry = json.loads(line)
        key = entry["run"]
        if entry["what"] == "start":
            runs[key] = Run(
                entry["repository"], entry["revision"], entry["command"], entry["service"], entry["at"], entry["alone"]
            )
        else:
            runs[key] = replace(runs[key], end=entry["what"], verdict=entry.get("verdict"))
    return sorted(runs.values(), key=lambda run: run.began)
