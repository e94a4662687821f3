"""The header reader on valid and invalid files. Comparison with the library on mutated files: `test_mutations.py`."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.torch import save

from antidote_ci.checkpoint.headers import MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_TENSORS, read_header
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)


def packed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


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
def test_header_matches_the_safetensors_library(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    header = read_header(path)
    theirs = dict(deserialize(data))  # type: ignore[no-untyped-call]
    assert {name: list(info.shape) for name, info in header.tensors.items()} == {
        name: info["shape"] for name, info in theirs.items()
    }
    for name, info in header.tensors.items():
        assert info.dtype == theirs[name]["dtype"]
        start = header.data_start
        assert data[start + info.start : start + info.end] == bytes(theirs[name]["data"])


def test_git_lfs_pointer_is_a_configuration_error(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 538090408\n")
    with pytest.raises(ConfigurationError, match="Git LFS pointer") as raised:
        read_header(path)
    assert "git lfs pull" in str(raised.value.hint)


LIES = {
    "cut short": (b"\x01\x02", "too short"),
    "length of nothing": (struct.pack("<Q", 99) + b"{}", "says 99 bytes"),
    "length of everything": (struct.pack("<Q", 2**64 - 1) + b"{}", "the limit is"),
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
    "hole": (packed(json.dumps({"a": entry(), "b": entry(offsets=[8, 12])}).encode(), bytes(12)), "gap"),
    "hidden behind": (packed(json.dumps({"a": entry()}).encode(), bytes(5)), "the file has 5"),
    "missing": (packed(json.dumps({"a": entry()}).encode(), bytes(3)), "the file has 3"),
    "shape": (packed(json.dumps({"a": entry(shape=[2])}).encode(), bytes(4)), "not those of F32"),
    "wrapping shape": (
        packed(json.dumps({"a": entry(shape=[0, 2**63, 4], offsets=[0, 0])}).encode()),
        "more than 72,057,594,037,927,936 entries",
    ),
    "number without end": (packed(json.dumps({"a": entry(shape=[0, 10**19])}).encode()), "more than 19 digits"),
    "dimensions without end": (
        packed(json.dumps({"a": entry(shape=[1] * (MAX_DIMENSIONS + 1))}).encode(), bytes(4)),
        "offsets of 65 numbers",
    ),
    "values without end": (packed(b'{"a":[' + b"[]," * 400_000 + b"[]]}"), "750,000 values"),
    "fraction": (packed(json.dumps({"a": entry(shape=[1.0])}).encode(), bytes(4)), "must be integers"),
    "truth": (packed(json.dumps({"a": entry(shape=[True])}).encode(), bytes(4)), "must be integers"),
    "more fields": (packed(json.dumps({"a": entry() | {"code": "x"}}).encode(), bytes(4)), "exactly the fields"),
    "metadata": (packed(b'{"__metadata__":{"a":1}}'), "must be a string"),
    "half a character": (packed(b'{"__metadata__":{"a":"\\ud800"}}'), "Unicode"),
    "name with half a character": (
        packed(b'{"\\udc00":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        "Unicode",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_invalid_header_is_refused_with_its_reason(lie: str, path: Path) -> None:
    data, reason = LIES[lie]
    path.write_bytes(data)
    with pytest.raises(UnsafeCheckpoint, match=reason) as refusal:
        read_header(path)
    assert path.name in refusal.value.what
    assert refusal.value.exit_code == 6


def test_oversized_header_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(1 << 40)
    with pytest.raises(UnsafeCheckpoint, match="the limit is"):
        read_header(path)


def test_too_many_tensors_are_refused(path: Path) -> None:
    empty = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    names = (b'"%d":' % number + empty for number in range(MAX_TENSORS + 1))
    path.write_bytes(packed(b"{" + b",".join(names) + b"}"))
    with pytest.raises(UnsafeCheckpoint, match="50,001 tensors"):
        read_header(path)


def test_tensors_are_ordered_by_offset(path: Path) -> None:
    header = {"a": entry(offsets=[4, 8]), "b": entry(), "c": entry(offsets=[8, 12])}
    path.write_bytes(packed(json.dumps(header).encode() + b"   ", bytes(12)))
    assert list(read_header(path).tensors) == ["b", "a", "c"]
