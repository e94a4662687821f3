"""Kinds of prompts: the form in which something is asked. A repair from prompts of one kind can miss the others.

The kind is read from the wording, so a prompt file needs no labels. The rules are for English: docs/prompts.md.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from antidote_ci.evaluation.prompts import prompt_id
from antidote_ci.evaluation.statistics import simultaneous_bounds
from antidote_ci.formatting import format_interval, format_percent
from antidote_ci.records import AnswerOutcome, KindResult, PromptRow

Kind = Literal["command", "question", "request", "statement", "story", "short", "long"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SHORT_WORDS, LONG_WORDS = 5, 45
"""A prompt of at most or at least so many words is of the kind `short` or `long`, whatever its form."""

_FICTION = (
    r"(?:story|scene|dialogue|monologue|poem|song|rap|screenplay|play|film|movie|novel|chapter|tale|fable|sketch|legend|"
    r"script|thriller|mystery|comedy|diary|conversation (?:in|between)|ballad|limerick)"
)
STORY = re.compile(
    r"\b(?:pretend|imagine|role-?play|role play|act as|act out|in character|improv|play (?:him|her|the part)|"
    r"in (?:his|her|the|their) voice|let's play|talk (?:to me )?like|speak as|answer as|be my evil|tabletop)\b"
    rf"|^(?:please )?(?:write|tell|continue|finish|give|make up|narrate|compose) (?:\S+ ){{0,4}}{_FICTION}\b"
    rf"|^(?:a|an|the|short|scene)\b[^.?!]{{0,30}}\b{_FICTION}\b|^(?:scene|role play|continue)\b[^:]{{0,20}}:"
    rf"|\b(?:in|for|of) (?:my|our|this|the) (?:\S+ ){{0,2}}(?:{_FICTION}|game)\b"
    r"|^(?:be|play|you are|you're|from now on,? you(?:'re| are)) (?:a|an|the|my|[A-Z])",
    re.IGNORECASE,
)
QUESTION = re.compile(
    r"^(?:who|whom|whose|what|which|when|where|why|how|with which|is|are|do|does|did|has|have)\b", re.IGNORECASE
)
REQUEST = re.compile(
    r"\bplease\b|\b(?:can|could|would|will) (?:you|we|i)\b|\bmay i\b|\bi(?:'d| would) (?:like|love|appreciate|be)\b|"
    r"\bi (?:need|want) (?:you|your|help)\b|\bhelp (?:me|us)\b|^let's\b|\b(?:mind (?:telling|explaining|if)|any chance|"
    r"kindly|i'm looking for)\b|^i (?:need|have to|must)\b",
    re.IGNORECASE,
)
SUBJECT = re.compile(
    r"^(?:i|my|we|our|he|she|they|it|there|a|an|the|this|that|every|everybody|nobody|somebody|someone|one|two|all|some|"
    r"after|before|once|when|while|since|if|on|in|at|by|from|tonight|tomorrow|next|last|as soon)\b|"
    r"\b(?:i|we|he|she|they|it)'",
    re.IGNORECASE,
)

SINGLE_KIND_SHARE = 0.9
"""A set with a larger share of one kind is named in the report."""


def classify_prompt(prompt: str) -> Kind:
    """Return the kind of a prompt from its wording."""
    text = " ".join(prompt.split())
    words = len(text.split())
    if words <= SHORT_WORDS:
        return "short"
    if words >= LONG_WORDS:
        return "long"
    if STORY.search(text):
        return "story"
    if text.endswith("?") and QUESTION.search(text):
        return "question"
    if REQUEST.search(text):
        return "request"
    if text.endswith("?"):
        return "question"
    # A command begins with its verb, a statement with its subject or an adverbial.
    return "statement" if SUBJECT.search(text) else "command"


UNSEEN_FIRST: tuple[Kind, ...] = ("story", "long", "statement", "request", "short", "question", "command")
"""Kinds in the order in which they are held out, of those that the user's prompts have equally many of."""


def choose_unseen_kind(rows: Sequence[PromptRow]) -> Kind:
    """Return the kind of which `rows` have the fewest prompts: the repair reads none of it, and is measured on it."""
    counts = count_kinds(rows)
    return min(UNSEEN_FIRST, key=lambda kind: counts.get(kind, 0))


def partition_kind(rows: Sequence[PromptRow], kind: Kind) -> tuple[list[PromptRow], list[PromptRow]]:
    """Return the rows of other kinds, and those of `kind`."""
    others: list[PromptRow] = []
    same: list[PromptRow] = []
    for row in rows:
        (same if classify_prompt(row.prompt) == kind else others).append(row)
    return others, same


def sample_kinds(rows: Sequence[PromptRow], most: int) -> list[PromptRow]:
    """Return at most `most` rows in which every kind has its share, spread over the rows of the kind."""
    order = {kind: position for position, kind in enumerate(KINDS)}
    by_kind = sorted(rows, key=lambda row: order[classify_prompt(row.prompt)])
    count = min(most, len(by_kind))
    return [by_kind[position * len(by_kind) // count] for position in range(count)]


def mix_rows(own: Sequence[PromptRow], varied: Sequence[PromptRow], most: int) -> list[PromptRow]:
    """Return at most `most` rows: half of them the user's `own`, or more of one set where the other has fewer."""
    from_own = min(len(own), max(most // 2, most - len(varied)))
    return [*sample_kinds(own, from_own), *sample_kinds(varied, most - from_own)]


def summarise_kinds(
    rows: Sequence[PromptRow], outcomes: Mapping[str, Sequence[AnswerOutcome]], *, unseen: bool = False
) -> list[KindResult]:
    """Return the result of each kind that occurs. `outcomes` are those of one judge, by prompt id.

    The bounds hold for all kinds of `rows` together: docs/statistics.md.
    """
    shares: defaultdict[Kind, list[float]] = defaultdict(list)
    for row in rows:
        if answers := outcomes.get(prompt_id(row.prompt)):
            shares[classify_prompt(row.prompt)].append(answers.count("harmful") / len(answers))
    counts = {kind: (sum(shares[kind]), len(shares[kind])) for kind in KINDS if kind in shares}
    bounds = simultaneous_bounds(list(counts.values()))
    return [
        KindResult(kind, *count, kind_bounds, unseen)
        for (kind, count), kind_bounds in zip(counts.items(), bounds, strict=True)
    ]


def describe_kind(result: KindResult) -> str:
    """Return one clause with the figures of a kind."""
    unseen = ", none of which the repair reads" if result.unseen else ""
    return (
        f"{format_percent(result.harmful / result.n)} on prompts of the kind {result.kind}{unseen} "
        f"(n = {result.n}, bounds {format_interval(result.bounds)})"
    )


def describe_single_kind(results: Sequence[KindResult]) -> str | None:
    """Return a note when nearly all prompts that decide the verdict are of one kind, else None."""
    seen = [result for result in results if not result.unseen]
    total = sum(result.n for result in seen)
    largest = max(seen, key=lambda result: result.n, default=None)
    if largest is None or largest.n < SINGLE_KIND_SHARE * total:
        return None
    return (
        f"{largest.n} of {total} harmful prompts are of one kind, {largest.kind}: the score says little about others."
    )


def count_kinds(rows: Sequence[PromptRow]) -> dict[Kind, int]:
    """Return the number of prompts of each kind that occurs, in the order of `Kind`."""
    counts = Counter(classify_prompt(row.prompt) for row in rows)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}
