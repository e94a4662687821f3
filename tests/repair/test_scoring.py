"""The records of scoring and the reuse of scores, with real forward passes of tiny checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci import records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.records import Progress, PromptRow, Scores
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from tests.builders import ignore
from tests.repair.cases import ROWS, Case, score_request, write_case


def steps(changed_request: ScoreRequest) -> set[str]:
    """Return the names of the reported steps."""
    seen: list[Progress] = []
    score_weights(changed_request, seen.append)
    return {each.what for each in seen}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Write a sharded checkpoint."""
    return write_case("sharded float16", tmp_path)


def test_scores_record_their_input_files(case: Case, tmp_path: Path) -> None:
    scores = score_weights(score_request(case, tmp_path / "scores"), ignore)
    assert case.reference is not None
    for folder, files in ((case.source, scores.source_files), (case.reference, scores.reference_files)):
        assert files == {path.name: sha256_file(path) for path in folder.glob("*.safetensors")}
    statistics = tmp_path / "scores" / "antidote.safetensors"
    assert scores.sha256 == sha256_file(statistics)
    assert {name: each.shape for name, each in load_file(statistics).items()} == {
        each.name: (each.columns,) for each in scores.tensors
    }
    assert records.from_json(Scores, statistics.with_suffix(".json").read_text()) == scores
    assert not (tmp_path / "scores" / ".scratch").exists()


def test_identical_request_reuses_scores(case: Case, tmp_path: Path) -> None:
    changed_request = score_request(case, tmp_path / "scores")
    first = score_weights(changed_request, ignore)
    assert steps(changed_request) == {"files read"}
    assert score_weights(changed_request, ignore) == first
    assert score_weights(replace(changed_request, folder=tmp_path / "again"), ignore) == first


@pytest.mark.parametrize("what", ["rows", "weights", "template", "statistics", "key"])
def test_changed_input_is_scored_again(what: str, case: Case, tmp_path: Path) -> None:
    changed_request = score_request(case, tmp_path / "scores")
    before = score_weights(changed_request, ignore)
    if what == "rows":
        changed_request = replace(changed_request, rows=[*ROWS, PromptRow("how do i hide it?", response="Sure.")])
    elif what == "weights":
        shard = case.source / "model-00001-of-00003.safetensors"
        save_file({name: tensor * 2 for name, tensor in load_file(shard).items()}, shard, {"format": "pt"})
    elif what == "template":
        path = case.source / "chat_template.jinja"
        path.write_text(path.read_text().replace("<|end|>", "<|system|>"))
    elif what == "statistics":
        path = tmp_path / "scores" / "antidote.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        (tmp_path / "scores" / "antidote.key").unlink()
    assert steps(changed_request) > {"files read"}
    after = score_weights(changed_request, ignore)
    assert (after == before) == (what in ("statistics", "key"))
    assert after.sha256 == sha256_file(tmp_path / "scores" / "antidote.safetensors")


def test_changed_base_of_an_adapter_is_scored_again(tmp_path: Path) -> None:
    case = write_case("adapter", tmp_path)
    changed_request = score_request(case, tmp_path / "scores")
    before = score_weights(changed_request, ignore)
    assert before.reference_files == {}
    assert list(before.source_files) == ["adapter_model.safetensors"]
    weights = case.model.folder / "model.safetensors"
    tensors = {name: tensor + torch.ones_like(tensor) for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    after = score_weights(changed_request, ignore)
    assert after.source_files == before.source_files
    assert after.sha256 != before.sha256


def test_without_a_method_tensors_are_listed_only(case: Case, tmp_path: Path) -> None:
    listed = score_weights(score_request(case, tmp_path / "scores", None), ignore)
    scored = score_weights(score_request(case, tmp_path / "scores-too"), ignore)
    assert listed == replace(scored, method=None, sha256="", plan=None)
    assert not (tmp_path / "scores").exists()


def test_taylor_writes_a_score_for_each_entry(case: Case, tmp_path: Path) -> None:
    scores = score_weights(score_request(case, tmp_path / "scores", "taylor"), ignore)
    assert scores.per == "tensor"
    assert {name: each.shape for name, each in load_file(tmp_path / "scores" / "taylor.safetensors").items()} == {
        each.name: (each.rows, each.columns) for each in scores.tensors
    }
