"""Tokenizers that give tokens other IDs than those of the training."""

import base64
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hostile.fixture import TOKENIZER, TOKENIZER_CONFIG, Change, Fixture, edited, setting

BINDING = "https://huggingface.co/Hironabe333/transformers-tokenizer-vocab-binding-poc"
BIJECTION = "https://developer.nvidia.com/blog/secure-llm-tokenizers-to-maintain-application-integrity/"
DRIFT = "https://www.trendmicro.com/vinfo/fr/security/news/cybercrime-and-digital-threats/when-tokenizers-drift-hidden-costs-and-security-risks-in-llm-deployments"
AMPLIFICATION = "CWE-409"
FAR = 10_000_000
MANY = 100_000

Tokenizer = dict[str, Any]


def _added(content: str, number: int) -> dict[str, object]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _shared(tokenizer: Tokenizer) -> None:
    """Give two tokens one ID."""
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"] = vocabulary["b"]


def _rebound(tokenizer: Tokenizer) -> None:
    """Give a special token the ID of an ordinary one."""
    tokenizer["added_tokens"].append(_added("<|yes|>", tokenizer["model"]["vocab"]["a"]))


def _two_vocabularies(folder: Path) -> None:
    """Add a vocab.json, which slow tokenizers read, with two IDs swapped."""
    vocabulary = json.loads((folder / TOKENIZER).read_text())["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def _with_parts(kind: str, *parts: Mapping[str, object]) -> Change:
    """Replace a part of the tokenizer with a sequence."""
    return edited(TOKENIZER, lambda tokenizer: tokenizer.update({kind: {"type": "Sequence", f"{kind}s": parts}}))


def _replacing(content: str, **pattern: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _mapped_to(text: str) -> Change:
    """Normalise with a map of SentencePiece: an empty trie of four bytes, and one text."""
    data = base64.b64encode(struct.pack("<II", 4, 0) + text.encode() + b"\0").decode()
    return _with_parts("normalizer", {"type": "Precompiled", "precompiled_charsmap": data})


FIXTURES = (
    Fixture(
        "beyond-the-embedding",
        BIJECTION,
        "a token ID far beyond the last row of the embedding: a read out of bounds on a GPU",
        edited(TOKENIZER, lambda tokenizer: tokenizer["model"]["vocab"].update({"zzz": FAR})),
        TOKENIZER,
    ),
    Fixture(
        "added-beyond-the-embedding",
        BIJECTION,
        "the same with an added token",
        edited(TOKENIZER, lambda tokenizer: tokenizer["added_tokens"].append(_added("<|far|>", FAR))),
        TOKENIZER,
    ),
    Fixture(
        "settings-beyond-the-embedding",
        BIJECTION,
        "the same in the tokenizer's settings",
        setting(TOKENIZER_CONFIG, added_tokens_decoder={str(FAR): {"content": "<|far|>", "special": True}}),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "negative-number",
        BIJECTION,
        "a negative token ID, which indexes from the end of the embedding",
        edited(TOKENIZER, lambda tokenizer: tokenizer["model"]["vocab"].update({"zzz": -1})),
        TOKENIZER,
    ),
    Fixture(
        "one-number-two-words",
        BIJECTION,
        "two tokens with one ID: decoding does not return the encoded text",
        edited(TOKENIZER, _shared),
        TOKENIZER,
    ),
    Fixture(
        "rebound-number",
        BINDING,
        "an added token with the ID of an ordinary one, which changes its meaning for the same weights",
        edited(TOKENIZER, _rebound),
        TOKENIZER,
    ),
    Fixture(
        "rebound-in-the-settings",
        BINDING,
        "the settings give an ID to another token than tokenizer.json does",
        setting(TOKENIZER_CONFIG, added_tokens_decoder={"0": {"content": "<|yes|>", "special": True}}),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "two-vocabularies",
        DRIFT,
        "vocab.json and tokenizer.json give two tokens different IDs: frameworks differ in which file they read",
        _two_vocabularies,
        "vocab.json",
    ),
    Fixture(
        "endless-expression",
        "CWE-1333",
        "a regular expression whose time doubles with every character of a text",
        edited(
            TOKENIZER,
            lambda tokenizer: tokenizer.update(
                normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}
            ),
        ),
        TOKENIZER,
    ),
    Fixture(
        "many-added-tokens",
        DRIFT,
        "a hundred thousand added tokens, each of which is searched for in every text",
        edited(
            TOKENIZER,
            lambda tokenizer: tokenizer["added_tokens"].extend(
                _added(f"<|{number}|>", 300 + number) for number in range(MANY)
            ),
        ),
        TOKENIZER,
    ),
    Fixture(
        "endless-token",
        DRIFT,
        "one added token of a million characters, which a single ID of an answer decodes to",
        edited(TOKENIZER, lambda tokenizer: tokenizer["added_tokens"][0].update(content="x" * 1_000_000)),
        TOKENIZER,
    ),
    Fixture(
        "folded-expression",
        "CWE-1333",
        "a class that ignores case: `ss` also matches as one letter, so the time doubles with every letter",
        _with_parts("normalizer", _replacing("b", Regex="(?i)[\u00dfs]+$")),
        TOKENIZER,
    ),
    Fixture(
        "chained-replacements",
        AMPLIFICATION,
        "a chain of normalizers, each of which makes a letter a hundred times longer: gigabytes from one letter",
        _with_parts("normalizer", *[_replacing("a" * 100, String="a")] * 5),
        TOKENIZER,
    ),
    Fixture(
        "replacements-of-empty-matches",
        AMPLIFICATION,
        "an expression of many characters that matches none, by an escape that moves the start of the match",
        _with_parts("normalizer", *[_replacing("b" * 100, Regex=r"\K" * 100)] * 5),
        TOKENIZER,
    ),
    Fixture(
        "repeated-bytes",
        AMPLIFICATION,
        "a normalizer that writes each byte as a character of two bytes, thirty times in a row",
        _with_parts("normalizer", *[{"type": "ByteLevel"}] * 30),
        TOKENIZER,
    ),
    Fixture(
        "chained-decoders",
        AMPLIFICATION,
        "the same in the decoder: an answer of one token fills the memory",
        _with_parts("decoder", *[_replacing("a" * 100, String="a")] * 5),
        TOKENIZER,
    ),
    Fixture(
        "repeated-normalisation",
        AMPLIFICATION,
        "Unicode normalisation and its reverse in turn, which make one character longer each time",
        _with_parts("normalizer", *[{"type": "NFKD"}, {"type": "Prepend", "prepend": "\ufdfa" * 200}] * 4),
        TOKENIZER,
    ),
    Fixture(
        "map-to-a-long-text",
        AMPLIFICATION,
        "a compiled map of characters whose result is a text of a megabyte",
        _mapped_to("x" * (1 << 20)),
        TOKENIZER,
    ),
    Fixture(
        "padded-to-a-billion",
        AMPLIFICATION,
        "every text is padded to a billion tokens",
        edited(TOKENIZER, lambda tokenizer: tokenizer.update(padding={"strategy": {"Fixed": 10**9}, "pad_id": 0})),
        TOKENIZER,
    ),
    Fixture(
        "template-of-many-texts",
        AMPLIFICATION,
        "a post-processor that repeats the text ten thousand times",
        edited(
            TOKENIZER,
            lambda tokenizer: tokenizer.update(
                post_processor={
                    "type": "TemplateProcessing",
                    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 10_000,
                    "pair": [],
                    "special_tokens": {},
                }
            ),
        ),
        TOKENIZER,
    ),
)
