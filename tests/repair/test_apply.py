"""Score, mask and apply real files of every kind of checkpoint, and compare the bytes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci import records
from antidote_ci.checkpoint.files import identify_settled_files, list_files, sha256_file
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.swap import MANIFEST_FILE, partial_folder
from antidote_ci.checkpoint.tensors import TensorFile, read_tensor
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model.edits import interpolate, unpack_mask
from antidote_ci.records import Manifest, MaskFile, Method, ReportedReference, ReportedSource, Scores
from antidote_ci.repair.apply import ApplyRequest, Provenance, apply_mask
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.sandbox.client import Sandbox
from tests.builders import ignore
from tests.repair.cases import KINDS, Case, scored, write_case

DOSE = 0.1

PROVENANCE = Provenance(
    run_id="1" * 32,
    source=ReportedSource("org/model", "a" * 40, "full"),
    reference=ReportedReference("org/aligned", "b" * 40, "option"),
    policy_sha256="c" * 64,
)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Write one checkpoint of each kind."""
    return write_case(request.param, tmp_path_factory.mktemp("apply"))


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ApplyRequest]:
    """Write a sharded checkpoint and the request that repairs it."""
    folder = tmp_path_factory.mktemp("delta")
    case = write_case("sharded float16", folder)
    return case, masked(case, folder)


def mask_of(case: Case, scores: Scores, folder: Path, dose: float = DOSE) -> MaskFile:
    apply_request = MaskRequest(
        source=case.source,
        reference=case.reference,
        scores=scores,
        statistics=folder / "scores" / "antidote.safetensors",
        doses=[dose],
        folder=folder / "masks",
    )
    return write_mask_files(apply_request, ignore)[0]


def masked(case: Case, folder: Path, dose: float = DOSE) -> ApplyRequest:
    """Score and mask the checkpoint; return the request to apply."""
    scores = scored(case, folder / "scores")
    mask = mask_of(case, scores, folder, dose)
    out = folder / "repaired"
    return ApplyRequest(case.source, case.reference, scores, mask, "antidote", dose, out, PROVENANCE)


def scaled(case: Case, folder: Path, dose: float) -> ApplyRequest:
    scores = scored(case, folder / "scores", method=None)
    return ApplyRequest(case.source, case.reference, scores, None, "scale", dose, folder / "scaled", PROVENANCE)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: each for path in sorted(folder.glob("*.safetensors")) for name, each in load_file(path).items()}


def hashes(folder: Path) -> dict[str, str]:
    """Hash every file except the manifest, which names the run."""
    return {name: sha256_file(folder / name) for name in list_files(folder) if name != MANIFEST_FILE}


def manifest_of(folder: Path) -> Manifest:
    return records.from_json(Manifest, (folder / MANIFEST_FILE).read_bytes())


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def test_masked_entries_alone_are_the_reference_s_or_zero(case: Case, tmp_path: Path) -> None:
    apply_request = masked(case, tmp_path)
    done = apply_mask(apply_request, ignore)
    before, after = weights(case.source), weights(apply_request.destination)
    base = weights(case.reference) if case.reference else {}
    assert list(before) == list(after)
    assert apply_request.mask is not None
    packed, tensors = load_file(apply_request.mask.path), {each.name: each for each in apply_request.scores.tensors}
    for name, tensor in before.items():
        if name not in tensors:
            assert torch.equal(bits(after[name]), bits(tensor)), name
            continue
        mask = unpack_mask(packed[name], *tensor.shape)
        expected = base[name].to(tensor.dtype) if base else torch.zeros_like(tensor)
        assert mask.any(), name
        assert torch.equal(bits(after[name]), bits(torch.where(mask, expected, tensor))), name
    changed = {name: int((after[name] != before[name]).sum()) for name in tensors}
    assert done.changed == changed
    scored = sum(tensor.numel() for name, tensor in before.items() if name in tensors)
    assert done.effective_dose == apply_request.mask.effective_dose
    assert 0 < sum(changed.values()) <= done.effective_dose * scored


def test_every_other_file_and_byte_is_the_source_s(case: Case, tmp_path: Path) -> None:
    apply_request = masked(case, tmp_path)
    untouched = hashes(case.source)
    apply_mask(apply_request, ignore)
    assert hashes(case.source) == untouched
    shards = read_layout(case.source).shards
    after = hashes(apply_request.destination)
    assert {name: after[name] for name in after if name not in shards} == {
        name: untouched[name] for name in untouched if name not in shards
    }
    for shard in shards:
        source, repaired = TensorFile(case.source / shard), TensorFile(apply_request.destination / shard)
        assert source.header == repaired.header
        length = source.header.data_start
        assert (case.source / shard).read_bytes()[:length] == (apply_request.destination / shard).read_bytes()[:length]


def test_three_runs_give_the_same_bytes(case: Case, tmp_path: Path) -> None:
    results = []
    for run in range(3):
        apply_request = masked(case, tmp_path / str(run))
        assert apply_request.mask is not None
        apply_mask(replace(apply_request, provenance=replace(PROVENANCE, run_id=str(run) * 32)), ignore)
        results.append((apply_request.mask.sha256, hashes(apply_request.destination)))
    assert results[0] == results[1] == results[2]


def test_dose_zero_is_the_identity_of_every_method(case: Case, tmp_path: Path) -> None:
    for apply_request in (masked(case, tmp_path, 0), scaled(case, tmp_path, 0)):
        done = apply_mask(apply_request, ignore)
        assert sum(done.changed.values()) == 0
        assert hashes(apply_request.destination) == hashes(case.source)


def test_scale_shrinks_every_scored_tensor_and_of_an_adapter_b_alone(case: Case, tmp_path: Path) -> None:
    apply_request = scaled(case, tmp_path, 0.3)
    done = apply_mask(apply_request, ignore)
    source, reference = read_layout(case.source), read_layout(case.reference) if case.reference else None
    before, after = weights(case.source), weights(apply_request.destination)
    tensors = {each.name for each in apply_request.scores.tensors}
    shrunk = {name for name in tensors if case.target != "adapter" or name.endswith("lora_B.weight")}
    for name, tensor in before.items():
        base = torch.zeros(()) if reference is None else read_tensor(reference, name)
        expected = interpolate(read_tensor(source, name), base, 0.3) if name in shrunk else tensor
        assert torch.equal(bits(after[name]), bits(expected)), name
    assert {name for name, count in done.changed.items() if count} == shrunk
    assert done.effective_dose == 0.3


def test_manifest_says_what_was_done_and_from_what(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    case, apply_request = delta
    apply_request = replace(apply_request, destination=tmp_path / "out")
    written_manifest = apply_mask(apply_request, ignore)
    assert apply_request.mask is not None
    assert written_manifest == manifest_of(apply_request.destination)
    assert (written_manifest.method, written_manifest.target, written_manifest.per, written_manifest.dose) == (
        "antidote",
        "delta",
        "row",
        DOSE,
    )
    assert written_manifest.effective_dose == apply_request.mask.effective_dose
    assert written_manifest.left_alone == apply_request.scores.left_alone
    assert (written_manifest.scores_sha256, written_manifest.masks_sha256) == (
        apply_request.scores.sha256,
        apply_request.mask.sha256,
    )
    assert written_manifest.source_files == {
        shard: sha256_file(case.source / shard) for shard in read_layout(case.source).shards
    }
    assert written_manifest.reference_files == apply_request.scores.reference_files
    assert written_manifest.plan == apply_request.scores.plan
    assert {file.path: file.sha256_out for file in written_manifest.files} == {
        name: digest for name, digest in hashes(apply_request.destination).items() if name != "README.md"
    }


def test_edited_manifest_is_not_sealed(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    apply_request = replace(delta[1], destination=tmp_path / "out")
    apply_mask(apply_request, ignore)
    written_manifest = manifest_of(apply_request.destination)
    assert is_sealed(written_manifest)
    assert not is_sealed(replace(written_manifest, dose=0.2))
    assert not is_sealed(replace(written_manifest, digest=""))


def test_manifest_of_scale_has_no_mask(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    apply_request = replace(delta[1], mask=None, method="scale", dose=0.3, destination=tmp_path / "out")
    apply_mask(apply_request, ignore)
    written_manifest = manifest_of(apply_request.destination)
    assert (
        written_manifest.per,
        written_manifest.effective_dose,
        written_manifest.masks_sha256,
        written_manifest.scores_sha256,
    ) == (None, 0.3, "", "")


def test_mask_of_another_checkpoint_is_refused(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    case, apply_request = delta
    other = {**apply_request.scores.source_files, "model-00001-of-00003.safetensors": "0" * 64}
    foreign = mask_of(case, replace(apply_request.scores, source_files=other), _with_scores(delta, tmp_path))
    with pytest.raises(ConfigurationError, match=r"not the mask of antidote at dose 0\.1 for this checkpoint"):
        apply_mask(replace(apply_request, mask=foreign, destination=tmp_path / "out"), ignore)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "dose"), [("antidote", 0.2), ("random", DOSE)])
def test_mask_of_another_dose_or_method_is_refused(
    method: Method, dose: float, delta: tuple[Case, ApplyRequest], tmp_path: Path
) -> None:
    apply_request = replace(delta[1], method=method, dose=dose, destination=tmp_path / "out")
    with pytest.raises(ConfigurationError, match="is not the mask of"):
        apply_mask(apply_request, ignore)


def test_mask_that_changed_is_refused(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    case, apply_request = delta
    mask = mask_of(case, apply_request.scores, _with_scores(delta, tmp_path))
    data = mask.path.read_bytes()
    mask.path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InfrastructureError, match="changed since it was scored"):
        apply_mask(replace(apply_request, mask=mask, destination=tmp_path / "out"), ignore)


@pytest.mark.parametrize("whose", ["source", "reference"])
@pytest.mark.parametrize("how", ["value", "shape"])
def test_weights_changed_since_scoring_are_refused(whose: str, how: str, tmp_path: Path) -> None:
    case = write_case("sharded float16", tmp_path)
    apply_request = masked(case, tmp_path)
    folder = case.source if whose == "source" else case.reference
    assert folder is not None
    shard = folder / "model-00002-of-00003.safetensors"
    original = shard.read_bytes()
    tensors = load_file(shard)
    name = next(each.name for each in apply_request.scores.tensors if each.name in tensors)
    tensors[name] = tensors[name] + 1 if how == "value" else tensors[name][1:].clone()
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(InfrastructureError, match="changed since it was scored"):
        apply_mask(apply_request, ignore)
    assert not apply_request.destination.exists()
    assert not partial_folder(apply_request.destination).exists()
    shard.write_bytes(original)
    apply_mask(apply_request, ignore)


def with_identities(apply_request: ApplyRequest) -> ApplyRequest:
    """Add the identities of the weight files, as if they were hashed long after they were written."""
    assert apply_request.reference is not None
    found = []
    for folder in (apply_request.source, apply_request.reference):
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        found.append(identify_settled_files(folder, read_layout(folder).shards))
    return replace(apply_request, source_identities=found[0], reference_identities=found[1])


def test_unchanged_files_are_not_hashed_again(tmp_path: Path) -> None:
    case = write_case("sharded float16", tmp_path)
    apply_request = masked(case, tmp_path)
    known = with_identities(replace(apply_request, destination=tmp_path / "known"))
    done = apply_mask(apply_request, ignore)
    assert apply_mask(known, ignore) == done
    assert hashes(known.destination) == hashes(apply_request.destination)
    # What was hashed for the scores holds, so these other hashes are not noticed.
    scores = replace(
        known.scores,
        source_files=dict.fromkeys(known.scores.source_files, "0" * 64),
        reference_files=dict.fromkeys(known.scores.reference_files, "1" * 64),
    )
    scaled_request = replace(known, scores=scores, mask=None, method="scale", destination=tmp_path / "scaled")
    apply_mask(scaled_request, ignore)
    with pytest.raises(InfrastructureError, match="changed since it was scored"):
        apply_mask(replace(scaled_request, source_identities={}, destination=tmp_path / "no"), ignore)
    with pytest.raises(InfrastructureError, match="changed since it was scored"):
        apply_mask(replace(scaled_request, reference_identities={}, destination=tmp_path / "no"), ignore)


def test_identity_holds_behind_the_links_of_the_sandbox(tmp_path: Path) -> None:
    case = write_case("bfloat16", tmp_path)
    known = with_identities(scaled(case, tmp_path, 0.3))
    false_hashes = replace(known.scores, source_files={"model.safetensors": "0" * 64})
    with Sandbox(tmp_path / "log", None) as sandbox:
        outputs = [known.destination.parent / "out"]
        request = replace(known, scores=false_hashes, destination=outputs[0] / "model")
        done = sandbox.call(apply_mask, request, ignore, outputs=outputs)
    assert [file.sha256_in for file in done.files if file.path == "model.safetensors"] == ["0" * 64]


@pytest.mark.parametrize("whose", ["source", "reference"])
def test_written_file_is_hashed_again(whose: str, tmp_path: Path) -> None:
    case = write_case("sharded float16", tmp_path)
    apply_request = with_identities(masked(case, tmp_path))
    folder = case.source if whose == "source" else case.reference
    assert folder is not None
    with (folder / "model-00002-of-00003.safetensors").open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(InfrastructureError, match="changed since it was scored"):
        apply_mask(apply_request, ignore)
    assert not apply_request.destination.exists()


def test_reference_written_while_it_is_read_is_refused(tmp_path: Path) -> None:
    case = write_case("sharded float16", tmp_path)
    apply_request = with_identities(masked(case, tmp_path))
    assert case.reference is not None
    shard = case.reference / "model-00001-of-00003.safetensors"
    with pytest.raises(InfrastructureError, match=f"{shard.name} in reference changed since it was scored"):
        apply_mask(apply_request, lambda _progress: os.utime(shard))
    assert not apply_request.destination.exists()


def test_number_of_threads_is_restored(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    threads, during = torch.get_num_threads(), set[int]()
    torch.set_num_threads(3)
    try:
        destination = tmp_path / "out"
        apply_mask(replace(delta[1], destination=destination), lambda _: during.add(torch.get_num_threads()))
        assert (during, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(threads)


def test_killed_apply_continues_with_another_run_id(delta: tuple[Case, ApplyRequest], tmp_path: Path) -> None:
    complete = replace(delta[1], destination=tmp_path / "complete")
    apply_mask(complete, ignore)
    apply_request = replace(delta[1], destination=tmp_path / "killed")
    (tmp_path / "request.json").write_text(records.to_json(apply_request))
    code = (
        "import os, pathlib, signal, sys\n"
        "from antidote_ci import records\n"
        "from antidote_ci.repair.apply import ApplyRequest, apply_mask\n"
        "wanted = records.from_json(ApplyRequest, pathlib.Path(sys.argv[1]).read_text())\n"
        "partial = wanted.destination.with_name(wanted.destination.name + '.partial')\n"
        "def kill(_):\n"
        "    if (partial / 'model-00002-of-00003.safetensors').exists():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "apply_mask(wanted, kill)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "request.json")], env=os.environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert partial_folder(apply_request.destination).exists()
    apply_mask(replace(apply_request, provenance=replace(PROVENANCE, run_id="2" * 32)), ignore)
    assert hashes(apply_request.destination) == hashes(complete.destination)
    assert manifest_of(apply_request.destination).changed == manifest_of(complete.destination).changed


def _with_scores(delta: tuple[Case, ApplyRequest], folder: Path) -> Path:
    """Copy the statistics of `delta` to where `mask_of` reads them."""
    statistics = load_file(_statistics(delta[1]))
    (folder / "scores").mkdir()
    save_file(statistics, folder / "scores" / "antidote.safetensors")
    return folder


def _statistics(apply_request: ApplyRequest) -> Path:
    assert apply_request.mask is not None
    return apply_request.mask.path.parent.parent / "scores" / "antidote.safetensors"
