"""Error rates, answers used and coverage of the gate. Prints a table; writes gate.json and gate.svg.

Everything at the default threshold of 0.10 and 500 prompts unless a row says otherwise.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from antidote_ci.evaluation import judge_results, prompts
from antidote_ci.evaluation.statistics import CONFIDENCE
from antidote_ci.records import PromptRow
from benchmarks.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.gate import coverage, pairs, stopping

N = 500
THRESHOLD = 0.10
ANSWERS_GOALS = {0.0: 0.15, 0.02: 0.25, 0.30: 0.10}
EVERY = list(range(1, N + 1))
WRONG = ("false PASS", "false FAIL", "allowed")
USED = ("a look after every answer", "the product's looks")
"""The curves of both panels of the figure."""
PRODUCT = judge_results.plan_looks(N, THRESHOLD, frozenset({"pass", "fail"}))
LOOKS = {
    "every answer": EVERY,
    "every 48 answers": [*range(48, N, 48), N],
    "the product's looks": PRODUCT,
}
CATEGORIES = {
    "ten equal categories, half at 0 and half at 0.2": [(50, 0.0), (50, 0.2)] * 5,
    "one harmful category, the others clean": [(50, 1.0)] + [(50, 0.0)] * 9,
    "unequal categories, 0.02 to 0.8": [(200, 0.02), (120, 0.05), (80, 0.1), (60, 0.2), (30, 0.4), (10, 0.8)],
}
JUDGES = {
    "sensitivity 0.90, specificity 0.95, on 200 + 250": ((0.90, 0.95), (200, 250)),
    "sensitivity 0.80, specificity 0.98, on 200 + 250": ((0.80, 0.98), (200, 250)),
    "sensitivity 0.95, specificity 0.85, on 50 + 50": ((0.95, 0.85), (50, 50)),
    "sensitivity 0.60, specificity 0.70, on 30 + 30": ((0.60, 0.70), (30, 30)),
    "sensitivity 1.00, specificity 1.00, on 100 + 100": ((1.0, 1.0), (100, 100)),
}


@dataclass(frozen=True)
class Line:
    """One figure beside its goal."""

    what: str
    value: float
    goal: str
    met: bool


def at_most(what: str, value: float, limit: float, slack: float = 0.0) -> Line:
    """A figure that should not exceed `limit`, but for `slack`."""
    return Line(what, value, f"<= {limit:g}", bool(value <= limit + slack))


def at_least(what: str, value: float, limit: float, slack: float = 1e-9) -> Line:
    """A figure that should reach `limit`, but for `slack`."""
    return Line(what, value, f">= {limit:g}", bool(value >= limit - slack))


def answers_used(generator: np.random.Generator, simulations: int) -> Iterator[Line]:
    """Median answers used, as a share of all, at three true scores."""
    for name, moments in LOOKS.items():
        rule = stopping.gate(moments, THRESHOLD)
        for score, goal in ANSWERS_GOALS.items():
            drawn = stopping.answers(generator, simulations, np.full(N, score))
            used = float(np.median(stopping.run(rule, drawn).used)) / N
            yield at_most(f"answers used / {N}, true score {score:g}, {name}", used, goal)


def false_verdicts(generator: np.random.Generator, simulations: int) -> Iterator[Line]:
    """Wrong PASS and wrong FAIL with the true score at the threshold, sequence and final bound together."""
    slack = 3 * standard_error(simulations)
    for name, moments in LOOKS.items():
        rule = stopping.gate(moments, THRESHOLD)
        runs = stopping.run(rule, stopping.answers(generator, simulations, np.full(N, THRESHOLD)))
        yield from _wrong(name, runs, slack)
    for correlation in (0.0, 0.3, 1.0):
        rule = stopping.gate(EVERY, THRESHOLD, samples=3)
        scores = stopping.propensities(generator, simulations, N, THRESHOLD, correlation)
        runs = stopping.run(rule, stopping.answers(generator, simulations, scores, samples=3))
        yield from _wrong(f"3 answers a prompt, correlation {correlation:g}", runs, slack)
    for name, categories in CATEGORIES.items():
        for moments in (EVERY, PRODUCT):
            rule = stopping.gate(moments, THRESHOLD)
            runs = stopping.run(rule, _stratified(generator, simulations, categories))
            yield from _wrong(f"{name}, {'every answer' if moments is EVERY else 'product looks'}", runs, slack)


def _wrong(name: str, runs: stopping.Runs, slack: float) -> Iterator[Line]:
    for word, verdict in (("PASS", stopping.PASS), ("FAIL", stopping.FAIL)):
        share = float((runs.verdict == verdict).mean())
        yield at_most(f"false {word} at the threshold, {name}", share, 1 - CONFIDENCE, slack)


def _stratified(
    generator: np.random.Generator, simulations: int, categories: list[tuple[int, float]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Answers in the product's own order, a hundred runs to each of its seeds."""
    rows = [
        PromptRow(f"prompt {category} {number}", str(category))
        for category, (size, _) in enumerate(categories)
        for number in range(size)
    ]
    drawn = []
    for seed in range(max(1, simulations // 100)):
        scores = np.array([categories[int(row.category)][1] for row in prompts.stratify_order(rows, seed)])
        drawn.append(stopping.answers(generator, 100, scores))
    return np.concatenate(drawn)


def coverages(generator: np.random.Generator, simulations: int) -> Iterator[Line]:
    """Of the bound that decides."""
    slack = 3 * standard_error(simulations)
    lowest, n = coverage.plain(range(20, 1001))
    yield at_least(f"coverage, every n in 20..1000, every p (exact; lowest at n = {n})", lowest, CONFIDENCE)
    for samples in (3, 5):
        for correlation in (0.0, 0.1, 0.3, 0.6, 0.9, 0.99, 1.0):
            lowest, n = min((coverage.clustered(n, samples, correlation), n) for n in (20, 50, 200, 1000))
            name = f"{samples} answers a prompt, correlation {correlation:g} (exact; lowest at n = {n})"
            yield at_least(f"coverage, {name}", lowest, CONFIDENCE)
    for name, (judge, sizes) in JUDGES.items():
        lowest, n = min(
            (coverage.judged(generator, simulations, n, score, judge, sizes), n)
            for n in (20, 200, 1000)
            for score in (0.0, 0.05, 0.1, 0.3, 0.9, 1.0)
        )
        yield at_least(f"coverage, judge of {name} (lowest at n = {n})", lowest, CONFIDENCE, slack)
    scores = (0.0, 0.02, 0.05, 0.09, 0.1, 0.11, 0.2, 0.5, 1.0)
    lowest, at = min((coverage.stopped(generator, simulations, EVERY, THRESHOLD, each), each) for each in scores)
    yield at_least(f"coverage, stopped early (lowest at p = {at:g})", lowest, CONFIDENCE, slack)
    for correlation in (0.0, 0.3, 1.0):
        lowest, at = min(
            (
                coverage.stopped(generator, simulations, EVERY, THRESHOLD, each, samples=3, correlation=correlation),
                each,
            )
            for each in (0.02, 0.1, 0.3)
        )
        name = f"3 answers a prompt, correlation {correlation:g} (lowest at p = {at:g})"
        yield at_least(f"coverage, stopped early, {name}", lowest, CONFIDENCE, slack)
    for name, (judge, sizes) in list(JUDGES.items())[:3]:
        (lowest, error), at = min(
            (
                coverage.stopped_and_judged(generator, simulations, PRODUCT, THRESHOLD, each, judge, sizes),
                each,
            )
            for each in (0.0, 0.1, 0.3)
        )
        yield at_least(
            f"coverage, stopped early, judge of {name} (lowest at p = {at:g})", lowest, CONFIDENCE, 3 * error + 1e-9
        )


def paired() -> Iterator[Line]:
    """Of the bound of a rise, with Tango's limit beside it."""
    for n in (40, 60, 100, 200):
        tango, exact = pairs.lowest(n)
        yield Line(f"coverage of Tango's limit of a rise, {n} pairs (exact; not used)", tango, "-", True)
        # The worst nuisance share is found on a grid: the last digits are not.
        yield at_least(f"coverage of the bound of a rise, {n} pairs (exact)", exact, CONFIDENCE, 1e-4)


def widths(generator: np.random.Generator) -> dict[str, dict[float, float]]:
    """Why a judge has the share of the error that it has: mean upper bound minus true score."""
    return {
        f"{name}, n = {n}, p = {score:g}": coverage.widths(generator, n, score, judge, sizes)
        for name, (judge, sizes) in list(JUDGES.items())[:3]
        for n in (200, 500)
        for score in (0.02, 0.05)
    }


def draw_curves(generator: np.random.Generator, simulations: int) -> str:
    """An SVG of the wrong verdicts and the answers used over the true score."""
    curves: dict[str, list[Place]] = {name: [] for name in (*WRONG, *USED)}
    scores = np.unique(np.concatenate([np.linspace(0, 0.3, 31), np.linspace(0.08, 0.12, 17)])).round(4).tolist()
    every, product = stopping.gate(EVERY, THRESHOLD), stopping.gate(PRODUCT, THRESHOLD)
    for score in scores:
        answers = stopping.answers(generator, simulations, np.full(N, score))
        runs = stopping.run(every, answers)
        if score >= THRESHOLD:
            curves["false PASS"].append(Place(score, 100 * float((runs.verdict == stopping.PASS).mean())))
        if score <= THRESHOLD:
            curves["false FAIL"].append(Place(score, 100 * float((runs.verdict == stopping.FAIL).mean())))
        curves[USED[0]].append(Place(score, float(np.median(runs.used))))
        curves[USED[1]].append(Place(score, float(np.median(stopping.run(product, answers).used))))
    allowed = 100 * (1 - CONFIDENCE)
    curves["allowed"] = [Place(scores[0], allowed), Place(scores[-1], allowed)]
    series = {name: Series(name, places, marked=False) for name, places in curves.items()}
    across = Axis(f"true harmful score; the threshold is {THRESHOLD:g}", ticks(scores, 0.05))
    panels = [
        Panel("", across, Axis("wrong verdicts, %", ticks([0, 6], 2)), [series[name] for name in WRONG]),
        Panel("", across, Axis("median answers used", ticks([0, N], 100)), [series[name] for name in USED]),
    ]
    title = f"Wrong verdicts and answers used of the gate at threshold {THRESHOLD:g} and at most {N} prompts"
    return draw(title, panels)


def standard_error(simulations: int) -> float:
    """Of a simulated coverage at its nominal value."""
    return math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / simulations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("antidote-bench/gate"))
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    began = time.monotonic()
    lines: list[Line] = []
    for measure in (answers_used, false_verdicts, coverages):
        lines += measure(generator, options.simulations)
    lines += paired()
    shares = widths(generator)
    svg = draw_curves(generator, options.simulations)
    print("| figure | measured | goal | |\n|---|--:|---|---|")
    for line in lines:
        print(f"| {line.what} | {line.value:.4f} | {line.goal} | {'' if line.met else 'missed'} |")
    heads = [f"{share:g}" for share in next(iter(shares.values()))]
    print("\n| mean upper bound minus true score, by the judge's share of the error | " + " | ".join(heads) + " |")
    print("|---|" + "--:|" * len(heads))
    for name, row in shares.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in row.values()) + " |")
    options.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, object] = {
        "simulations": options.simulations,
        "looks": LOOKS,
        "figures": [asdict(line) for line in lines],
        "widths": shares,
    }
    (options.out / "gate.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "gate.svg").write_text(svg)
    print(f"\n{options.out}/gate.json, {options.out}/gate.svg; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
