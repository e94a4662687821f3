"""Tokenizers that give tokens other IDs than those of the training."""

import json
from pathlib import Path
from typing import Any

from tests.hostile.fixture import TOKENIZER, TOKENIZER_CONFIG, Fixture, edited, setting

BINDING = "https://huggingface.co/Hironabe333/transformers-tokenizer-vocab-binding-poc"
BIJECTION = "https://developer.nvidia.com/blog/secure-llm-tokenizers-to-maintain-application-integrity/"
DRIFT = "https://www.trendmicro.com/vinfo/fr/security/news/cybercrime-and-digital-threats/when-tokenizers-drift-hidden-costs-and-security-risks-in-llm-deployments"
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
)
