"""The limits of the JSON reader."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.checkpoint.json_files import MAX_DEPTH, parse_object, read_object
from antidote_ci.errors import UnsafeCheckpoint

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_valid_json_is_read_unchanged(value: dict[str, object]) -> None:
    assert parse_object(json.dumps(value).encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]:,"\\u0dab1e-. ntrf', max_size=40).map(str.encode))
def test_invalid_bytes_raise_value_error(data: bytes) -> None:
    try:
        value = parse_object(data)
    except ValueError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', "twice"),
        ('{"a": {"b": 1, "b": 2}}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ("[]", "object"),
        ("{} {}", "not JSON"),
        ('{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "deeper"),
        ('{"a":' * 200_000, "deeper"),
        ("[" * 200_000, "deeper"),
        ('{"a": ' + "9" * 5000 + "}", "out of range"),
        ('{"a": -1e999}', "out of range"),
        ('{"a": "\\ud800"}', "Unicode"),
        ('{"\\ude00\\ud83d": 1}', "Unicode"),
    ],
)
def test_untrusted_json_is_refused_with_its_reason(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsafeCheckpoint, match=reason) as refusal:
        read_object(tmp_path / "config.json", 4 << 20)
    assert "config.json" in refusal.value.what
    assert refusal.value.exit_code == 6


def test_value_more_than_allowed_is_refused() -> None:
    assert parse_object(b'{"a": [0, 0]}', max_values=3)
    with pytest.raises(ValueError, match="more than 3 values"):
        parse_object(b'{"a": [0, 0, 0]}', max_values=3)


def test_surrogate_pairs_are_valid_text() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_error_message_is_shortened(tmp_path: Path) -> None:
    key = "x" * 100_000
    (tmp_path / "config.json").write_text(f'{{"{key}": 1, "{key}": 1}}')
    with pytest.raises(UnsafeCheckpoint) as refusal:
        read_object(tmp_path / "config.json", 1 << 20)
    assert len(refusal.value.what) < 200


def test_maximum_depth_is_accepted(tmp_path: Path) -> None:
    text = '{"a": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"
    assert parse_object(text.encode())


def test_oversized_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk behind it
    with pytest.raises(UnsafeCheckpoint, match=r"config\.json is larger than 1,048,576"):
        read_object(path, 1 << 20)


def test_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UnsafeCheckpoint, match="UTF-8"):
        read_object(tmp_path / "config.json", 1 << 20)
