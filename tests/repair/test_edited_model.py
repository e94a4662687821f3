"""A dose that is tried in memory has the weights of the checkpoint that is written for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.model import Network, loading
from antidote_ci.model.edited_model import load_edited_model
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import MaskFile, Method, Model, WeightEdit
from antidote_ci.repair.apply import ApplyRequest, apply_mask
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from tests.builders import ignore
from tests.repair.cases import KINDS, Case, scored, write_case
from tests.repair.test_apply import PROVENANCE


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    folder = tmp_path_factory.mktemp("edited")
    return write_case(request.param, folder), folder


def write_and_edit(case: Case, folder: Path, method: Method, doses: list[float]) -> list[tuple[Model, Model]]:
    """The repaired checkpoint of each dose, and the model that is edited in memory."""
    scores = scored(case, folder / "scores", method=None if method == "scale" else "antidote")
    statistics = None if method == "random" else folder / "scores" / "antidote.safetensors"
    masks = folder / f"masks-{method}"
    written: Sequence[MaskFile | None] = [None] * len(doses)
    if method != "scale":
        request = MaskRequest(case.source, case.reference, scores, statistics, doses, masks)
        written = write_mask_files(request, ignore)
    pairs = []
    for dose, mask in zip(doses, written, strict=True):
        out = folder / f"{method}-{dose}"
        apply_mask(ApplyRequest(case.source, case.reference, scores, mask, method, dose, out, PROVENANCE), ignore)
        edit = WeightEdit(
            tuple(tensor.name for tensor in scores.tensors),
            case.reference,
            dose,
            masks if mask else None,
            mask.path.name if mask else "",
        )
        repaired = Model(out) if case.model.adapter is None else Model(case.model.folder, out)
        pairs.append((repaired, replace(case.model, edit=edit)))
    return pairs


def list_weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def require_equal(network: Network, expected: dict[str, torch.Tensor]) -> None:
    weights = list_weights(network)
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Input and output embeddings")
@pytest.mark.parametrize("method", ["antidote", "scale", "random"])
def test_edited_weights_are_those_of_the_written_checkpoint(case: tuple[Case, Path], method: Method) -> None:
    pairs = write_and_edit(*case, method, [0.3, 0.1])
    unedited = list_weights(loading.load_model(case[0].model, merge=True))
    for repaired, edited in pairs:
        expected = list_weights(loading.load_model(repaired, merge=True))
        assert any(not torch.equal(weight, unedited[name]) for name, weight in expected.items())
        require_equal(load_edited_model(edited), expected)
    require_equal(load_edited_model(case[0].model), unedited)


def test_answers_of_an_edit_are_stored_under_its_files_and_its_dose(tmp_path: Path) -> None:
    case = write_case("bfloat16", tmp_path)
    models = [case.model]
    models += [edited for _, edited in write_and_edit(case, tmp_path, "antidote", [0.1, 0.3])]
    models += [edited for _, edited in write_and_edit(case, tmp_path, "scale", [0.1, 0.3])]
    fingerprints = [model_fingerprint(model) for model in models]
    assert len(set(fingerprints)) == len(models)
    weights = tmp_path / "reference" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = [model_fingerprint(model) != before for model, before in zip(models, fingerprints, strict=True)]
    assert changed == [False, True, True, True, True]


def test_an_edit_is_never_ignored(tmp_path: Path) -> None:
    case = write_case("bfloat16", tmp_path)
    ((_, edited),) = write_and_edit(case, tmp_path, "scale", [0.3])
    for load in (
        lambda: loading.load_model(edited, merge=True),
        lambda: loading.load_cached_model(edited),
        lambda: MetaModel(edited, torch.bfloat16, "cpu"),
    ):
        with pytest.raises(ValueError, match="would be ignored"):
            load()
