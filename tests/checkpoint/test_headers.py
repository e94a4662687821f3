"""The header reader beside the library it guards: what the library refuses, it refuses."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from antidote_ci.checkpoint.headers import BITS, MAX_HEADER_BYTES, MAX_TENSORS, Header, read_header
from antidote_ci.errors import UnsafeCheckpoint

NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)
ODD_VALUES = (
    st.integers(-3, 40)
    | st.sampled_from(
        [2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 1.0, 0.5, True, None, "", "F32", "f32"]
    )
    | st.sampled_from([[], {}, [0], [0, 4], [4, 0], [2**64 - 1, 0], [0, 2**63], *([name] for name in BITS), *BITS])
)


def packed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def library_accepts(data: bytes) -> bool:
    try:
        deserialize(data)  # type: ignore[no-untyped-call]
    # serde's text of a bad header may hold bytes that are no UTF-8
    except (SafetensorError, UnicodeDecodeError):
        return False
    return True


def ours(path: Path, data: bytes) -> Header | None:
    path.write_bytes(data)
    try:
        return read_header(path)
    except UnsafeCheckpoint:
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers") / "model.safetensors"


@st.composite
def files(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    tensors = {name: torch.zeros(draw(SHAPES), dtype=draw(st.sampled_from(DTYPES))) for name in names}
    metadata = draw(st.none() | st.dictionaries(NAMES, st.text(max_size=5), min_size=1, max_size=2))
    return save(tensors, metadata)


@given(files())
def test_what_the_library_writes_is_read_as_the_library_reads_it(path: Path, data: bytes) -> None:
    header = ours(path, data)
    assert header is not None
    theirs = dict(deserialize(data))  # type: ignore[no-untyped-call]
    assert {name: list(info.shape) for name, info in header.tensors.items()} == {
        name: info["shape"] for name, info in theirs.items()
    }
    for name, info in header.tensors.items():
        assert info.dtype == theirs[name]["dtype"]
        start = header.data_start
        assert data[start + info.start : start + info.end] == bytes(theirs[name]["data"])


@settings(max_examples=400)
@given(st.data())
def test_bytes_changed_anywhere(path: Path, data: st.DataObject) -> None:
    file = bytearray(data.draw(files()))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(file) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert", "end"]))
        if change == "set":
            file[at] = data.draw(st.integers(0, 255))
        elif change == "insert":
            file[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        elif len(file) > 1:
            del file[at : at + 1 if change == "cut" else None]
        if not file:
            break
    if not library_accepts(bytes(file)):
        assert ours(path, bytes(file)) is None


@settings(max_examples=400)
@given(st.data())
def test_values_changed_in_the_header(path: Path, data: st.DataObject) -> None:
    header: dict[str, object] = {"a": entry(), "b": entry("F16", [2, 2], [4, 12])}
    for _ in range(data.draw(st.integers(1, 3))):
        tensor = data.draw(st.sampled_from(["a", "b", "__metadata__", "c"]))
        field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "more", None]))
        value = data.draw(ODD_VALUES | st.lists(st.integers(-1, 12) | ODD_VALUES, max_size=3))
        held = header.get(tensor)
        if field is None or not isinstance(held, dict):
            header[tensor] = value
        else:
            header[tensor] = held | {field: value}
    file = packed(json.dumps(header).encode(), bytes(data.draw(st.sampled_from([12, 12, 4, 0, 13]))))
    if not library_accepts(file):
        assert ours(path, file) is None


LIES = {
    "cut short": (b"\x01\x02", "too short"),
    "length of nothing": (struct.pack("<Q", 99) + b"{}", "claims 99 bytes"),
    "length of everything": (struct.pack("<Q", 2**64 - 1) + b"{}", "claims"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "UTF-8"),
    "not JSON": (packed(b"{not json}"), "not JSON"),
    "not an object": (packed(b"[]"), "brace"),
    "padded before": (packed(b" {}"), "brace"),
    "two tensors of one name": (
        packed(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}'),
        "twice",
    ),
    "unknown dtype": (packed(json.dumps({"a": entry("F31")}).encode(), bytes(4)), "dtype"),
    "negative": (packed(json.dumps({"a": entry(offsets=[-4, 0])}).encode()), "negative"),
    "minus nought": (packed(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[-0,0]}}'), "negative"),
    "swapped": (packed(json.dumps({"a": entry(offsets=[4, 0])}).encode(), bytes(4)), "offsets"),
    "overlap": (packed(json.dumps({"a": entry(), "b": entry(offsets=[2, 6])}).encode(), bytes(6)), "overlaps"),
    "shared": (packed(json.dumps({"a": entry(), "b": entry()}).encode(), bytes(4)), "overlaps"),
    "hole": (packed(json.dumps({"a": entry(), "b": entry(offsets=[8, 12])}).encode(), bytes(12)), "hole"),
    "hidden behind": (packed(json.dumps({"a": entry()}).encode(), bytes(5)), "the file has 5"),
    "missing": (packed(json.dumps({"a": entry()}).encode(), bytes(3)), "the file has 3"),
    "shape": (packed(json.dumps({"a": entry(shape=[2])}).encode(), bytes(4)), "not those of F32"),
    "wrapping shape": (packed(json.dumps({"a": entry(shape=[0, 2**63, 4], offsets=[0, 0])}).encode()), "any disk"),
    "fraction": (packed(json.dumps({"a": entry(shape=[1.0])}).encode(), bytes(4)), "whole numbers"),
    "truth": (packed(json.dumps({"a": entry(shape=[True])}).encode(), bytes(4)), "whole numbers"),
    "more fields": (packed(json.dumps({"a": entry() | {"code": "x"}}).encode(), bytes(4)), "not just"),
    "metadata": (packed(b'{"__metadata__":{"a":1}}'), "text"),
    "half a character": (packed(b'{"__metadata__":{"a":"\\ud800"}}'), "Unicode"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_named(lie: str, path: Path) -> None:
    data, reason = LIES[lie]
    path.write_bytes(data)
    with pytest.raises(UnsafeCheckpoint, match=reason) as refusal:
        read_header(path)
    assert path.name in refusal.value.what
    assert refusal.value.exit_code == 6


def test_a_header_too_long_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(1 << 40)
    with pytest.raises(UnsafeCheckpoint, match="more than"):
        read_header(path)


def test_too_many_tensors_are_refused(path: Path) -> None:
    empty = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    names = (b'"%d":' % number + empty for number in range(MAX_TENSORS + 1))
    path.write_bytes(packed(b"{" + b",".join(names) + b"}"))
    with pytest.raises(UnsafeCheckpoint, match="100,001 tensors"):
        read_header(path)


def test_tensors_come_in_the_order_in_which_they_lie(path: Path) -> None:
    header = {"a": entry(offsets=[4, 8]), "b": entry(), "c": entry(offsets=[8, 12])}
    path.write_bytes(packed(json.dumps(header).encode() + b"   ", bytes(12)))
    assert list(read_header(path).tensors) == ["b", "a", "c"]
