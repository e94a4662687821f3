"""python -m benchmarks.rules --data FOLDER: the refusal judge and the degenerate rules on text they were not tuned on.

FOLDER holds human-labelled XSTest completions (`xstest_completions_*.jsonl`: completion, label) and answers by people
and models (JSONL); what is missing is skipped, and said. Nothing is printed but counts.

The refusal judge was tuned on half of the completions of Llama 2 and of Mistral (`seen`), the other half was never read
(`unread`); GPT-4's were held out wholly. The limits of the degenerate rules were set on the first answers of each
source in a seeded order; they are measured here on the others.
"""

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from antidote_ci.evaluation.degenerate import is_degenerate
from antidote_ci.evaluation.judges.refusal import is_refusal
from benchmarks.rules.corruptions import CORRUPTIONS
from benchmarks.rules.injections import INJECTIONS

LABELLED = {
    "GPT-4, held out": "xstest_completions_gpt4.jsonl",
    "Llama 2": "xstest_completions_llama2new.jsonl",
    "Mistral": "xstest_completions_mistralinstruct.jsonl",
}
REAL = {
    "PKU-SafeRLHF, chosen": ("pku_saferlhf_pairs.jsonl", "chosen", 2000),
    "PKU-SafeRLHF, rejected": ("pku_saferlhf_pairs.jsonl", "rejected", 2000),
    "BeaverTails": ("beavertails_qa.jsonl", "response", 700),
    "safety-tuned-llamas": ("safety_refusals.jsonl", "response", 2000),
    "AG News": ("agnews.jsonl", "text", 700),
    "GSM8K": ("gsm8k_train.jsonl", "answer", 700),
}
"""File, field, and how many answers were looked at."""
CORRUPTED = ("PKU-SafeRLHF, chosen", "PKU-SafeRLHF, rejected", "BeaverTails", "safety-tuned-llamas")
"""Answers to people, unlike news and sums."""
HARMFUL = ("beavertails_qa.jsonl", "response")
ROWS_A_SOURCE = 1500
CORRUPTED_A_SOURCE = 300
"""Answers from which broken text is made."""
MIN_WORDS_TO_CORRUPT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    refusals(arguments.data)
    injections(arguments.data)
    real = unseen(arguments.data)
    false_alarms(real)
    broken([answer for name in CORRUPTED for answer in long_enough(real[name])[:CORRUPTED_A_SOURCE]])


def refusals(data: Path) -> None:
    print("\nrefusal judge against human labels (full and partial refusal together)")
    print(f"{'':24}{'n':>6}{'balanced':>10}{'refusals':>10}{'answers':>10}{'full':>10}{'partial':>10}")
    for name, file in LABELLED.items():
        rows = list(read(data / file))
        if not rows:
            continue
        print_agreement(name, rows)
        if "held out" not in name:
            print_agreement("  seen half", [row for row in rows if not unread(row)])
            print_agreement("  unread half", [row for row in rows if unread(row)])


def unread(row: dict[str, Any]) -> bool:
    """Half of the rows, by the hash of their id."""
    return int(hashlib.sha256(row["id"].encode()).hexdigest(), 16) % 2 == 1


def print_agreement(name: str, rows: list[dict[str, Any]]) -> None:
    read_as_refusal = {
        label: [is_refusal(row["completion"]) for row in rows if row["label"][0] == label] for label in ("1", "2", "3")
    }
    refused = read_as_refusal["2"] + read_as_refusal["3"]
    found = share(refused)
    kept = 1 - share(read_as_refusal["1"])
    print(
        f"{name:24}{len(rows):6}{(found + kept) / 2:10.4f}{found:10.4f}{kept:10.4f}"
        f"{share(read_as_refusal['2']):10.4f}{share(read_as_refusal['3']):10.4f}"
    )


def injections(data: Path) -> None:
    answers = [answer for answer in shuffled(data, *HARMFUL)[:500] if not is_refusal(answer)]
    if not answers:
        return
    flips = Counter(
        injection
        for injection in INJECTIONS
        for answer in answers
        for separator in (" ", "\n\n")
        if is_refusal(answer + separator + injection)
    )
    tried = 2 * len(answers)
    print(f"\nverdict flips by appended text: {len(INJECTIONS)} strings x {tried} harmful answers")
    print(
        f"  all {sum(flips.values()) / tried / len(INJECTIONS):.4f}, the worst string {max(flips.values()) / tried:.4f}"
    )


def unseen(data: Path) -> dict[str, list[str]]:
    """The answers of each source that had no part in setting the limits."""
    ordered = {name: shuffled(data, file, field) for name, (file, field, _) in REAL.items()}
    seen = {answer for name, (_, _, first) in REAL.items() for answer in ordered[name][:first]}
    return {name: [each for each in answers if each not in seen][:ROWS_A_SOURCE] for name, answers in ordered.items()}


def long_enough(answers: list[str]) -> list[str]:
    return [answer for answer in answers if len(answer.split()) >= MIN_WORDS_TO_CORRUPT]


def false_alarms(real: dict[str, list[str]]) -> None:
    print("\nreal answers read as degenerate")
    everything = [answer for answers in real.values() for answer in answers]
    for name, answers in (*real.items(), ("all", everything)):
        if answers:
            wrong = sum(map(is_degenerate, answers))
            print(f"  {name:28}{wrong:6} of {len(answers):6}{wrong / len(answers):10.4f}")


def broken(answers: list[str]) -> None:
    """Every kind in equal parts within its family, the three families in equal parts."""
    if not answers:
        return
    drawn = random.Random(0)  # noqa: S311 - noise
    vocabulary = sorted({word for answer in answers for word in answer.split()})
    print(f"\nbroken text made from {len(answers)} answers of {MIN_WORDS_TO_CORRUPT} words and more: found")
    families: dict[str, list[float]] = {}
    for (family, kind), corrupt in CORRUPTIONS.items():
        found = share([is_degenerate(corrupt(answer, drawn, vocabulary)) for answer in answers])
        families.setdefault(family, []).append(found)
        print(f"  {family:12}{kind:28}{found:8.4f}")
    means = {family: sum(found) / len(found) for family, found in families.items()}
    print("  " + ", ".join(f"{family} {mean:.4f}" for family, mean in means.items()))
    print(
        f"  mixture {sum(means.values()) / len(means):.4f}, the worst kind {min(min(f) for f in families.values()):.4f}"
    )


def shuffled(data: Path, file: str, field: str) -> list[str]:
    """Different answers of a file, in a seeded order."""
    answers = list(dict.fromkeys(row[field] for row in read(data / file)))
    random.Random(0).shuffle(answers)  # noqa: S311 - an order
    return answers


def read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        print(f"  skipped: there is no {path.name} in {path.parent}")
        return
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def share(flags: Iterable[bool]) -> float:
    flags = list(flags)
    return sum(flags) / len(flags) if flags else float("nan")


if __name__ == "__main__":
    main()
