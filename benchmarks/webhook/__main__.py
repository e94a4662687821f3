"""A storm of deliveries against the real service. `python -m benchmarks.webhook`

A thousand deliveries over 16 connections, while the service is killed and started again ten times and a real repair
keeps the machine busy; once on SQLite, once on a real Postgres. Prints a table, and everything that must not have been.
"""

import argparse
import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from benchmarks.webhook import plan
from benchmarks.webhook.judging import VERDICTS, Broken, Rule, final_answers, judged
from benchmarks.webhook.messages import Meaning, meaning
from benchmarks.webhook.plan import Kind
from benchmarks.webhook.postgres import postgres
from benchmarks.webhook.repairing import repairs
from benchmarks.webhook.storm import CONNECTIONS, Seen, rage

REPOSITORIES = 36
KILLS = 10
GOAL = 0.200
"""Seconds: 99 of 100 answers."""


def main() -> None:
    """Rage, judge, and print."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.webhook", description="the webhook in a storm")
    options.add_argument("--deliveries", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=150, help="over which they are spread")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--postgres", metavar="URL", help="instead of a server of its own")
    arguments = options.parse_args()
    planned = plan.make(arguments.deliveries, REPOSITORIES, KILLS, arguments.seed)
    seen: dict[str, Seen] = {}
    with tempfile.TemporaryDirectory() as folder, repairs(Path(folder) / "repair") as repairing:
        for name, database in _databases(arguments.postgres):
            place = Path(folder) / name
            place.mkdir()
            done = len(repairing.codes)
            seen[name] = rage(planned, arguments.seconds, database, place)
            repairing.require_running()
            print(f"{name}: repairs that ended meanwhile: {len(repairing.codes) - done}, and one was always running")
    print(f"load average {' '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} cores\n")
    _print_answers(seen)
    broken = {name: judged(each.storm) for name, each in seen.items()}
    _print_table(seen, broken)
    for name, found in broken.items():
        for each in found:
            print(f"{name}: {each.rule}: {each.what}")


def _databases(url: str | None) -> Iterator[tuple[str, str]]:
    """Names and URLs; a Postgres of our own lives as long as it is used."""
    yield "SQLite", ""
    if url is not None:
        yield "Postgres", url
        return
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres())
        if server is None:
            print("POSTGRES WAS NOT MEASURED: there is no initdb under /usr/lib/postgresql, and no --postgres URL")
            return
        yield "Postgres", server.url


def _print_answers(seen: dict[str, Seen]) -> None:
    """Final answers by the kind of delivery."""
    meanings = get_args(Meaning)
    for name, each in seen.items():
        final = final_answers(each.storm)
        counts = Counter(
            (delivery.kind, meaning(answer.status or 0, answer.said))
            for delivery in each.storm.plan.deliveries
            if (answer := final.get(delivery.number)) is not None
        )
        print(f"| {name}: deliveries | " + " | ".join(meanings) + " |")
        print("|---|" + "--:|" * len(meanings))
        for kind in get_args(Kind):
            print(f"| {kind} | " + " | ".join(str(counts[kind, said] or "") for said in meanings) + " |")
        print()


def _print_table(seen: dict[str, Seen], broken: dict[str, list[Broken]]) -> None:
    print("| | " + " | ".join(seen) + " |")
    print("|---|" + "--:|" * len(seen))
    rows = [_figures(each, broken[name]) for name, each in seen.items()]
    for label in rows[0]:
        print(f"| {label} | " + " | ".join(row[label] for row in rows) + " |")
    print()


def _figures(seen: Seen, broken: list[Broken]) -> dict[str, str]:
    storm = seen.storm
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
        "seconds of sending / until the last record": f"{seen.sending:.0f} / {seen.draining:.0f}",
    }


if __name__ == "__main__":
    main()
