"""Mask files: contents, metadata and errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.edits import unpack_mask
from antidote_ci.records import Grouping, MaskFile, Scores
from antidote_ci.repair import masks
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from tests.builders import ignore
from tests.repair.cases import Case, scored, write_case

DOSES = [0.05, 0.5, 0.0, 0.02, 1.0]

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def scored_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Scores, Path]:
    """Score a checkpoint; return it, the scores and the path of the statistics."""
    folder = tmp_path_factory.mktemp("masking")
    case = write_case("bfloat16", folder)
    return case, scored(case, folder / "scores"), folder / "scores"


def request(scored_case: tuple[Case, Scores, Path], folder: Path) -> MaskRequest:
    case, scores, statistics = scored_case
    return MaskRequest(
        source=case.source,
        reference=case.reference,
        scores=scores,
        statistics=statistics / "antidote.safetensors",
        doses=DOSES,
        folder=folder,
    )


def of_tensors(mask_request: MaskRequest, folder: Path) -> MaskRequest:
    """Return the same request with random `taylor` scores."""
    draw = torch.Generator().manual_seed(0)
    path = folder / "taylor.safetensors"
    shapes = {each.name: (each.rows, each.columns) for each in mask_request.scores.tensors}
    save_file({name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}, path)
    scores = replace(mask_request.scores, method="taylor", per="tensor", sha256=sha256_file(path))
    return replace(mask_request, scores=scores, statistics=path)


def unpacked(mask: MaskFile, scores: Scores) -> Tensors:
    packed = load_file(mask.path)
    return {each.name: unpack_mask(packed[each.name], each.rows, each.columns) for each in scores.tensors}


def with_statistics(mask_request: MaskRequest, path: Path, change: Callable[[Tensors], object]) -> MaskRequest:
    assert mask_request.statistics is not None
    tensors = load_file(mask_request.statistics)
    change(tensors)
    save_file(tensors, path)
    return replace(mask_request, statistics=path)


def test_masks_of_several_doses_match_single_doses(scored_case: tuple[Case, Scores, Path], tmp_path: Path) -> None:
    for number, mask_request in enumerate(
        [request(scored_case, tmp_path / "a"), of_tensors(request(scored_case, tmp_path / "b"), tmp_path)]
    ):
        together = write_mask_files(mask_request, ignore)
        for dose, mask in zip(DOSES, together, strict=True):
            alone = replace(mask_request, doses=[dose], folder=tmp_path / f"alone-{number}-{dose}")
            assert write_mask_files(alone, ignore)[0].sha256 == mask.sha256 == sha256_file(mask.path)


@pytest.mark.parametrize("per", ["row", "tensor"])
def test_mask_covers_its_share_of_each_group(
    per: Grouping, scored_case: tuple[Case, Scores, Path], tmp_path: Path
) -> None:
    mask_request = request(scored_case, tmp_path)
    if per == "tensor":
        mask_request = of_tensors(mask_request, tmp_path)
    for mask in write_mask_files(mask_request, ignore):
        bits_by_name = unpacked(mask, mask_request.scores)
        for name, bits in bits_by_name.items():
            groups = bits if per == "row" else bits.reshape(1, -1)
            assert set(groups.sum(dim=1).tolist()) == {masks.count_per_row(groups.shape[1], mask.dose)}, name
        entries = sum(bits.numel() for bits in bits_by_name.values())
        assert mask.effective_dose == sum(int(bits.sum()) for bits in bits_by_name.values()) / entries


def test_random_mask_covers_as_many_entries_without_statistics(
    scored_case: tuple[Case, Scores, Path], tmp_path: Path
) -> None:
    chosen = write_mask_files(request(scored_case, tmp_path / "chosen"), ignore)
    drawn = replace(request(scored_case, tmp_path / "drawn"), statistics=None)
    for one, other in zip(chosen, write_mask_files(drawn, ignore), strict=True):
        assert other.path.name == f"random-{one.dose:g}.safetensors"
        assert other.effective_dose == one.effective_dose
        if 0 < one.dose < 1:
            first, second = unpacked(one, drawn.scores), unpacked(other, drawn.scores)
            assert any(not torch.equal(first[name], second[name]) for name in first)


def test_mask_file_names_its_checkpoint(scored_case: tuple[Case, Scores, Path], tmp_path: Path) -> None:
    mask_request = request(scored_case, tmp_path)
    mask = write_mask_files(mask_request, ignore)[0]
    with safe_open(mask.path, framework="pt") as file:
        file_metadata = file.metadata()
    assert (file_metadata["method"], file_metadata["dose"], file_metadata["per"]) == ("antidote", "0.05", "row")
    assert sha256_file(mask_request.source / "model.safetensors") in file_metadata["source"]


def test_nan_in_statistics_is_refused(scored_case: tuple[Case, Scores, Path], tmp_path: Path) -> None:
    name = scored_case[1].tensors[3].name

    def spoil(tensors: Tensors) -> None:
        tensors[name].view(-1)[1] = float("nan")

    per_row = request(scored_case, tmp_path / "masks")
    for mask_request in (per_row, of_tensors(per_row, tmp_path)):
        with pytest.raises(ConfigurationError, match=f"{name} holds NaN"):
            write_mask_files(with_statistics(mask_request, tmp_path / "spoilt.safetensors", spoil), ignore)
    assert not list((tmp_path / "masks").iterdir())


def test_tensor_without_statistics_of_its_shape_is_refused(
    scored_case: tuple[Case, Scores, Path], tmp_path: Path
) -> None:
    name = scored_case[1].tensors[3].name

    def shorten(tensors: Tensors) -> None:
        tensors[name] = tensors[name][1:].clone()

    for change in (shorten, lambda tensors: tensors.pop(name)):
        mask_request = with_statistics(request(scored_case, tmp_path / "masks"), tmp_path / "other.safetensors", change)
        with pytest.raises(ConfigurationError, match=f"{name} has no statistics"):
            write_mask_files(mask_request, ignore)
