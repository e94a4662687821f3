"""A tokenizer that transformers reads in another way than other programs is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.model.conversations import encode_texts, single_turn
from antidote_ci.model.generation import EncodeRequest, encode_conversations
from antidote_ci.model.loading import load_tokenizer
from antidote_ci.model.tokenizer_reading import require_same_reading
from antidote_ci.records import Model
from tests.builders import ignore
from tests.conftest import CopyOf

PROMPTS = ["Tell me a story about a lighthouse.", "Why don't 12345 ships\n\n  sail? naïve 日本 🙂"]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(parts)}


def write(folder: Path, tokenizer_class: str, **parts: object) -> Path:
    tokenizer, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | parts))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": tokenizer_class}))
    return folder


def encode(folder: Path) -> list[list[int]]:
    conversations = [single_turn(prompt) for prompt in PROMPTS]
    return encode_conversations(EncodeRequest(Model(folder), conversations, add_generation_prompt=True), ignore).rows


ATTACKS: dict[str, tuple[str, dict[str, object]]] = {
    "a word becomes another": ("encode", {"normalizer": replace("story", "recipe")}),
    "a trigger before each prompt": ("encode", {"normalizer": {"type": "Prepend", "prepend": "xyzzy "}}),
    "two blanks between words": ("encode", {"normalizer": replace(" ", "  ")}),
    "words in pieces": (
        "encode",
        {
            "pre_tokenizer": sequence(
                "pretokenizers",
                {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
                BYTES,
            )
        },
    ),
    "an answer becomes another": ("decode", {"decoder": sequence("decoders", BYTES, replace("story", "recipe"))}),
    "a word of no prompt": ("decode", {"decoder": sequence("decoders", BYTES, replace("cake", "pie"))}),
}


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "GPT2TokenizerFast"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_parts_that_the_class_ignores_are_refused(attack: str, kind: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    verb, parts = ATTACKS[attack]
    folder = write(copy_of(tiny_llama), kind, **parts)
    with pytest.raises(UnsafeCheckpoint, match=f"the class {kind[:4]}.* of transformers .* {verb} a text") as raised:
        encode(folder)
    assert "PreTrainedTokenizerFast" in str(raised.value.hint)
    assert not any(prompt in str(raised.value) for prompt in PROMPTS)
    encode(write(folder, "PreTrainedTokenizerFast"))  # all programs read the parts of the file


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "GPT2TokenizerFast"])
def test_parts_with_the_same_effect_are_allowed(kind: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    """SmolLM's file splits digits, which its class does not; its vocabulary has no numbers of several digits."""
    digits = sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, BYTES)
    assert encode(write(copy_of(tiny_llama), kind, pre_tokenizer=digits)) == encode(tiny_llama)


@pytest.mark.parametrize("is_legacy", [True, False])
def test_blank_after_a_special_token_may_differ(is_legacy: bool, tiny_llama: Path, copy_of: CopyOf) -> None:
    """Files of Llama 2 write a blank where its class in transformers 5 writes none."""
    special = ["<unk>", "<s>", "</s>"]
    letters = sorted({*"Hello the[INST]/user:assistant "} - {" "})
    pieces = ["\u2581", *letters, "\u2581H", "el", "lo", "\u2581t", "he"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    blanks = sequence("normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581"))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    folder = write(
        copy_of(tiny_llama),
        "LlamaTokenizer",
        normalizer=blanks,
        pre_tokenizer=None,
        decoder=sequence("decoders", replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
        added_tokens=[{"id": number, "content": token, **flags} for number, token in enumerate(special)],
        model={
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": ["\u2581 H", "e l", "l o", "\u2581 t", "h e"],
        },
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": is_legacy, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(Model(folder))
    texts = ["<s>[INST] Hello the [/INST]", "<s> Hello</s><s>the", "<s>user: Hello</s>\n<s>assistant: "]
    assert encode_texts(tokenizer, texts)
    require_same_reading(tokenizer, texts)
