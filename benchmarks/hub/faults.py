"""Whole pulls and publishes against a Hub that fails: what must never be, and how they end."""

import logging
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import get_args

from tests.hub.campaign import MODES, SHARES, Case, Outcome, Rule, run, write_material

SEEDS = 200


def main() -> None:
    """Run the campaign and print a table."""
    # The client tells of every retry.
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    outcomes: dict[float, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as place:
        material = write_material(Path(place) / "material")
        for share in SHARES:
            outcomes[share] = []
            for seed in range(SEEDS):
                case = Case(seed, share, MODES[seed % len(MODES)])
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    outcomes[share].append(run(case, material, Path(folder)))
                for broken in outcomes[share][-1].broken:
                    print(f"seed {seed} at {share:.0%}, {case.mode}: {broken.rule}: {broken.what}")
    print("| | " + " | ".join(f"{share:.0%} of requests" for share in SHARES) + " |")
    print("|---|" + "--:|" * len(SHARES))
    for name, figures in table(outcomes).items():
        print(f"| {name} | " + " | ".join(figures) + " |")
    cases = sum(map(len, outcomes.values()))
    print(f"\n{cases} cases, {(time.monotonic() - began) / cases:.2f} s each")


def table(outcomes: dict[float, list[Outcome]]) -> dict[str, list[str]]:
    """Rows by name, a figure for each share."""
    rows: dict[str, list[str]] = {}

    def row(name: str, *figures: int) -> None:
        rows.setdefault(name, []).append(" / ".join(map(str, figures)))

    for cases in outcomes.values():
        row("cases", len(cases))
        row("requests / struck by a fault", sum(case.requests for case in cases), sum(case.struck for case in cases))
        for what, codes in (("pull", [each.pulled for each in cases]), ("publish", [each.published for each in cases])):
            typed = sum(code not in (0, None) for code in codes)
            row(f"{what}: success / typed exit / other", codes.count(0), typed, codes.count(None))
        broken = Counter(each.rule for case in cases for each in case.broken)
        for rule in get_args(Rule):
            row(f"broken: {rule}", broken[rule])
    return rows
