"""Parsing the front matter of a card."""

import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import (
    MAX_BYTES,
    parse_front_matter,
    read_base_model,
    read_base_models,
    read_licence,
    split_card,
)
from antidote_ci.errors import ConfigurationError
from loopback_hub.cards import parse_card as demonstrated

WORDS = st.text(alphabet="abc xyz:-#'\"é", max_size=12)
DATA = st.dictionaries(WORDS, WORDS | st.integers() | st.lists(WORDS, max_size=3), min_size=1, max_size=4)


@given(DATA, st.text(max_size=60))
def test_front_matter_round_trips_with_the_body(data: dict[str, object], body: str) -> None:
    text = f"---\n{yaml.safe_dump(data, allow_unicode=True)}---\n{body}"
    assert parse_front_matter(text) == data
    assert split_card(text).body == body


@given(st.text(max_size=60).map(lambda text: "---\n" + text) | st.text(max_size=40))
def test_any_text_parses_or_raises_a_configuration_error(text: str) -> None:
    try:
        data = parse_front_matter(text)
    except ConfigurationError:
        assert text.lstrip().startswith("---")
    else:
        assert isinstance(data, dict)


@pytest.mark.parametrize(
    "block",
    [
        "a: [",
        "- a\n- b",
        "just words",
        "when: 2024-13-45",
        "a: !!python/object/apply:os.getcwd []",
        "[" * 5000,
        "a: &a *b",
    ],
)
def test_broken_front_matter_is_a_configuration_error(block: str) -> None:
    with pytest.raises(ConfigurationError, match=r"README\.md") as refusal:
        parse_front_matter(f"---\n{block}\n---\n")
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A model\n---\na rule above\n---\n", {}),
        ("---\n---\nbody", {}),
        ("---\n\n---\nbody", {}),
        ("---\r\na: 1\r\n---\r\nbody\r\n", {"a": 1}),
        ("---\na: 1\n---", {"a": 1}),
        ("\n---\na: 1\n---\n", {"a": 1}),
        (" \n\n  ---\na: 1\n---\n", {"a": 1}),
        ("---\na: 1\n--- \n", {"a": 1}),
        ("--- \na: 1\n---\n", {}),
        ("---\na: 1\n---b\n", {}),
    ],
)
def test_metadata_matches_what_the_hub_reads(text: str, expected: dict[str, object]) -> None:
    """The Hub accepts an empty line before the block."""
    assert parse_front_matter(text) == expected
    assert vars(ModelCard(text).data).get("a") == expected.get("a")
    assert demonstrated(text) == expected


def test_exponential_merge_keys_are_refused_quickly() -> None:
    """PyYAML before 6.0.4 expands the keys, so they are refused; later versions merge each name once."""
    levels = ["a0: &a0 {" + ", ".join(f"k{number}: 1" for number in range(10)) + "}"]
    levels += [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, 10)]
    began = time.monotonic()
    unfolds = tuple(map(int, yaml.__version__.split(".")[:3])) < (6, 0, 4)
    with pytest.raises(ConfigurationError, match="more than 10,000 names") if unfolds else nullcontext():
        parse_front_matter("---\n" + "\n".join(levels) + "\n---\n")
    assert time.monotonic() - began < 5


def test_ordinary_merge_keys_are_read() -> None:
    assert parse_front_matter("---\na: &a {b: 1}\nc: {<<: *a, d: 2}\n---\n")["c"] == {"b": 1, "d": 2}


@pytest.mark.parametrize(
    ("card", "expected"),
    [(b"---\nlicense: mit\n---\n", "mit"), (b"---\nlicense: [\n---\n", None), (b"\xe9\n---\n- a\n---\n", None)],
)
def test_licence_is_read_from_the_card(tmp_path: Path, card: bytes, expected: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card)
    assert read_licence(tmp_path / "README.md") == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("org/name", ["org/name"]),
        ("[org/name]", ["org/name"]),
        ("[org/one, org/two]", ["org/one", "org/two"]),
        ("[]", []),
        ("7", []),
        ("''", []),
        ("{a: b}", []),
    ],
)
def test_base_model_is_none_unless_the_card_names_one(tmp_path: Path, named: str, expected: list[str]) -> None:
    (tmp_path / "README.md").write_text(f"---\nbase_model: {named}\n---\n")
    assert read_base_models(tmp_path) == expected
    assert read_base_model(tmp_path) == (expected[0] if len(expected) == 1 else None)


def test_invalid_utf8_in_a_card_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes("---\nbase_model: org/naïve\n---\n".encode() + b"\xff\xfe")
    assert read_base_models(tmp_path) == ["org/naïve"]


def test_card_is_read_up_to_four_megabytes(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n#{' ' * MAX_BYTES}\nbase_model: org/name\n---\n")
    assert read_base_models(tmp_path) == []


def test_folder_without_card_has_no_base_model(tmp_path: Path) -> None:
    assert read_base_model(tmp_path) is None
