"""Broken text made from real answers: what a damaged model says. Each answer is cut to 48 words, some 64 tokens."""

import re
from collections.abc import Callable
from random import Random

WORDS = 48
Corruption = Callable[[str, Random, list[str]], str]


def cut(answer: str) -> list[str]:
    return answer.split()[:WORDS]


def shuffled(text: str, drawn: Random) -> str:
    characters = list(text)
    drawn.shuffle(characters)
    return "".join(characters)


def phrase(answer: str, drawn: Random) -> list[str]:
    words = cut(answer)
    length = drawn.randint(2, 12)
    start = drawn.randrange(len(words) - length + 1)
    return words[start : start + length]


def syllable(answer: str, drawn: Random) -> str:
    return drawn.choice([word for word in answer.split() if word.isalpha() and len(word) > 2] or ["opy"])[:3]


def looped_word(answer: str, drawn: Random, _: list[str]) -> str:
    return " ".join([drawn.choice(cut(answer))] * drawn.randint(12, WORDS))


def looped_phrase(answer: str, drawn: Random, _: list[str]) -> str:
    words = phrase(answer, drawn)
    return " ".join(words * (WORDS // len(words)))


def looped_sentence(answer: str, drawn: Random, _: list[str]) -> str:
    sentences = [each for each in re.split(r"(?<=[.!?])\s+", answer) if len(each.split()) >= 3] or [answer]
    return " ".join(drawn.choice(sentences).split()[:16] * 3)


def loop_after_a_beginning(answer: str, drawn: Random, _: list[str]) -> str:
    words = phrase(answer, drawn)[:8]
    beginning = cut(answer)[: drawn.randint(8, 24)]
    return " ".join(beginning + words * ((WORDS - len(beginning)) // len(words)))


def looped_characters(answer: str, drawn: Random, _: list[str]) -> str:
    return syllable(answer, drawn) * drawn.randint(7, 30)


def letters_in_words(answer: str, drawn: Random, _: list[str]) -> str:
    return " ".join(shuffled(word, drawn) for word in cut(answer))


def all_characters(answer: str, drawn: Random, _: list[str]) -> str:
    return shuffled(" ".join(cut(answer)), drawn)


def order_of_words(answer: str, drawn: Random, _: list[str]) -> str:
    words = cut(answer)
    drawn.shuffle(words)
    return " ".join(words)


def order_of_bare_words(answer: str, drawn: Random, vocabulary: list[str]) -> str:
    return re.sub(r"[^\w' ]", "", order_of_words(answer, drawn, vocabulary)).lower()


def words_drawn_at_random(_: str, drawn: Random, vocabulary: list[str]) -> str:
    return " ".join(drawn.choices(vocabulary, k=WORDS))


def spaces(_: str, drawn: Random, __: list[str]) -> str:
    return "".join(drawn.choices(" \n\t", k=drawn.randint(0, 30)))


def punctuation(_: str, drawn: Random, __: list[str]) -> str:
    return "".join(drawn.choices(".,!?-:;\"'()", k=drawn.randint(1, 60)))


def special_tokens(_: str, drawn: Random, __: list[str]) -> str:
    return drawn.choice(["<|endoftext|>", "<|im_end|>", "</s>", "<pad>", "<unk>", "[PAD]"]) * drawn.randint(1, 30)


def invisible(_: str, drawn: Random, __: list[str]) -> str:
    return "".join(drawn.choices("\u200b\u200c\u200d\ufeff\u2060", k=drawn.randint(1, 30)))


CORRUPTIONS: dict[tuple[str, str], Corruption] = {
    ("looping", "a word"): looped_word,
    ("looping", "a phrase of 2 to 12 words"): looped_phrase,
    ("looping", "a sentence"): looped_sentence,
    ("looping", "after a real beginning"): loop_after_a_beginning,
    ("looping", "characters"): looped_characters,
    ("scrambled", "letters in each word"): letters_in_words,
    ("scrambled", "all characters"): all_characters,
    ("scrambled", "order of words"): order_of_words,
    ("scrambled", "order of words, bare"): order_of_bare_words,
    ("scrambled", "words drawn at random"): words_drawn_at_random,
    ("empty", "spaces"): spaces,
    ("empty", "punctuation"): punctuation,
    ("empty", "special tokens"): special_tokens,
    ("empty", "invisible characters"): invisible,
}
