"""A load test of the real service. `python -m benchmarks.webhook`

A thousand deliveries over 16 connections, while the service is killed and started again ten times and a real repair
keeps the machine busy. Prints a table and every broken rule.
"""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import get_args

from benchmarks.webhook import plan
from benchmarks.webhook.judging import VERDICTS, Rule, Violation, final_answers, find_violations
from benchmarks.webhook.messages import Meaning, meaning
from benchmarks.webhook.plan import Kind
from benchmarks.webhook.repairing import run_repairs
from benchmarks.webhook.storm import CONNECTIONS, StormResult, run_storm

REPOSITORIES = 36
KILLS = 10
GOAL = 0.200
"""Seconds: 99 of 100 answers."""


def main() -> None:
    """Run the storm, check the rules, and print."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.webhook", description="load test of the service")
    options.add_argument("--deliveries", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=150, help="over which they are spread")
    options.add_argument("--seed", type=int, default=1)
    arguments = options.parse_args()
    planned = plan.make_plan(arguments.deliveries, REPOSITORIES, KILLS, arguments.seed)
    with tempfile.TemporaryDirectory() as folder, run_repairs(Path(folder) / "repair") as repairing:
        (Path(folder) / "storm").mkdir()
        result = run_storm(planned, arguments.seconds, Path(folder) / "storm")
        repairing.require_running()
        print(f"repairs that ended during the storm: {len(repairing.codes)}; one was running at any time")
    print(f"load average {' '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} cores\n")
    _print_answers(result)
    broken = find_violations(result.storm)
    print("| figure | value |\n|---|--:|")
    for label, value in _figures(result, broken).items():
        print(f"| {label} | {value} |")
    for violation in broken:
        print(f"{violation.rule}: {violation.what}")


def _print_answers(result: StormResult) -> None:
    """Final answers by the kind of delivery."""
    meanings = get_args(Meaning)
    final = final_answers(result.storm)
    counts = Counter(
        (delivery.kind, meaning(answer.status or 0, answer.said))
        for delivery in result.storm.plan.deliveries
        if (answer := final.get(delivery.number)) is not None
    )
    print("| deliveries | " + " | ".join(meanings) + " |")
    print("|---|" + "--:|" * len(meanings))
    for kind in get_args(Kind):
        print(f"| {kind} | " + " | ".join(str(counts[kind, answer] or "") for answer in meanings) + " |")
    print()


def _figures(result: StormResult, broken: list[Violation]) -> dict[str, str]:
    storm = result.storm
    times = sorted(answer.seconds for answer in storm.answers if storm.is_timed(answer))
    held = [each.seconds for each in storm.answers if each.status is not None and not storm.is_timed(each)]
    lost = sum(answer.status is None for answer in storm.answers)
    ends = Counter(entry.outcome.state for entry in storm.entries if entry.outcome)
    runs = Counter(run.end for run in storm.runs)
    worked = len({(run.repository, run.revision) for run in storm.runs})
    counted = Counter(each.rule for each in broken)
    p99 = times[int(0.99 * (len(times) - 1))]
    met = "met" if p99 <= GOAL else "MISSED"
    other = ends.total() - sum(ends[state] for state in VERDICTS) - ends["superseded"] - ends["own"]
    return {
        "deliveries / attempts": f"{len(storm.plan.deliveries)} / {len(storm.answers)}",
        "attempts without an answer, the service being down": str(lost),
        "connections / times killed and started again": f"{CONNECTIONS} / {len(storm.kills)}",
        "answers: median, ms": f"{1000 * times[len(times) // 2]:.1f}",
        "answers: p99, ms (goal 200)": f"{1000 * p99:.1f}, {met}",
        "answers: longest, ms": f"{1000 * times[-1]:.1f}",
        "answers to what came while it was starting / longest, ms": f"{len(held)} / {1000 * max(held, default=0):.0f}",
        "orders recorded": str(len(storm.entries)),
        "ended: pass / repaired / fail / inconclusive": " / ".join(str(ends[state]) for state in VERDICTS),
        "ended: superseded / own / other": f"{ends['superseded']} / {ends['own']} / {other}",
        "commits worked on / runs started": f"{worked} / {len(storm.runs)}",
        "runs: finished / failed on purpose / killed": f"{runs['finish']} / {runs['fault']} / {runs['lost']}",
        **{f"broken: {rule}": str(counted[rule]) for rule in get_args(Rule)},
        "seconds of sending / until the last record": f"{result.sending:.0f} / {result.draining:.0f}",
    }


if __name__ == "__main__":
    main()
