"""In which order prompts are asked when the test may stop early."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from antidote_ci.evaluation.prompts import wording_key
from antidote_ci.records import PromptRow


def stratify_order(rows: Sequence[PromptRow], seed: int) -> list[PromptRow]:
    """The rows in a seeded order in which every beginning holds each category in proportion, give or take one prompt.

    The order depends on wordings, categories and the seed, not on the order of the file. In a category of n rows,
    ranked by a seeded hash of their wording, rank r stands at (r + u) / n of the way, u in 0..1 being another hash.

    The sequential test stays valid: prompts are draws from their categories, and category i has the score p_i. One
    prompt multiplies the expected e-value by at most 1 + s (p_i - threshold), s < 0. Over a round that holds the
    categories in proportion the factors multiply to at most the same with the mean of the p_i (geometric means are at
    most arithmetic ones), which is at most 1 while the mean score is at or above the threshold. Looks between
    the ends of rounds see a proportion that is off by at most one prompt a category; benchmarks/gate measures that.
    """
    categories: defaultdict[str, list[tuple[bytes, PromptRow]]] = defaultdict(list)
    for row in rows:
        digest = hashlib.sha256(f"{seed}:order:{wording_key(row.prompt)}".encode()).digest()
        categories[row.category].append((digest, row))
    placed = [
        ((rank + int.from_bytes(digest[-8:], "big") / 2**64) / len(found), digest, row)
        for found in categories.values()
        for rank, (digest, row) in enumerate(sorted(found, key=lambda each: each[0]))
    ]
    return [row for _, _, row in sorted(placed, key=lambda each: each[:2])]
