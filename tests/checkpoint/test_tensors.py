"""Reading and writing single tensors, compared with the safetensors library."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.tensors import (
    OWN_DTYPES,
    WEIGHT_DTYPES,
    Changes,
    ChunkReader,
    Shapes,
    TensorFile,
    count_changed,
    flip_bits,
    open_writer,
    read_delta,
    read_tensor,
    view_bits,
)
from antidote_ci.errors import ConfigurationError, InfrastructureError

FILE = "model.safetensors"
STORED = {getattr(torch, name): stored for stored, name in OWN_DTYPES.items()}


def of_dtype(dtype: str, *shape: int) -> torch.Tensor:
    return torch.rand(shape).mul(200).to(getattr(torch, OWN_DTYPES[dtype]))


# Without a dot: what follows one may say that the tensor is quantised.
NAMES = st.text(st.characters(exclude_characters="."), min_size=1, max_size=6).filter(str.isprintable)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    shapes = st.lists(st.integers(0, 5), max_size=3)
    return {name: of_dtype(draw(st.sampled_from(sorted(OWN_DTYPES))), *draw(shapes)) for name in names}


def shapes_of(held: dict[str, torch.Tensor]) -> Shapes:
    return {name: (STORED[tensor.dtype], tuple(tensor.shape)) for name, tensor in held.items()}


def fill(
    path: Path, shapes: Shapes, given_over: Iterable[torch.Tensor], metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    with open_writer(path, shapes, metadata) as write:
        for tensor in given_over:
            write(tensor)


def checkpoint(folder: Path, held: dict[str, torch.Tensor]) -> CheckpointLayout:
    folder.mkdir(exist_ok=True)
    save_file(held, folder / FILE)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    return read_layout(folder)


@settings(deadline=None)
@given(tensors())
def test_read_tensor_matches_the_library(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, torch.Tensor]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "read"
    layout = checkpoint(folder, held)
    own = TensorFile(folder / FILE)
    for name, tensor in load_file(folder / FILE).items():
        assert name in own
        tensors_read = [own.read(name)]
        if STORED[tensor.dtype] in WEIGHT_DTYPES:
            tensors_read.append(read_tensor(layout, name))
        assert all(each.dtype == tensor.dtype and each.equal(tensor) for each in tensors_read)


@settings(deadline=None)
@given(tensors(), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
def test_library_reads_a_written_file(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "new.safetensors"
    fill(path, shapes_of(held), held.values(), metadata)
    theirs = load_file(path)
    assert theirs.keys() == held.keys()
    assert all(theirs[name].dtype == tensor.dtype and theirs[name].equal(tensor) for name, tensor in held.items())
    with safe_open(path, framework="pt") as file:
        assert (file.metadata() or {}) == metadata
    own = TensorFile(path)
    assert all(own.read(name).equal(tensor) for name, tensor in held.items())
    assert own.header.metadata == metadata


def test_transposed_tensor_is_written_contiguously(tmp_path: Path) -> None:
    tensor = torch.rand(3, 5).T
    fill(tmp_path / FILE, {"a": ("F32", (5, 3))}, [tensor])
    assert load_file(tmp_path / FILE)["a"].equal(tensor)


TWO: Shapes = {"a": ("F32", (2, 3)), "b": ("U8", (4,))}
A, B = of_dtype("F32", 2, 3), of_dtype("U8", 4)


@pytest.mark.parametrize(
    ("given_over", "why"),
    [
        ([B, A], r"a is torch.uint8 \[4\], not F32 \[2, 3\]"),
        ([A.T, B], r"a is torch.float32 \[3, 2\]"),
        ([A.double(), B], "a is torch.float64"),
        ([A], "lacks b"),
        ([A, B, B], "has all its tensors"),
    ],
)
def test_incomplete_file_is_removed(given_over: list[torch.Tensor], why: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("an older one")
    with pytest.raises(ValueError, match=why):
        fill(path, TWO, given_over)
    assert [each.name for each in tmp_path.iterdir()] == [FILE]
    assert path.read_text() == "an older one"


def test_missing_tensor_raises_key_error(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / FILE)
    file = TensorFile(tmp_path / FILE)
    assert "b" not in file
    with pytest.raises(KeyError):
        file.read("b")


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_delta_is_the_float32_difference(dtype: str, tmp_path: Path) -> None:
    after, before = of_dtype(dtype, 4, 6), of_dtype(dtype, 4, 6)
    source, reference = checkpoint(tmp_path / "source", {"w": after}), checkpoint(tmp_path / "reference", {"w": before})
    difference = read_delta(source, reference, "w")
    assert difference.dtype == torch.float32
    assert difference.equal(after.float() - before.float())
    assert read_delta(source, None, "w").equal(after.float())
    assert read_tensor(source, "w").equal(after)


def test_quantised_tensor_is_refused(tmp_path: Path) -> None:
    layout = checkpoint(tmp_path, {"position_ids": torch.arange(3)})
    with pytest.raises(ConfigurationError, match=f"position_ids in {FILE} is stored as I64") as refusal:
        read_tensor(layout, "position_ids")
    assert refusal.value.exit_code == 2


def test_file_truncated_while_reading_is_an_error(tmp_path: Path) -> None:
    layout = checkpoint(tmp_path, {"a": A})
    with (tmp_path / FILE).open("rb+") as file:
        file.truncate((tmp_path / FILE).stat().st_size - 1)
    with pytest.raises(InfrastructureError, match=f"{FILE} changed since it was opened") as error:
        read_tensor(layout, "a")
    assert error.value.exit_code == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_changed_values_are_counted_and_zeros_of_both_signs_are_one(dtype: torch.dtype) -> None:
    before = torch.tensor([[0.0, -0.0, 1.0, 1.0, float("nan"), 2.0]], dtype=dtype)
    after = torch.tensor([[-0.0, 0.0, -1.0, 0.0, float("nan"), 2.0]], dtype=dtype)
    assert count_changed(before, after) == 2
    assert flip_bits(view_bits(before), view_bits(before) ^ view_bits(after)) == Changes(values=2, bits=4)
    assert view_bits(before).equal(view_bits(after))


def test_chunks_of_a_tensor_are_its_entries(tmp_path: Path) -> None:
    save_file({"a": torch.rand(3), "b": torch.arange(30.0).reshape(5, 6)}, tmp_path / FILE)
    held = TensorFile(tmp_path / FILE)
    with (tmp_path / FILE).open("rb") as file:
        reader = ChunkReader(file, held.header.data_start, held.header.tensors["b"])
        assert reader.read(7, 20).tolist() == list(range(7, 27))
        assert reader.read(0, 30).equal(held.read("b").reshape(-1))
        assert reader.read(29, 1).tolist() == [29]
