r"""How much a regular expression of a stranger may backtrack, from its structure alone.

Nothing is matched. A construct whose cost is unknown is refused: backreferences, recursion, conditions, `(?x)`, and
escapes such as `\K` and octal numbers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

MAX_CHARACTERS = 10_000
"""Characters of a regular expression. Some tokenizers list the letters of all scripts, in two thousand."""
MAX_DEPTH = 32
MAX_COPIES = 8
"""A repeat of at most so many times is treated as a sequence of copies."""
MAX_CHOICES = 10_000
MAX_LONG_REPEATS = 3
"""Time grows as the length of a text to this power at most. Published tokenizers have two in a row."""
LONG_REPEAT = 64
"""A repeat of more times counts as an unlimited one."""

_PIECE = re.compile(
    r"\\[pP]\{[^{}]*\}|\\x\{[0-9a-fA-F ]*\}|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
    r"|\(\?(?:[imsua-]*[:)]|<?[=!]|>|P?<\w+>)|[*+?]|\{\d*,\d*\}|\{\d+\}|.",
    re.DOTALL,
)
_KNOWN_ESCAPE = re.compile(
    r"\\(?:[pP]\{|x\{|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[dDwWsShHntrfvaeRXAzZbBG]|[^a-zA-Z0-9])", re.DOTALL
)
_ANCHORS = ("^", "$", r"\A", r"\z", r"\Z", r"\b", r"\B", r"\G")
_PLAIN_CLASS = re.compile(r"\[(?:\^.*|[ -Z^-~]*)\]", re.DOTALL)
"""A negated class, or one that lists ASCII characters and ranges only."""
FOLDED_CHARACTERS = 3
"""Without regard to case one character can match so many: `\ufb03` matches `ffi`."""


@dataclass(frozen=True)
class PatternCost:
    """What matching a part costs: its least characters, its unlimited repeats in a row and its other choices."""

    characters: int
    long_repeats: int = 0
    choices: int = 1
    is_fixed: bool = True
    """Whether it matches a text in one way only."""
    is_exponential: bool = False


def is_slow_pattern(pattern: str) -> bool:
    """Return whether matching may take longer than a low power of the length of the text, in the engine Oniguruma."""
    cost = measure_pattern(pattern)
    return cost is None or cost.is_exponential or cost.long_repeats > MAX_LONG_REPEATS or cost.choices > MAX_CHOICES


def measure_pattern(pattern: str) -> PatternCost | None:
    """Return the cost of a pattern; None when it is too long, malformed or holds a construct of unknown cost."""
    if len(pattern) > MAX_CHARACTERS:
        return None
    try:
        pieces = _Pieces(pattern)
        cost = _parse_alternatives(pieces, 0)
    except ValueError:
        return None
    if pieces.current is not None:
        return None
    if pieces.ever_ignores_case:
        return replace(cost, characters=cost.characters // FOLDED_CHARACTERS)
    return cost


class _Pieces:
    """The pieces of a pattern: characters, classes, groups and quantifiers."""

    def __init__(self, pattern: str) -> None:
        self.ignores_case = self.ever_ignores_case = False
        self._iterator = self._iterate(pattern)
        self.current: str | None = next(self._iterator, None)

    def take(self) -> str | None:
        piece, self.current = self.current, next(self._iterator, None)
        return piece

    @staticmethod
    def _iterate(pattern: str) -> Iterator[str]:
        depth, class_text = 0, ""
        for before, piece in pairwise(["", *_PIECE.findall(pattern)]):
            if depth:
                class_text += piece
                if piece == "]":
                    # Engines differ in whether it ends the class.
                    if before in ("[", "^"):
                        raise ValueError("a class begins with a bracket")
                    depth -= 1
                    if not depth:
                        yield class_text
                elif piece.startswith("["):
                    depth += 1
            elif piece == "[":
                depth, class_text = 1, piece
            else:
                yield piece
        if depth:
            raise ValueError("a class does not end")


def _parse_alternatives(pieces: _Pieces, depth: int) -> PatternCost:
    if depth > MAX_DEPTH:
        raise ValueError("groups nest too deep")
    branches = [_parse_sequence(pieces, depth)]
    while pieces.current == "|":
        pieces.take()
        branches.append(_parse_sequence(pieces, depth))
    if len(branches) == 1:
        return branches[0]
    return PatternCost(
        min(branch.characters for branch in branches),
        max(branch.long_repeats for branch in branches),
        min(sum(branch.choices for branch in branches), MAX_CHOICES + 1),
        is_fixed=False,
        is_exponential=any(branch.is_exponential for branch in branches),
    )


def _parse_sequence(pieces: _Pieces, depth: int) -> PatternCost:
    cost = PatternCost(0)
    while pieces.current not in (None, "|", ")"):
        cost = _join(cost, _parse_repeated(pieces, depth))
    return cost


def _parse_repeated(pieces: _Pieces, depth: int) -> PatternCost:
    piece = pieces.take() or ""
    is_option = piece.startswith("(?") and piece.endswith(")")
    is_group = piece.startswith("(") and not is_option
    ignored_case = pieces.ignores_case
    if piece.startswith("(?") and piece.endswith((")", ":")) and "i" in piece.partition("-")[0]:
        pieces.ignores_case = pieces.ever_ignores_case = True
    if is_group:
        if pieces.current in ("*", "+", "?"):
            raise ValueError("a group of unknown kind")
        cost = _parse_alternatives(pieces, depth + 1)
        if pieces.take() != ")":
            raise ValueError("a group does not end")
        pieces.ignores_case = ignored_case
        if piece in ("(?=", "(?!", "(?<=", "(?<!"):
            cost = replace(cost, characters=0)
    elif (piece.startswith("\\") and not _KNOWN_ESCAPE.match(piece)) or _read_quantifier(piece) is not None:
        raise ValueError("a construct of unknown cost")
    else:
        cost = PatternCost(0 if piece in _ANCHORS or is_option else 1)
        if piece.startswith("[") and pieces.ignores_case and not _PLAIN_CLASS.fullmatch(piece):
            # It matches `ss` as two characters, and also as one `\u00df`.
            cost, is_group = replace(cost, is_fixed=False), True
    while (limits := _read_quantifier(pieces.current)) is not None:
        quantifier = pieces.take() or ""
        cost = _repeat(cost, *limits, is_group=is_group)
        is_group = True
        # A lazy or possessive one; behind braces `+` is a repeat of its own.
        if pieces.current == "?" or (pieces.current == "+" and not quantifier.startswith("{")):
            pieces.take()
    return cost


def _read_quantifier(piece: str | None) -> tuple[int, int | None] | None:
    match piece:
        case "*":
            return 0, None
        case "+":
            return 1, None
        case "?":
            return 0, 1
    if piece is None or len(piece) < 3 or not piece.startswith("{"):
        return None
    least, comma, most = piece[1:-1].partition(",")
    if len(piece) > 12 or (not least and not most):
        raise ValueError("a repeat of unknown size")
    return int(least or 0), int(most) if most else None if comma else int(least)


def _join(first: PatternCost, second: PatternCost) -> PatternCost:
    return PatternCost(
        first.characters + second.characters,
        first.long_repeats + second.long_repeats,
        min(first.choices * second.choices, MAX_CHOICES + 1),
        first.is_fixed and second.is_fixed,
        first.is_exponential or second.is_exponential,
    )


def _repeat(cost: PatternCost, least: int, most: int | None, *, is_group: bool) -> PatternCost:
    if most is not None and most < least:
        raise ValueError("a repeat whose limits are exchanged")
    if most is not None and most <= MAX_COPIES:
        repeated = PatternCost(0)
        for _ in range(most):
            repeated = _join(repeated, cost)
        choices = min(repeated.choices * (most - least + 1), MAX_CHOICES + 1)
        return replace(
            repeated, characters=least * cost.characters, choices=choices, is_fixed=cost.is_fixed and least == most
        )
    is_long = most is None or most - least > LONG_REPEAT
    return PatternCost(
        least * cost.characters,
        cost.long_repeats + is_long,
        1 if is_long or most is None else most - least + 1,
        is_fixed=least == most and cost.is_fixed,
        # Only a part that matches in one way can be repeated without exponential time.
        is_exponential=cost.is_exponential or (is_group and not (cost.is_fixed and cost.characters)),
    )
