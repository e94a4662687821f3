"""Parsing the front matter of a card."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import (
    MAX_CHARACTERS,
    parse_front_matter,
    read_base_model,
    read_base_models,
    read_card,
    read_licence,
    split_card,
)
from antidote_ci.checkpoint.files import MAX_OTHER_BYTES
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from loopback_hub.cards import parse_card as demonstrated

WORDS = st.text(alphabet="abc xyz:-#'\"é", max_size=12)
DATA = st.dictionaries(WORDS, WORDS | st.integers() | st.lists(WORDS, max_size=3), min_size=1, max_size=4)


@settings(max_examples=30)
@given(DATA, st.text(max_size=60))
def test_front_matter_round_trips_with_the_body(data: dict[str, object], body: str) -> None:
    text = f"---\n{yaml.safe_dump(data, allow_unicode=True)}---\n{body}"
    assert parse_front_matter(text) == data
    assert split_card(text).body == body


@settings(max_examples=30)
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


@pytest.mark.parametrize(
    "block",
    [
        "a: &a {b: 1}\nc: {<<: *a, d: 2}",
        "a: &a b",
        "a: !!str b",
        "a: !!python/object/apply:os.getcwd []",
        "[" * 50,
        f"a: [{'b, ' * 199_999}b]",
    ],
)
def test_expensive_front_matter_is_refused(block: str) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"README\.md is not read: it has") as refusal:
        parse_front_matter(f"---\n{block}\n---\n")
    assert refusal.value.hint


DEAR = {
    "a flat list": "a: [" + "a," * 250_000 + "a]",
    "a long list": "a:\n" + "- 1\n" * 98_000,
    "sexagesimal numbers": "a: [" + "1:1," * 50_000 + "1]",
    "one sexagesimal number": "a: " + "1:" * 200_000 + "1",
    "the same key": "a: b\n" * 49_000,
    "nested lists": "a: " + "[" * 400_000,
    "nested keys": "? " * 200_000,
    "a long number": "a: " + "1" * 400_000,
    "nested aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
    "four megabytes": "a: b\n" * (800 << 10),
}


READ = """
import resource, sys
from antidote_ci.checkpoint.card import parse_front_matter
from antidote_ci.errors import AntidoteError
try:
    parse_front_matter(sys.stdin.read())
except AntidoteError:
    pass
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("case", DEAR)
def test_dear_front_matter_is_read_or_refused_within_seconds(case: str) -> None:
    # Its own process: the children of this one include those of other tests.
    ended = subprocess.run(
        [sys.executable, "-c", READ], input=f"---\n{DEAR[case]}\n---\n", capture_output=True, text=True, timeout=10
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 1 << 20  # KiB


def test_scalars_are_those_of_json() -> None:
    text = "{a: no, b: 2024-13-45, c: 010, d: 1:30, e: 1_000, f: 7, g: -1.5e3, h: true, i: ~, j: .nan}"
    data = parse_front_matter(f"---\n{text}\n---\n")
    assert str(data.pop("j")) == "nan"
    assert list(data.values()) == ["no", "2024-13-45", "010", "1:30", "1_000", 7, -1500.0, True, None]


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


def test_large_front_matter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n#{' ' * MAX_CHARACTERS}\nbase_model: org/name\n---\n")
    with pytest.raises(UnsafeCheckpoint, match="more than 524,288 characters"):
        read_base_models(tmp_path)


def test_only_the_beginning_of_a_large_card_is_read(tmp_path: Path) -> None:
    with (tmp_path / "README.md").open("w") as file:
        file.write("---\nlicense: mit\n---\n")
        file.truncate(3 << 30)
    assert read_licence(tmp_path / "README.md") == "mit"
    assert len(read_card(tmp_path / "README.md")) == MAX_OTHER_BYTES


def test_folder_without_card_has_no_base_model(tmp_path: Path) -> None:
    assert read_base_model(tmp_path) is None
