"""Does a text read like language? Three small measures, without a model: letters in words, words in order, glue.

Only English can be found wanting by its words; other languages pass. Letter pairs were gathered from English and
some thirty other languages in the Latin alphabet; a text with letters from beyond ASCII is not measured.
"""

import re
from itertools import pairwise

FOLLOWERS = {
    "a": "abcdefghijklmnoprstuvwxyz",
    "b": "abeilorstuwy",
    "c": "acehiklortuyz",
    "d": "adeilnorsuvyz",
    "e": "abcdefghijklmnopqrstuvwxyz",
    "f": "aefilortu",
    "g": "aeghilnorsuwy",
    "h": "aeiklortuy",
    "i": "abcdefghijklmnoprstvwyz",
    "j": "adeiopuv",
    "k": "aehiklnorsuw",
    "l": "adefiklopstuvy",
    "m": "abegimopsuy",
    "n": "acdefghijklmnostuvyz",
    "o": "abcdefghijklmnoprstuvwy",
    "p": "aehiloprstu",
    "q": "iu",
    "r": "acdegiklmnoprstuvwyz",
    "s": "acehiklmopstuyz",
    "t": "aehiklorstuwxyz",
    "u": "abcdefghijklmnoprstuw",
    "v": "aeio",
    "w": "acehinorsy",
    "x": "aept",
    "y": "acdefilnostuvw",
    "z": "acdeiouy",
}
"""Letter -> the letters that usually follow it inside a word: 98.5 % of all pairs in English."""
MIN_PAIRS = 40
MAX_BEYOND_ASCII = 0.02

CLASSES = (
    "the a an my your his her its our their every",
    "of",
    "to",
    "in on at for with from by into about than through over after between without",
    "and or but because if when while so",
    "that this which who what these those how",
    "i you he she it we they there",
    "is are was were be been am",
    "can will would should could may might must do does did has have had not cannot don't",
)
"""Function words by what may stand beside them; then come other words, the comma and the full stop."""
OTHER, COMMA, STOP = range(len(CLASSES), len(CLASSES) + 3)
CLASS_OF = {word: index for index, words in enumerate(CLASSES) for word in words.split()}

# Rows: the class that stands first. Ten times ln(p(second | first) / p(second)) in English answers, cut at -30.
# Questions turn verb and pronoun round, so those pairs are never held against a text.
ORDER = (
    (-30, -30, -30, -30, -30, -30, -30, -30, -30, 5, -30, -30),
    (13, -30, -30, -29, -30, -4, -15, -30, -28, 1, -30, -30),
    (4, -30, -30, -30, -30, -13, -18, 0, -6, 3, -30, -30),
    (16, -30, -29, -21, -25, 9, -11, -30, -23, -1, -30, -23),
    (2, -16, -19, -9, -22, -3, 17, -7, 1, 1, -11, -30),
    (-2, -16, 10, -19, -23, -3, 12, 13, 15, -2, -18, -10),
    (-30, -30, -10, -3, -21, -22, -30, 22, 24, -6, -17, -10),
    (7, -26, -5, -10, -20, -13, 0, -30, 9, 2, -20, -10),
    (0, -26, -6, -16, -19, -19, 0, 16, 10, 1, -24, -10),
    (-5, 5, 4, 3, 1, 0, -7, -3, -5, 0, 4, 4),
    (2, -26, -19, -7, 15, 6, 15, 0, 0, -1, -30, -8),
    (4, -29, -14, 1, 7, 7, 18, 0, 0, -1, -21, -30),
)
MIN_WORDS_FOR_ORDER = 12
MISPLACED_CAPITAL = -20
"""Of a small letter that begins a sentence, and of a function word with a capital inside one."""

MIN_WORDS_FOR_GLUE = 20
MAX_FUNCTION_WORDS = 0.10
MIN_DIFFERENT_WORDS = 0.97
MIN_ENGLISH_ENDINGS = 0.25
"""Of the other words: below it the text is not English, and this measure does not apply."""
MAX_SEPARATORS = 0.36
"""For each word: above it the text is a list."""

_PIECE = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*|[,;:](?=\s|$)|[.!?](?=\W|$)|\n")
_ENDING = re.compile(r"(?:ing|ed|ly|ions?|s|er|ment|ness|able|ity|al|ous|ive)$")
_CAPITALISED = "|".join(sorted((word.capitalize() for word in CLASS_OF if word != "i"), key=len, reverse=True))
_MISPLACED = re.compile(rf"(?<=[a-z]{{2}}[.!?] )[a-z]+(?= )|(?<=[a-z] )(?:{_CAPITALISED})(?= )")


def unusual_letter_share(text: str) -> float:
    """Share of neighbouring letters that seldom stand side by side; 0 for a text too short, or not in plain ASCII."""
    letters = [character for character in text if character.isalpha()]
    if sum(not letter.isascii() for letter in letters) > MAX_BEYOND_ASCII * len(letters):
        return 0.0
    words = [
        word.lower()
        for word in re.findall(r"[^\W\d_]{3,}", text)
        if word.isascii() and (word.islower() or word.istitle())  # neither NASA nor camelCase
    ]
    pairs = [(first, second) for word in words for first, second in pairwise(word)]
    if len(pairs) < MIN_PAIRS:
        return 0.0
    return sum(second not in FOLLOWERS[first] for first, second in pairs) / len(pairs)


def word_order_score(text: str) -> float:
    """How much better the order of the words fits English than a random order does, in nats.

    Below 0 it fits worse; 0 for a text too short to tell.
    """
    classes: list[int] = []
    for piece in _PIECE.findall(text.replace("\u2019", "'")):
        if piece[0].isalnum():
            classes.append(CLASS_OF.get(piece.lower(), OTHER))
        elif piece in ",;:":
            classes.append(COMMA)
        elif not classes or classes[-1] != STOP:
            classes.append(STOP)
    if len(classes) < MIN_WORDS_FOR_ORDER:
        return 0.0
    fit = sum(ORDER[first][second] for first, second in pairwise(classes))
    if not text.islower():  # who never writes a capital misplaces none
        fit += MISPLACED_CAPITAL * len(_MISPLACED.findall(text))
    return fit / 10


def is_word_salad(text: str) -> bool:
    """Whether `text` is English words drawn at random: no word twice, hardly a function word, and not a list."""
    words = re.findall(r"[^\W\d_]+(?:'\w+)?", text.lower().replace("\u2019", "'"))
    others = [word for word in words if word not in CLASS_OF]
    if len(words) < MIN_WORDS_FOR_GLUE:
        return False
    return (
        1 - len(others) / len(words) < MAX_FUNCTION_WORDS
        and len(set(words)) / len(words) >= MIN_DIFFERENT_WORDS
        and sum(_ENDING.search(word) is not None for word in others) / len(others) >= MIN_ENGLISH_ENDINGS
        and len(re.findall(r"[,;:|\n]", text)) / len(words) < MAX_SEPARATORS
    )
