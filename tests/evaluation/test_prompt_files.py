"""Reading CSV and JSONL files, both valid and hostile."""

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def written(folder: str | Path, name: str, content: bytes) -> Path:
    path = Path(folder) / name
    path.write_bytes(content)
    return path


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_csv_round_trip(rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("a", "b"), *rows])
    with TemporaryDirectory() as folder:
        rows_read = [fields for _, fields in prompts.read_table(written(folder, "t.csv", stream.getvalue().encode()))]
    assert rows_read == [{"a": a, "b": b} for a, b in rows]


@given(st.lists(st.dictionaries(TEXTS, TEXTS, max_size=3), max_size=8), st.booleans())
def test_json_lines_round_trip(rows: list[dict[str, str]], ascii_only: bool) -> None:
    content = "\r\n\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode("utf-8-sig")
    with TemporaryDirectory() as folder:
        path = written(folder, "t.jsonl", content)
        assert [fields for _, fields in prompts.read_table(path)] == rows


@given(st.sampled_from(["t.csv", "t.jsonl"]), st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_configuration_error(name: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = written(folder, name, content)
        with suppress(ConfigurationError):
            assert all(isinstance(fields, dict) for _, fields in prompts.read_table(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"a,b\n1,2\n3,\xff\n", "line 3 is not UTF-8"),
        ("t.csv", b'a,b\n1,"2\n3,4\n', "line 3 is not CSV"),
        ("t.csv", b'a,b\n1,"2"3\n', "line 2 is not CSV"),
        ("t.csv", b"a,b\n1,2,3\n", "line 2 has more fields"),
        ("t.csv", b"a,a\n1,2\n", "line 1 names a column twice"),
        ("t.csv", b"a\n" + b"x" * 200_000, "line 2 is not CSV"),
        ("t.csv", b"a\n" + b"x\n" * 100_001, "more than 100,000 rows"),
        ("t.jsonl", b'{"a": 1}\n{"a": ', "line 2 is not JSON"),
        ("t.jsonl", b"1" * 5000, "line 1 is not JSON"),
        ("t.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", b"{}\n" * 100_001, "more than 100,000 rows"),
        ("t.jsonl", b" " * 64_000_001, "more than 64 MB"),
    ],
)
def test_invalid_file_error_names_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(ConfigurationError) as raised:
        list(prompts.read_table(path))
    assert str(path) in raised.value.what
    assert message in f"{raised.value.what} {raised.value.cause}"


def test_a_file_of_the_most_rows_is_read(tmp_path: Path) -> None:
    rows = prompts.read_table(written(tmp_path, "t.jsonl", b"{}\n" * prompts.MAX_ROWS))
    assert sum(1 for _ in rows) == prompts.MAX_ROWS


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            list(prompts.read_table(path))


def test_unpaired_surrogate_is_refused() -> None:
    whole = json.loads('"\\ud83d\\ude00"')
    assert prompts.require_text({"prompt": whole}, "prompt", "line 1", "hint") == "\N{GRINNING FACE}"
    with pytest.raises(ConfigurationError, match=r"line 1 has an unpaired surrogate in the field 'prompt'") as raised:
        prompts.require_text({"prompt": json.loads('"a\\ud800b"')}, "prompt", "line 1", "hint")
    assert raised.value.cause is not None
    assert raised.value.cause.isascii()
