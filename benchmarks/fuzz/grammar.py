"""JSON texts changed where their grammar has joints: tokens replaced, members doubled, swapped, wrapped."""

import json
import re
from collections.abc import Callable
from random import Random

Tokens = list[str]
Edit = Callable[[Tokens, Random], None]
"""Changes the tokens in place, or leaves them where it finds nothing to change."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+|\S')

NUMBERS = [
    *("0", "1", "2", "3", "4", "7", "8", "16", "-0", "-1", "-8", "+1", "00", "01", "0x10", "1_0", "٣"),
    *("0.0", "1.0", "1.", ".5", "1e0", "4E0", "4e-0", "1e400", "-1e400", "1e-400", "0e999999999", "1e+"),
    *(str(2**power + more) for power in (31, 32, 53, 56, 63, 64, 65, 128) for more in (-1, 0, 1)),
    *("9" * length for length in (19, 20, 309, 310, 4300, 4301)),
    *("NaN", "Infinity", "-Infinity", "nan", "true", "null", '"0"', '"4"'),
]
TEXTS = [
    *(
        '""',
        '" "',
        '"a"',
        '"A"',
        '"\\u0061"',
        '"é"',
        '"e\\u0301"',
        '"ａ"',
        '"а"',
        '"\\u0000"',
        '"\0"',
        '"\t"',
        '"\x7f"',
    ),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"😀"', '"\\ufeff"', '"\\uFFFE"', '"\u202e"'),
    *('"\\"', '"\\\\"', '"\\x41"', '"\\u00g0"', '"\\u12"', '"\\/"', "'a'", '"a', 'a"', "a", f'"{"n" * 300}"'),
]
VALUES = [
    *("null", "true", "false", "[]", "{}", "[null]", "[[],[]]", '{"":{}}', '["a","a"]', '{"a":1,"a":1}', "0", '""'),
    *("[0]", "[0,0]", "[0,4]", "[4,0]", "[0,0,0]", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', "{1:1}", ""),
]
MARKS = ["{", "}", "[", "]", ",", ":", '"', "\\", "/", "#", ";", "=", "\0"]
BLANKS = [" ", "\t", "\n", "\r", "  \r\n", "\f", "\v", "\xa0", "\u2028", "\ufeff", "\0", "/**/", "//\n"]
DEPTHS = (1, 1, 1, 2, 60, 62, 63, 64, 126, 127, 128, 1500)


def mutated(text: str, words: list[str], rng: Random) -> str:
    """`text` after one to three edits; `words` are texts that mean something in such files."""
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.1:
            replace(tokens, is_text, [json.dumps(word) for word in words], rng)
        else:
            rng.choice(EDITS)(tokens, rng)
    return "".join(tokens)


def is_text(token: str) -> bool:
    return token.startswith('"')


def is_number(token: str) -> bool:
    return token.isdecimal()


def is_mark(token: str) -> bool:
    return token in MARKS


def replace(tokens: Tokens, kind: Callable[[str], bool], others: list[str], rng: Random) -> None:
    """Put one of `others` in the place of a token of that kind."""
    found = [at for at, token in enumerate(tokens) if kind(token)]
    if found:
        tokens[rng.choice(found)] = rng.choice(others)


def items(tokens: Tokens) -> list[tuple[int, int]]:
    """Where each element of a list and each member of an object begins and ends."""
    found: list[tuple[int, int]] = []
    begun: list[int] = []
    for at, token in enumerate(tokens):
        if token in (",", "}", "]") and begun:
            start = begun.pop()
            if start < at:
                found.append((start, at))
        if token in ("{", "[", ","):
            begun.append(at + 1)
    return found


def item(tokens: Tokens, rng: Random) -> tuple[int, int]:
    """One of `items`, or nothing at the end."""
    return rng.choice(items(tokens) or [(len(tokens), len(tokens))])


def value(tokens: Tokens, rng: Random) -> tuple[int, int]:
    """An item without its key."""
    start, end = item(tokens, rng)
    return (start + 2 if tokens[start + 1 : start + 2] == [":"] else start), end


def odd_number(tokens: Tokens, rng: Random) -> None:
    replace(tokens, is_number, NUMBERS, rng)


def near_number(tokens: Tokens, rng: Random) -> None:
    found = [at for at, token in enumerate(tokens) if is_number(token) and len(token) < 20]
    if found:
        at = rng.choice(found)
        tokens[at] = str(int(tokens[at]) * rng.choice((1, 2)) + rng.choice((-4, -1, 0, 1, 4)))


def other_number(tokens: Tokens, rng: Random) -> None:
    replace(tokens, is_number, list(filter(is_number, tokens)), rng)


def odd_text(tokens: Tokens, rng: Random) -> None:
    replace(tokens, is_text, TEXTS, rng)


def other_text(tokens: Tokens, rng: Random) -> None:
    replace(tokens, is_text, list(filter(is_text, tokens)), rng)


def spelled(tokens: Tokens, rng: Random) -> None:
    """The same text, a character of it in hexadecimal."""
    found = [at for at, token in enumerate(tokens) if is_text(token) and len(token) > 2 and "\\" not in token]
    if found:
        at = rng.choice(found)
        character = rng.choice(tokens[at][1:-1])
        tokens[at] = tokens[at].replace(character, f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else "?")


def odd_value(tokens: Tokens, rng: Random) -> None:
    start, end = value(tokens, rng)
    tokens[start:end] = [rng.choice(VALUES)]


def wrapped(tokens: Tokens, rng: Random) -> None:
    start, end = value(tokens, rng)
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    tokens[start:end] = [opening * depth, *tokens[start:end], closing * depth]


def repeated(tokens: Tokens, rng: Random) -> None:
    start, end = item(tokens, rng)
    into, _ = item(tokens, rng)
    tokens[into:into] = [*tokens[start:end], ","]


def removed(tokens: Tokens, rng: Random) -> None:
    start, end = item(tokens, rng)
    del tokens[start : end + 1 if tokens[end : end + 1] == [","] else end]


def swapped(tokens: Tokens, rng: Random) -> None:
    first, second = sorted((item(tokens, rng), item(tokens, rng)))
    if first[1] <= second[0]:
        tokens[first[0] : second[1]] = [
            *tokens[second[0] : second[1]],
            *tokens[first[1] : second[0]],
            *tokens[first[0] : first[1]],
        ]


def odd_mark(tokens: Tokens, rng: Random) -> None:
    replace(tokens, is_mark, [*MARKS, ""], rng)


def blank(tokens: Tokens, rng: Random) -> None:
    at = rng.randint(0, len(tokens))
    tokens[at:at] = [rng.choice(BLANKS) * rng.choice((1, 1, 9))]


EDITS: list[Edit] = [
    *(odd_number, near_number, other_number, odd_text, other_text, spelled),
    *(odd_value, wrapped, repeated, removed, swapped, swapped, odd_mark, blank),
]
