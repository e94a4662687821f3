"""Regular expressions from strangers: long ones, and those that take ages to find nothing."""

import re

MAX_CHARACTERS = 10_000
"""Some tokenizers list the letters of all scripts, in two thousand."""

_TOKEN = re.compile(r"\\.|[+*]|\{\d*,?\d*\}|.", re.DOTALL)


def has_nested_repeat(pattern: str) -> bool:
    """Whether a part that repeats holds a part that repeats, as in `(a+)+`: time grows as a power of two.

    Only such nesting is seen. Alternatives that overlap, as in `(a|a)+`, are not.
    """
    repeats = [False]  # of each group that is open: whether a part of it repeats
    in_class = closed = False
    for piece in _TOKEN.findall(pattern):
        after, closed = closed, False
        if in_class or piece == "[":
            in_class = piece != "]"
        elif piece == "(":
            repeats.append(False)
        elif piece == ")" and len(repeats) > 1:
            closed = repeats.pop()
            repeats[-1] |= closed
        elif _is_unbounded(piece):
            if after:
                return True
            repeats[-1] = True
    return False


def _is_unbounded(piece: str) -> bool:
    return piece in ("+", "*") or (piece.startswith("{") and piece.endswith(",}"))
