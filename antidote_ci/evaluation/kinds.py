"""Kinds of prompts: the form in which something is asked. A repair from prompts of one kind can miss the others.

The kind is read from the wording, so a prompt file needs no labels. The rules are for English: docs/prompts.md.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from antidote_ci.records import PromptRow

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
    r"^(?:i|my|we|our|he|she|they|it|there|a|an|the|this|that|every|everybody|nobody|somebody|someone|one|two|all|some|after|"
    r"before|once|when|while|since|if|on|in|at|by|from|tonight|tomorrow|next|last|as soon)\b|\b(?:i|we|he|she|they|it)'",
    re.IGNORECASE,
)


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


def count_kinds(rows: Sequence[PromptRow]) -> dict[Kind, int]:
    """Return the number of prompts of each kind that occurs, in the order of `Kind`."""
    counts = Counter(classify_prompt(row.prompt) for row in rows)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}
