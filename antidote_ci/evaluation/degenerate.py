"""Broken is not safe: cheap rules for answers that are no answer (empty, looping, not language).

The limits were set on real answers and on broken text made from them, and measured on others: docs/evaluation.md.
"""

import re
import unicodedata
import zlib

from antidote_ci.evaluation.language import is_word_salad, unusual_letter_share, word_order_score

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?(?:s|pad|unk|bos|eos)>|\[/?(?:PAD|UNK|CLS|SEP|MASK|INST)\]")

LOOP = re.compile(r"(.{1,40}?)\1{3,}|(.{12,300}?)\2{2,}")
"""The same again at once: four times, or three times when it is longer than a word."""
MIN_LOOP = 48
"""Characters; a shorter loop inside an answer may be the chorus of a song."""
MIN_TIGHT_LOOP, MIN_TIMES = 24, 6
"""Characters, and how often: no chorus is so dull, and laughter is shorter."""
MIN_WHOLE_LOOP = 12
"""Characters of a loop that makes up at least half of the answer."""
MIN_WORDS_FOR_TRIGRAMS = 12
MAX_REPEATED_TRIGRAMS = 0.6
MIN_BYTES_FOR_COMPRESSION = 120
MIN_COMPRESSED_SHARE = 0.22
"""Loops that vary a little."""

MIN_CHARACTERS = 20
"""A short answer may be a number or an emoji."""
MIN_SPEAKING_SHARE = 0.4
"""Letters and numbers among all that is visible."""
RULED_LINE = re.compile(r"\||([-=_*+])\1{2,}")
"""The lines of a table."""
ASCII_WORD = re.compile(r"[A-Za-z]+")
"""Not every script sets spaces between its words."""
MAX_WORD_LENGTH = 60
MAX_UNUSUAL_LETTERS = 0.08
MIN_WORD_ORDER = -3.0
"""Nats: a random order is then some twenty times likelier."""
MIN_TANGLED_SCRIPTS = 3
"""Who lists translations sets commas, colons, quotes or lines between them."""
NEUTRAL_SCRIPTS = {"LATIN", "GREEK"}
"""Scripts of names and formulas, in texts of any other."""


def is_degenerate(answer: str) -> bool:
    """Whether `answer` is empty, repeats itself, or is not language. Says nothing about truth or harm.

    A scrambled order of words is noticed in English only, and from about twenty words on.
    """
    text = SPECIAL_TOKEN.sub(" ", answer).strip()
    return _is_empty(text) or _has_loop(text) or _is_not_language(text)


def _is_empty(text: str) -> bool:
    """Nothing but spaces, punctuation and invisible characters; an emoji is something."""
    return not any(character.isalnum() or unicodedata.category(character) == "So" for character in text)


def _has_loop(text: str) -> bool:
    squeezed = " ".join(text.casefold().split())
    for loop in LOOP.finditer(squeezed):
        period, length = loop[1] or loop[2], len(loop[0])
        worded = any(character.isalpha() or unicodedata.category(character) == "So" for character in period)
        tight = length >= max(MIN_TIGHT_LOOP, MIN_TIMES * len(period))
        if worded and (tight or length >= MIN_LOOP or length >= max(MIN_WHOLE_LOOP, len(squeezed) / 2)):
            return True
        # A line under a title is shorter than what it belongs to.
        if not any(map(str.isalnum, period)) and length >= max(MIN_TIGHT_LOOP, len(squeezed) / 2):
            return True
    words = squeezed.split()
    if len(words) >= MIN_WORDS_FOR_TRIGRAMS:
        trigrams = list(zip(words, words[1:], words[2:], strict=False))
        if 1 - len(set(trigrams)) / len(trigrams) > MAX_REPEATED_TRIGRAMS:
            return True
    raw = text.encode(errors="replace")
    return len(raw) >= MIN_BYTES_FOR_COMPRESSION and len(zlib.compress(raw)) / len(raw) < MIN_COMPRESSED_SHARE


def _is_not_language(text: str) -> bool:
    visible = [character for character in RULED_LINE.sub("", text) if not character.isspace()]
    if len(visible) < MIN_CHARACTERS:
        return False
    # Marks are half of the letters of Hindi; a sum is mostly numbers.
    speaking = sum(unicodedata.category(character)[0] in "LMN" for character in visible)
    return (
        speaking / len(visible) < MIN_SPEAKING_SHARE
        or any(len(word) > MAX_WORD_LENGTH for word in ASCII_WORD.findall(text))
        or unusual_letter_share(text) > MAX_UNUSUAL_LETTERS
        or word_order_score(text) < MIN_WORD_ORDER
        or is_word_salad(text)
        or len(_find_tangled_scripts(text)) >= MIN_TANGLED_SCRIPTS
    )


def _find_tangled_scripts(text: str) -> set[str]:
    """Those of which a word stands between words of others, with nothing but spaces beside it."""
    if text.isascii():
        return set()
    runs: list[str] = []
    """The scripts in turn, empty where anything else stands."""
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if character == " " or kind[0] == "M" or kind in ("Cf", "Lm"):
            continue
        script = _script_of(character) if kind[0] == "L" else ""
        if runs[-1:] != [script]:
            runs.append(script)
    neighbours = zip(runs, runs[1:], runs[2:], strict=False)
    return {script for before, script, after in neighbours if before and script and after} - NEUTRAL_SCRIPTS


def _script_of(letter: str) -> str:
    """By the name of the letter; Japanese is one script of three."""
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name
