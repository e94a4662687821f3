"""The cache returns the value that was stored, or nothing."""

import json
import multiprocessing
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.evaluation.answer_store import FORMAT, AnswerStore

JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=40)
@given(value=JSON, parts=st.lists(JSON, max_size=3))
def test_stored_value_is_read_by_a_new_cache(value: object, parts: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        key = AnswerStore.key(*parts)
        assert AnswerStore(Path(folder)).get(key) is None
        AnswerStore(Path(folder)).put(key, value)
        assert AnswerStore(Path(folder)).get(key) == value


@given(first=st.lists(JSON, max_size=3), second=st.lists(JSON, max_size=3))
def test_keys_differ_exactly_when_their_parts_do(first: list[object], second: list[object]) -> None:
    assert (AnswerStore.key(*first) == AnswerStore.key(*second)) == (
        json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    )


def test_key_parts_must_be_json() -> None:
    with pytest.raises(TypeError):
        AnswerStore.key(Path("a"))  # its text would depend on the machine


@settings(max_examples=50)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_damaged_entry_is_ignored(at: int, byte: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache, key = AnswerStore(Path(folder)), AnswerStore.key("damaged")
        cache.put(key, [["an answer", True], ["another", False]])
        (path,) = Path(folder).rglob("*.json")
        data = bytearray(path.read_bytes())
        data[at % len(data)] = byte
        path.write_bytes(data)
        assert cache.get(key) in (None, [["an answer", True], ["another", False]])
        path.write_bytes(data[: at % len(data)])
        assert cache.get(key) is None


def test_entry_of_another_key_is_ignored(tmp_path: Path) -> None:
    cache = AnswerStore(tmp_path)
    cache.put(AnswerStore.key("a"), 1)
    (path,) = tmp_path.rglob("*.json")
    other_key = AnswerStore.key("b")
    (tmp_path / other_key[:2]).mkdir(exist_ok=True)
    path.rename(tmp_path / other_key[:2] / f"{other_key}.json")
    assert cache.get(other_key) is None


@pytest.mark.parametrize("version", [None, 1, FORMAT + 1])
def test_entry_of_another_format_is_ignored(tmp_path: Path, version: int | None) -> None:
    cache, key = AnswerStore(tmp_path), AnswerStore.key("a prompt")
    cache.put(key, "an answer")
    (path,) = tmp_path.rglob("*.json")
    entry = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: value for name, value in entry.items() if name != "format"}))
    if version is not None:
        path.write_text(json.dumps(entry | {"format": version}))
    assert cache.get(key) is None


def test_only_the_owner_can_read_the_cache(tmp_path: Path) -> None:
    AnswerStore(tmp_path / "cache").put(AnswerStore.key(1), "what a model wrote")
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "cache", *tmp_path.rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


def _put_many(folder: Path) -> None:
    for number in range(50):
        AnswerStore(folder).put(AnswerStore.key(number), "x" * 10_000)


def test_two_processes_can_write_at_once(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_put_many, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert AnswerStore(tmp_path).get(AnswerStore.key(25)) in (None, "x" * 10_000)
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(AnswerStore(tmp_path).get(AnswerStore.key(number)) == "x" * 10_000 for number in range(50))
    assert len(list(tmp_path.rglob("*.json"))) == 50
    assert not list(tmp_path.rglob(".partial-*"))
