"""Valid repairs are verified; any later change is reported, with or without a matching manifest."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from antidote_ci import records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.records import Method, RepairTarget, ScoredTensor, Verification, WeightFile
from antidote_ci.repair import masks
from antidote_ci.repair.manifest import load_manifest
from antidote_ci.repair.verifying import EDITED, VerifyRequest
from antidote_ci.repair.verifying import verify_repair as verify_in_child
from tests import tiny
from tests.builders import ignore
from tests.repaired import forge, manifest_of, repair, with_own_hashes, write_fine_tuned

KINDS: list[tuple[RepairTarget, Method, float]] = [
    ("delta", "antidote", 0.1),
    ("delta", "taylor", 0.01),
    ("delta", "random", 0.1),
    ("delta", "scale", 0.4),
    ("adapter", "antidote", 0.1),
    ("adapter", "taylor", 0.01),
    ("adapter", "random", 0.1),
    ("adapter", "scale", 0.3),
]
NAMES = [f"{target}-{method}" for target, method, _ in KINDS]
EMBEDDING = "model.embed_tokens.weight"
MATRIX = "model.layers.1.mlp.up_proj.weight"
OTHER_MATRIX = "model.layers.0.mlp.up_proj.weight"
NORM = "model.norm.weight"


@dataclass(frozen=True)
class Case:
    """A repaired checkpoint, its source and its reference."""

    repaired: Path
    source: Path
    reference: Path | None

    def verify(self, *not_pulled: str) -> Verification:
        return verify_in_child(VerifyRequest(self.repaired, self.source, self.reference, list(not_pulled)), ignore)

    def difference(self, *not_pulled: str) -> str:
        verification = self.verify(*not_pulled).difference
        assert verification is not None, "nothing was found"
        return verification

    def forge(self, **changed: object) -> None:
        """Let the manifest say something else, sealed anew."""
        forge(self.repaired, replace(manifest_of(self.repaired), **changed))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Repair one checkpoint per target and method; the results are never changed."""
    work = tmp_path_factory.mktemp("verify")
    reference = tiny.write_tiny_llama(work / "reference", hidden=32, shards=3)
    source = write_fine_tuned(reference, work / "source")
    adapter = tiny.write_tiny_adapter(work / "adapter", reference)
    cases = {}
    for target, method, dose in KINDS:
        fine_tuned, base = (adapter, reference) if target == "adapter" else (source, None)
        aligned = reference if target == "delta" else None
        repaired = repair(work, fine_tuned, aligned, target, method, dose, base=base)
        cases[f"{target}-{method}"] = Case(repaired, fine_tuned, aligned)
    return cases


@pytest.fixture
def case(results: dict[str, Case], copy_of: Callable[[Path], Path]) -> Callable[[str], Case]:
    """Return a copy of a result that the test may change."""

    def copied(name: str) -> Case:
        return replace(results[name], repaired=copy_of(results[name].repaired))

    return copied


def edit(folder: Path, name: str, change: Callable[[torch.Tensor, dict[str, torch.Tensor]], object]) -> None:
    """Change the bytes of one tensor and nothing else."""
    shard = read_layout(folder).weight_map[name]
    tensors = load_file(folder / shard)
    change(tensors[name], tensors)
    save_file(tensors, folder / shard, {"format": "pt"})


def entry_of(case: Case, name: str, changed: bool) -> tuple[int, int]:
    """Return the index of a changed, or an unchanged, entry in the row with the most changes."""
    shard = read_layout(case.source).weight_map[name]
    before, after = (load_file(folder / shard)[name] for folder in (case.source, case.repaired))
    other = before != after
    row = int(other.sum(dim=1).argmax())
    return row, int((other[row] if changed else ~other[row]).nonzero()[0])


@pytest.mark.parametrize("name", NAMES)
def test_valid_repair_is_verified(results: dict[str, Case], name: str) -> None:
    verification, manifest = results[name].verify(), manifest_of(results[name].repaired)
    assert verification.difference is None
    assert (verification.method, verification.target, verification.dose) == (
        manifest.method,
        manifest.target,
        manifest.dose,
    )
    assert verification.files == len(manifest.files) > 0
    assert verification.tensors == len(read_layout(results[name].source).tensors)
    assert 0 < verification.changed_weights == sum(manifest.changed.values()) <= verification.scored_weights
    assert (verification.reference is None) == (results[name].reference is None)


def test_card_and_report_may_change(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    (result.repaired / "README.md").write_text("# Another card\n")
    (result.repaired / "antidote" / "report.html").write_text("<p>")
    (result.repaired / "notes.txt").write_text("of no framework's interest")
    (result.repaired / "checkpoint-1").mkdir()
    (result.repaired / "checkpoint-1" / "model.safetensors").write_bytes(b"opened only by whoever names the folder")
    assert result.verify(".gitattributes", "original/consolidated.pth").difference is None


@pytest.mark.parametrize("name", ["delta-antidote", "delta-scale", "adapter-random"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bit_in_a_tensor_is_reported(results: dict[str, Case], name: str, data: st.DataObject) -> None:
    result = results[name]
    tensor = data.draw(st.sampled_from(list(read_layout(result.source).tensors)))
    path = result.repaired / read_layout(result.source).weight_map[tensor]
    header = read_header(path)
    info = header.tensors[tensor]
    at = header.data_start + data.draw(st.integers(info.start, info.end - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    good = path.read_bytes()
    try:
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert result.difference().startswith(f"{tensor} in {path.name}: ")
    finally:
        path.write_bytes(good)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bit_in_another_file_is_reported(results: dict[str, Case], data: st.DataObject) -> None:
    result = results["delta-antidote"]
    layout = read_layout(result.source)
    name = data.draw(st.sampled_from([each.path for each in manifest_of(result.repaired).files]))
    path = result.repaired / name
    good = path.read_bytes()
    end = layout.headers[name].data_start if name in layout.headers else len(good)
    at, bit = data.draw(st.integers(0, end - 1)), 1 << data.draw(st.integers(0, 7))
    try:
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert name in result.difference()
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize(("name", "per"), [("delta-antidote", "row"), ("delta-taylor", "tensor")])
def test_entry_beyond_the_dose_is_reported(case: Callable[[str], Case], name: str, per: str) -> None:
    """All hashes and counts of the manifest match the forged files."""
    result = case(name)
    assert result.reference is not None
    row, column = entry_of(result, MATRIX, changed=False)
    theirs = load_file(result.reference / read_layout(result.reference).weight_map[MATRIX])[MATRIX]
    if name == "delta-taylor":  # random scores are never equal, so the mask is full
        assert manifest_of(result.repaired).changed[MATRIX] > 0
    edit(result.repaired, MATRIX, lambda weight, _: weight[row].__setitem__(column, theirs[row, column]))
    manifest = with_own_hashes(result.repaired, manifest_of(result.repaired))
    changed = manifest.changed | {MATRIX: manifest.changed[MATRIX] + 1}
    forge(result.repaired, replace(manifest, changed=changed))
    assert f"{MATRIX} in" in result.difference()
    assert f"1 more entries of one {per}" in result.difference()


@pytest.mark.parametrize("name", NAMES)
def test_foreign_value_with_matching_manifest_is_reported(case: Callable[[str], Case], name: str) -> None:
    result = case(name)
    tensor = next(reversed(manifest_of(result.repaired).changed))
    row, column = entry_of(result, tensor, changed=True)
    edit(result.repaired, tensor, lambda weight, _: weight[row].__setitem__(column, weight[row, column] + 0.5))
    forge(result.repaired, with_own_hashes(result.repaired, manifest_of(result.repaired)))
    assert result.difference().startswith(f"{tensor} in ")
    assert f"[{row}, {column}]" in result.difference()


def test_negative_zero_is_reported(case: Callable[[str], Case]) -> None:
    result = case("adapter-antidote")
    factor = next(name for name in read_layout(result.source).tensors if "lora_A" in name)
    row, column = entry_of(result, factor, changed=True)
    edit(result.repaired, factor, lambda weight, _: weight[row].__setitem__(column, -0.0))
    forge(result.repaired, with_own_hashes(result.repaired, manifest_of(result.repaired)))
    assert f"the entry at [{row}, {column}] is neither the source's nor zero" in result.difference()


def test_one_ulp_in_a_scaled_weight_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-scale")
    edit(
        result.repaired,
        MATRIX,
        lambda weight, _: weight.view(torch.int16)[2].__setitem__(3, weight.view(torch.int16)[2, 3] + 1),
    )
    forge(result.repaired, with_own_hashes(result.repaired, manifest_of(result.repaired)))
    assert "the entry at [2, 3] is not the scaled one" in result.difference()


@pytest.mark.parametrize("name", ["delta-antidote", "delta-scale"])
def test_swapped_tensors_are_reported(case: Callable[[str], Case], name: str) -> None:
    result = case(name)
    shards = [read_layout(result.source).weight_map[each] for each in (MATRIX, OTHER_MATRIX)]
    one, other = (
        load_file(result.repaired / shard)[each] for shard, each in zip(shards, (MATRIX, OTHER_MATRIX), strict=True)
    )
    edit(result.repaired, MATRIX, lambda weight, _: weight.copy_(other))
    edit(result.repaired, OTHER_MATRIX, lambda weight, _: weight.copy_(one))
    forge(result.repaired, with_own_hashes(result.repaired, manifest_of(result.repaired)))
    assert result.difference().startswith((MATRIX, OTHER_MATRIX))


def test_changed_embedding_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    assert result.reference is not None
    theirs = load_file(result.reference / read_layout(result.reference).weight_map[EMBEDDING])[EMBEDDING]
    edit(result.repaired, EMBEDDING, lambda weight, _: weight[5].__setitem__(0, theirs[5, 0]))
    manifest = with_own_hashes(result.repaired, manifest_of(result.repaired))
    forge(result.repaired, manifest)
    assert result.difference().startswith(f"{EMBEDDING} in ")
    forge(result.repaired, replace(manifest, changed={**manifest.changed, EMBEDDING: 1}))
    assert result.difference() == f"the manifest lists {EMBEDDING} as changed, which antidote on delta does not change"


def test_scaled_factor_a_is_reported(case: Callable[[str], Case]) -> None:
    result = case("adapter-scale")
    name = next(name for name in read_layout(result.source).tensors if "lora_A" in name)
    edit(result.repaired, name, lambda weight, _: weight.mul_(0.7))
    manifest = with_own_hashes(result.repaired, manifest_of(result.repaired))
    forge(result.repaired, replace(manifest, changed=manifest.changed | {name: 1}))
    assert f"{name} as changed, which scale on adapter does not change" in result.difference()


LIES: list[tuple[str, dict[str, object], str]] = [
    ("delta-antidote", {"dose": 0.5}, "effective dose"),
    ("delta-antidote", {"effective_dose": 0.1}, "effective dose"),
    ("delta-antidote", {"dose": 1.5}, "outside 0..1"),
    ("delta-antidote", {"per": "tensor"}, "antidote takes its dose per tensor"),
    ("delta-antidote", {"per": None}, "antidote takes its dose per None"),
    ("delta-antidote", {"method": "scale", "per": None, "effective_dose": 0.1}, "is not the scaled one"),
    ("delta-antidote", {"target": "adapter"}, "the kind of the source: full"),
    ("delta-antidote", {"changed": {}}, "nothing was repaired"),
    ("delta-scale", {"changed": {}}, "nothing was repaired"),
    ("delta-antidote", {"changed": {"nowhere.weight": 1}}, "nowhere.weight"),
    ("delta-antidote", {"changed": {NORM: 1}}, NORM),
    ("delta-antidote", {"source_files": {}}, "two hashes of the source"),
    ("delta-antidote", {"reference_files": {}}, "of the reference is not the file"),
    ("delta-scale", {"dose": -3.0, "effective_dose": -3.0}, "outside 0..1"),
    ("delta-scale", {"dose": 0.2, "effective_dose": 0.2}, "is not the scaled one"),
    ("delta-scale", {"method": "random", "per": "row"}, "effective dose"),
    ("adapter-antidote", {"target": "delta"}, "the kind of the source: adapter"),
    ("adapter-antidote", {"reference_files": {"model.safetensors": "0" * 64}}, "other files than the reference has"),
]


@pytest.mark.parametrize(("name", "lie", "expected"), LIES, ids=lambda value: str(value)[:40])
def test_false_claim_with_valid_digest_is_reported(
    case: Callable[[str], Case], name: str, lie: dict[str, object], expected: str
) -> None:
    result = case(name)
    result.forge(**lie)
    assert expected in result.difference()


@pytest.mark.parametrize("name", ["delta-antidote", "delta-taylor", "adapter-random"])
def test_understated_dose_is_reported(case: Callable[[str], Case], name: str) -> None:
    result = case(name)
    manifest, shapes = manifest_of(result.repaired), read_layout(result.source).tensors
    assert manifest.per is not None
    scored = [ScoredTensor(name, *shapes[name].shape) for name in manifest.changed]
    dose = manifest.dose / 4
    covered = sum(masks.count_covered(each, manifest.per, dose) for each in scored)
    result.forge(dose=dose, effective_dose=covered / sum(each.rows * each.columns for each in scored))
    assert f"than the dose {dose:g} covers" in result.difference()


@pytest.mark.parametrize("name", ["delta-antidote", "delta-taylor", "adapter-random"])
def test_dose_that_was_not_applied_is_reported(case: Callable[[str], Case], name: str) -> None:
    """The weights are the source's, and all hashes and counts of the manifest match them."""
    result = case(name)
    layout = read_layout(result.source)
    for shard in layout.shards:
        shutil.copy(layout.folder / shard, result.repaired / shard)
    manifest = with_own_hashes(result.repaired, manifest_of(result.repaired))
    forge(result.repaired, replace(manifest, changed=dict.fromkeys(manifest.changed, 0)))
    assert f"than the dose {manifest.dose:g} covers" in result.difference()


def test_entry_that_was_not_restored_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    row, column = entry_of(result, MATRIX, changed=True)
    mine = load_file(result.source / read_layout(result.source).weight_map[MATRIX])[MATRIX]
    edit(result.repaired, MATRIX, lambda weight, _: weight[row].__setitem__(column, mine[row, column]))
    manifest = with_own_hashes(result.repaired, manifest_of(result.repaired))
    forge(result.repaired, replace(manifest, changed=manifest.changed | {MATRIX: manifest.changed[MATRIX] - 1}))
    assert "1 fewer entries of one row are the reference's than the dose 0.1 covers" in result.difference()


def test_wrong_count_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    counts = manifest_of(result.repaired).changed
    result.forge(changed=counts | {MATRIX: counts[MATRIX] - 1})
    assert f"{MATRIX} in" in result.difference()
    assert f"the manifest says {counts[MATRIX] - 1:,}" in result.difference()


@pytest.mark.parametrize("field", ["sha256_in", "sha256_out"])
@pytest.mark.parametrize("path", ["config.json", "model-00002-of-00003.safetensors"])
def test_wrong_hash_is_reported(case: Callable[[str], Case], field: str, path: str) -> None:
    result = case("delta-antidote")
    files = [
        replace(each, **{field: "0" * 64}) if each.path == path else each for each in manifest_of(result.repaired).files
    ]
    result.forge(files=files)
    assert path in result.difference()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda files: [each for each in files if each.path != "generation_config.json"], "generation_config.json"),
        (lambda files: [*files, WeightFile("../source/config.json", "0" * 64, "0" * 64)], "../source/config.json"),
        (lambda files: [*files, files[0]], "twice"),
    ],
)
def test_wrong_file_list_is_reported(
    case: Callable[[str], Case], changed: Callable[[list[WeightFile]], list[WeightFile]], expected: str
) -> None:
    result = case("delta-antidote")
    (result.repaired / "generation_config.json").unlink()
    result.forge(files=changed(manifest_of(result.repaired).files))
    assert expected in result.difference()


def _append_key(text: str) -> str:
    return text.replace("{", '{\n  "proven_safe": true,', 1)


@pytest.mark.parametrize(
    "edit_text",
    [
        lambda text: text.replace('"dose": 0.1', '"dose": 0.2'),
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "",
        _append_key,
        lambda text: text.replace('"dose": 0.1,', '"dose": 0.2,\n  "dose": 0.1,', 1),
        lambda text: text.replace('"dose": 0.1', '"dose": NaN'),
        lambda text: text.rstrip("\n"),
    ],
)
def test_edited_manifest_is_reported(case: Callable[[str], Case], edit_text: Callable[[str], str]) -> None:
    result = case("delta-antidote")
    path = result.repaired / MANIFEST_FILE
    edited = edit_text(path.read_text())
    assert edited != path.read_text()
    path.write_text(edited)
    assert result.difference() == EDITED
    assert load_manifest(result.repaired) is None


@pytest.mark.parametrize(
    "name",
    [
        *("pytorch_model.bin", "consolidated.00.pth", "other.safetensors", "model.safetensors", "MODEL.SAFETENSORS"),
        *(
            "model-q4.gguf",
            "model.onnx",
            "rust_model.ot",
            "model.tflite",
            "adapter_config.json",
            "chat_template.jinja2",
            "vocab.json",
        ),
    ],
)
def test_additional_loadable_file_is_reported(case: Callable[[str], Case], name: str) -> None:
    result = case("delta-antidote")
    (result.repaired / name).write_bytes(b"{}")
    if name == "chat_template.jinja2":  # no framework reads it
        assert result.verify().difference is None
    else:
        assert result.difference() == f"{name} is not part of the repair"


def test_pickle_in_the_repository_is_reported(results: dict[str, Case]) -> None:
    assert results["delta-antidote"].difference("pytorch_model.bin") == ("pytorch_model.bin is not part of the repair")


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", "config.json", "tokenizer.json"])
def test_missing_file_is_reported(case: Callable[[str], Case], name: str) -> None:
    result = case("delta-antidote")
    (result.repaired / name).unlink()
    assert result.difference() == f"{name} is missing"


def test_longer_shard_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    with (result.repaired / "model-00001-of-00003.safetensors").open("ab") as file:
        file.write(b"x")
    assert result.difference() == "model-00001-of-00003.safetensors has another size than the source's"


def test_other_metadata_is_reported(case: Callable[[str], Case]) -> None:
    result = case("delta-antidote")
    shard = "model-00001-of-00003.safetensors"
    save_file(load_file(result.repaired / shard), result.repaired / shard, {"format": "pt", "by": "me"})
    forge(result.repaired, with_own_hashes(result.repaired, manifest_of(result.repaired)))
    assert result.difference() == f"{shard} has another header than the source's"


def test_other_source_is_reported(results: dict[str, Case], copy_of: Callable[[Path], Path]) -> None:
    result = results["delta-antidote"]
    newer = copy_of(result.source)
    (newer / "config.json").write_text((newer / "config.json").read_text() + "\n")
    assert "config.json of the source" in replace(result, source=newer).difference()
    trained_on = copy_of(result.source)
    edit(trained_on, MATRIX, lambda weight, _: weight.mul_(1.5))
    shard = read_layout(trained_on).weight_map[MATRIX]
    assert replace(result, source=trained_on).difference() == (
        f"{shard} of the source is not the file that was repaired"
    )


def test_other_reference_is_reported(results: dict[str, Case]) -> None:
    result = results["delta-antidote"]
    assert "of the reference is not the file" in replace(result, reference=result.source).difference()
    assert "the target delta and no reference" in replace(result, reference=None).difference()


def test_repair_towards_another_reference_is_verified_and_names_it(results: dict[str, Case], tmp_path: Path) -> None:
    """The person who repairs chooses the reference. A user sees its name, and can refuse it."""
    source, aligned = results["delta-antidote"].source, results["delta-antidote"].reference
    assert aligned is not None
    other = write_fine_tuned(source, tmp_path / "other")
    named = (
        records.ReportedSource("org/model", "2" * 40, "full"),
        records.ReportedReference("evil/one", "1" * 40, "option"),
    )
    repaired = repair(tmp_path, source, other, "delta", "antidote", 0.1, named)
    verification = Case(repaired, source, other).verify()
    assert verification.difference is None
    assert verification.reference == named[1]
    assert "of the reference is not the file" in Case(repaired, source, aligned).difference()


def test_manifest_with_another_reference_is_reported(results: dict[str, Case], copy_of: Callable[[Path], Path]) -> None:
    """Its hashes are those of that reference, and the weights are not."""
    result = results["delta-antidote"]
    forged = replace(result, repaired=copy_of(result.repaired), reference=result.source)
    hashes = {shard: sha256_file(result.source / shard) for shard in read_layout(result.source).shards}
    forged.forge(reference=records.ReportedReference("evil/one", "1" * 40, "option"), reference_files=hashes)
    verification = forged.verify()
    assert verification.difference is not None
    assert "neither the source's nor the reference's" in verification.difference
    assert verification.reference is not None
    assert verification.reference.id == "evil/one"


def test_missing_manifest_is_a_configuration_error(results: dict[str, Case]) -> None:
    with pytest.raises(ConfigurationError, match="has no antidote/manifest"):
        replace(results["delta-antidote"], repaired=results["delta-antidote"].source).verify()


def test_link_out_of_the_folder_is_refused(case: Callable[[str], Case], tmp_path: Path) -> None:
    result = case("delta-antidote")
    outside = shutil.move(result.repaired / "config.json", tmp_path / "config.json")
    (result.repaired / "config.json").symlink_to(outside)
    with pytest.raises(UnsafeCheckpoint, match=r"config\.json is a link"):
        result.verify()
