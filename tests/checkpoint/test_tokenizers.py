"""Checks of token IDs against the embedding, other files and the reference."""

import base64
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from antidote_ci.checkpoint.files import list_files
from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tokenizers import (
    MAX_ADDED_TOKENS,
    SPARE_TOKENS,
    embedding_rows,
    read_vocabulary,
    require_valid_tokenizer,
)
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.repair.targets import require_same_vocabulary
from tests.conftest import CopyOf

Edit = Callable[[dict[str, Any]], object]
FILE = "tokenizer.json"


def edited(folder: Path, edit: Edit, name: str = FILE) -> Path:
    data = json.loads((folder / name).read_text())
    edit(data)
    (folder / name).write_text(json.dumps(data))
    return folder


def added(content: str, number: int) -> dict[str, object]:
    return {"id": number, "content": content, "special": True}


def adding(content: str, number: int) -> Edit:
    return lambda data: data["added_tokens"].append(added(content, number))


def naming(**tokens: object) -> Edit:
    return lambda data: data["model"]["vocab"].update(tokens)


def cutting(pattern: str, part: str = "pre_tokenizer") -> Edit:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return lambda data: data.update({part: {"type": "Sequence", "pretokenizers": [split]}})


def replacing(pattern: dict[str, str], content: str, times: int = 1, part: str = "normalizer") -> Edit:
    """Replace a part with a chain of replacements."""
    chain = [{"type": "Replace", "pattern": pattern, "content": content}] * times
    return lambda data: data.update({part: {"type": "Sequence", f"{part}s": chain}})


def with_part(part: str, value: object) -> Edit:
    return lambda data: data.update({part: value})


def charsmap(replacement: str) -> Edit:
    """Normalise with a map of SentencePiece that holds this text, behind a trie of four bytes."""
    data = struct.pack("<II", 4, 0) + replacement.encode() + b"\0"
    part = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}
    return lambda tokenizer: tokenizer.update(normalizer=part)


def unigram(*pieces: object) -> Edit:
    return lambda data: data.update(model={"type": "Unigram", "unk_id": 0, "vocab": list(pieces)})


REFUSED: dict[str, tuple[Edit, str]] = {
    "no model": (lambda data: data.pop("model"), "has no model"),
    "unknown kind": (lambda data: data["model"].update(type="Evil"), "unknown kind 'Evil'"),
    "no vocabulary": (lambda data: data["model"].update(vocab=7), "not an object"),
    "one number twice": (naming(first=70), "both .* and 'first' the ID 70"),
    "negative": (naming(first=-1), "'first' the ID -1"),
    "no number": (naming(first="1"), "'first' the ID '1'"),
    "true": (naming(first=True), "'first' the ID True"),
    "fraction": (naming(first=1.5), "'first' the ID 1.5"),
    "beyond the table": (naming(first=290), "'first' the ID 290, and the embedding has 290 rows"),
    "added far beyond": (adding("<|far|>", 290 + SPARE_TOKENS), r"<\|far\|>' the ID 354"),
    "added with a word's number": (adding("<|yes|>", 70), "the ID 70 to"),
    "added with another number than the word's": (adding("a", 291), "gives 'a' the ID 291"),
    "added twice": (lambda data: data["added_tokens"].extend([added("x", 291), added("x", 292)]), "'x' twice"),
    "two added with one number": (
        lambda data: data["added_tokens"].extend([added("x", 291), added("y", 291)]),
        "both 'x' and 'y'",
    ),
    "added without content": (lambda data: data["added_tokens"].append({"id": 291}), "without content"),
    "added is no list": (lambda data: data.update(added_tokens={"a": 1}), "added_tokens that are not a list"),
    "many added": (
        lambda data: data["added_tokens"].extend(added(f"<{at}>", 291 + at) for at in range(MAX_ADDED_TOKENS)),
        "added_tokens that are not a list of at most",
    ),
    "long token": (naming(**{"x" * 4001: 5}), "the ID 5|more than 4,000 characters"),
    "merges are no list": (lambda data: data["model"].update(merges="a b"), "merges that are not a list"),
    "endless expression": (cutting("(a+)+$"), r"a pattern that may not end: '\(a\+\)\+\$'"),
    "endless expression in the normalizer": (replacing({"Regex": "(a|a)+$"}, "b"), "a pattern that may not end"),
    **{
        f"unknown {part}": (
            with_part(part, {"type": "Evil"}),
            f"{part} of the unknown kind",
        )
        for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor")
    },
    "chained replacements": (replacing({"String": "a"}, "aaaaaaaaaaaaa", 3), "can make a text 2,197 times longer"),
    "replaced nothing": (replacing({"Regex": "b*"}, "a" * 50, 2), "can make a text 2,601 times longer"),
    "chained replacements after decoding": (replacing({"String": "a"}, "aa", 3, "decoder"), "a text 8 times longer"),
    "repeated normalisation": (
        lambda data: data.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}] * 3}),
        "can make a text 5,832 times longer",
    ),
    "repeated bytes": (
        lambda data: data.update(normalizer={"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 6}),
        "can make a text 4,096 times longer",
    ),
    "repeated bytes of pieces": (
        lambda data: data.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 3}),
        "can make a text 125 times longer",
    ),
    "repeated spaces before pieces": (
        lambda data: data.update(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "FixedLength"}, {"type": "Metaspace"}] * 6}
        ),
        "can make a text 64 times longer",
    ),
    "replacement of nothing, in characters": (
        replacing({"Regex": r"\K" * 256}, "a" * 256),
        "a pattern that may not end",
    ),
    "replacement of one character as of six": (replacing({"Regex": "(?i)ffiffi"}, "a" * 120, 2), "3,600 times longer"),
    "map to a long text": (charsmap("x" * 3_000), "can make a text 3,000 times longer"),
    "many parts": (replacing({"String": "a"}, "a", 33), "a normalizer of 34 parts, more than 32"),
    "long insertion": (
        lambda data: data.update(normalizer={"type": "Prepend", "prepend": "x" * 257}),
        "a prepend of more than 256 characters",
    ),
    "long template": (
        lambda data: data.update(
            post_processor={"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 65}
        ),
        "a template of 65 items",
    ),
    "long special token": (
        lambda data: data.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [],
                "special_tokens": {"x": {"id": "x", "ids": [1] * 65, "tokens": ["x"] * 65}},
            }
        ),
        "a special token of 65 IDs",
    ),
    "long padding": (
        lambda data: data.update(padding={"strategy": {"Fixed": 10**9}, "pad_id": 0}),
        "pads every text to 1,000,000,000 tokens",
    ),
    "long words": (lambda data: data["model"].update(max_input_chars_per_word=10**9), "max_input_chars_per_word"),
    "random encodings": (lambda data: data["model"].update(dropout=0.5), "sets dropout"),
    "long expression": (cutting("a" * 10_001), "a pattern that may not end"),
    "a piece twice": (unigram(["<unk>", 0.0], ["a", -1.0], ["a", -2.0]), "'a' twice, as 1 and as 2"),
    "infinite score": (unigram(["<unk>", 0.0], ["a", float("inf")]), "tokenizer.json"),
    "no pair": (unigram(["<unk>", 0.0], ["a"]), "no token with a finite score at position 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_tokenizer_is_refused(case: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    edit, words = REFUSED[case]
    folder = edited(copy_of(tiny_llama), edit)
    with pytest.raises(UnsafeCheckpoint, match=words) as refusal:
        read_layout(folder)
    assert FILE in refusal.value.what
    assert refusal.value.hint


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["model"].pop("type"),
        lambda data: data.update(added_tokens=None),
        adding("<|picture|>", 290),
        adding("<|end|>", 0),
        cutting(r"\p{N}{1,3}|\s+(?!\S)|\s+"),
        unigram(["<unk>", 0], ["▁a", -1.5], ["▁b", -2.25]),
        replacing({"String": "▁"}, " ", part="decoder"),
        replacing({"Regex": " {2,}"}, "▁"),
        with_part("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 2}),
        with_part("decoder", {"type": "Sequence", "decoders": [{"type": "ByteLevel"}] * 2}),
        charsmap("ﷺ" * 11),
    ],
)
def test_valid_tokenizer_is_accepted(edit: Edit, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    edited(folder, lambda data: data.update(added_tokens=[]))
    edited(folder, lambda data: data.update(added_tokens_decoder={}), "tokenizer_config.json")
    read_layout(edited(folder, edit))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {"content": "zz"}}}, "the ID 0 to 'zz'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"300": {"content": "a"}}}, "gives 'a' the ID 300"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9999": {"content": "x"}}}, "'x' the ID 9,999"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"9" * 5000: {"content": "x"}}},
            "invalid added token: '999",
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": {"-1": {"content": "x"}}}, "invalid added token: '-1'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"300": {}}}, "invalid added token: '300'"),
        ("added_tokens.json", {"zz": 0}, "the ID 0 to 'zz'"),
        ("added_tokens.json", {"x": 1 << 40}, "'x' the ID 1099511627776"),
        ("vocab.json", {"a": 0}, "gives 'a' the ID 0"),
        ("vocab.json", {"a": "b"}, "gives 'a' the ID 'b'"),
    ],
)
def test_other_file_with_contradicting_ids_is_refused(
    name: str, content: dict[str, object], words: str, tiny_llama: Path, copy_of: CopyOf
) -> None:
    folder = copy_of(tiny_llama)
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(UnsafeCheckpoint, match=words) as refusal:
        read_layout(folder)
    assert refusal.value.what.startswith(name)


def test_vocab_json_is_read_without_tokenizer_json(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    words = json.loads((folder / FILE).read_text())["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / FILE).unlink()
    vocabulary = read_vocabulary(folder, list_files(folder))
    assert vocabulary is not None
    assert (vocabulary.file, vocabulary.ordinary) == ("vocab.json", words)
    read_layout(folder)
    (folder / "vocab.json").write_text(json.dumps(words | {"first": 290}))
    with pytest.raises(UnsafeCheckpoint, match=r"vocab\.json gives 'first' the ID 290"):
        read_layout(folder)


def test_changed_file_is_read_again(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    read_layout(folder)
    with pytest.raises(UnsafeCheckpoint):
        read_layout(edited(folder, naming(first=70)))


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(-3, 40), max_size=12))
def test_accepted_vocabulary_is_one_to_one_and_has_rows(
    tmp_path_factory: pytest.TempPathFactory, words: dict[str, int]
) -> None:
    folder = tmp_path_factory.mktemp("words")
    (folder / FILE).write_text(json.dumps({"model": {"type": "WordLevel", "unk_token": "", "vocab": words}}))
    numbers = list(words.values())
    sound = len(set(numbers)) == len(numbers) and all(0 <= number < 20 for number in numbers)
    try:
        require_valid_tokenizer(folder, [FILE], {}, 20)
    except UnsafeCheckpoint:
        assert not sound
    else:
        assert sound


def test_ids_match_the_tokenizers_library(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("▁a", -1.0), ("b", -2.5)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(tmp_path / FILE))
    vocabulary = read_vocabulary(tmp_path, [FILE])
    assert vocabulary is not None
    assert vocabulary.ids == tokenizer.get_vocab()


def test_embedding_rows_of_checkpoints(tiny_llama: Path, tiny_adapter: Path) -> None:
    assert read_layout(tiny_llama).embedding_rows == 290
    assert read_layout(tiny_adapter).embedding_rows is None
    tables = {
        name: TensorInfo("F32", (rows, 2), 0, 0) for name, rows in {"a.wte.weight": 7, "embeddings.weight": 9}.items()
    }
    assert embedding_rows(tables, {"vocab_size": 7}) == 7
    assert embedding_rows(tables, {"vocab_size": 5}) == 9
    assert embedding_rows({}, {"text_config": {"vocab_size": 5}}) == 5
    assert embedding_rows({"weight": TensorInfo("F32", (3, 2), 0, 0)}, {}) is None


def test_padded_embedding_is_accepted(tiny_llama: Path) -> None:
    require_valid_tokenizer(tiny_llama, list_files(tiny_llama), {}, 320)


def exchanged(data: dict[str, Any]) -> None:
    words = data["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]


def test_renumbered_token_is_refused(tiny_llama: Path, copy_of: CopyOf) -> None:
    reference, same = read_layout(tiny_llama), edited(copy_of(tiny_llama), adding("<|new|>", 290))
    require_same_vocabulary(read_layout(same), reference)
    renumbered = read_layout(edited(copy_of(tiny_llama), exchanged))
    with pytest.raises(UnsafeCheckpoint, match=r"tokenizer\.json of llama gives 'a' the ID 70, and .* 69") as refusal:
        require_same_vocabulary(renumbered, reference)
    assert "--reference" in str(refusal.value.hint)


def test_tokens_missing_from_the_reference_are_accepted(tiny_llama: Path, copy_of: CopyOf) -> None:
    model, other = read_layout(tiny_llama), copy_of(tiny_llama)

    def fewer(data: dict[str, Any]) -> None:
        del data["model"]["vocab"]["a"]

    edited(other, fewer)
    require_same_vocabulary(model, read_layout(other))
    (other / FILE).unlink()
    require_same_vocabulary(model, read_layout(other))


def test_adapter_token_without_row_in_its_base_is_refused(
    tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    base, folder = read_layout(tiny_llama), copy_of(tiny_adapter)
    require_same_vocabulary(read_layout(folder), base)
    (folder / FILE).write_bytes((tiny_llama / FILE).read_bytes())
    require_same_vocabulary(read_layout(folder), base)
    with pytest.raises(UnsafeCheckpoint, match=r"^tokenizer\.json .*'first' the ID 290"):
        require_same_vocabulary(read_layout(edited(folder, naming(first=290))), base)


def test_adapter_added_token_without_row_is_refused(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_adapter)
    (folder / FILE).write_bytes((tiny_llama / FILE).read_bytes())
    with pytest.raises(UnsafeCheckpoint, match=r"^tokenizer\.json .*'<\|far\|>' the ID 9,000"):
        require_same_vocabulary(read_layout(edited(folder, adding("<|far|>", 9000))), read_layout(tiny_llama))


def save_with_embedding(folder: Path, rows: int) -> Path:
    """Add an embedding of so many tokens to the adapter."""
    weights = load_file(folder / "adapter_model.safetensors")
    table = {"base_model.model.model.embed_tokens.weight": torch.zeros(rows, 64)}
    save_file(weights | table, folder / "adapter_model.safetensors")
    return folder


def test_adapter_with_an_embedding_of_the_same_size_is_accepted(
    tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    folder = save_with_embedding(copy_of(tiny_adapter), 290)
    require_same_vocabulary(read_layout(folder), read_layout(tiny_llama))


def test_adapter_with_another_embedding_size_is_refused(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    folder = save_with_embedding(copy_of(tiny_adapter), 292)
    with pytest.raises(
        ConfigurationError, match=r"the adapter adapter has an embedding of 292 tokens, .* 290"
    ) as raised:
        require_same_vocabulary(read_layout(folder), read_layout(tiny_llama))
    assert "merge it" in str(raised.value.hint)


def test_merged_model_with_another_embedding_size_is_accepted(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = torch.zeros(292, 64)
    save_file(weights, folder / "model.safetensors")
    require_same_vocabulary(read_layout(folder), read_layout(tiny_llama))


def test_ten_megabyte_tokenizer_is_read_in_about_a_second(tmp_path: Path) -> None:
    words = {f"Ġ{number:06}abcdefgh": number for number in range(130_000)}
    merges = [f"{word[:2]} {word[2:]}" for word in words] * 2
    (tmp_path / FILE).write_text(json.dumps({"model": {"type": "BPE", "vocab": words, "merges": merges}}))
    assert (tmp_path / FILE).stat().st_size > 9_000_000
    started = time.process_time()
    require_valid_tokenizer(tmp_path, [FILE], {}, len(words))
    assert time.process_time() - started < 3  # a third of it on an idle processor
    started = time.process_time()
    require_valid_tokenizer(tmp_path, [FILE], {}, len(words))
    assert time.process_time() - started < 0.5
