"""The command `verify`: exit codes and output, for local results and results on a loopback Hub."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from antidote_ci import records
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.pipeline.verify import describe_verification, read_verdict
from antidote_ci.records import ReportedReference, ReportedSource, Verification
from loopback_hub import LoopbackHub
from tests import tiny
from tests.command_line import FinishedCommand, run_command
from tests.repaired import forge, manifest_of, repair, write_fine_tuned

MODEL, REFERENCE, ELSEWHERE = "stranger/tiny-finetune", "stranger/tiny-reference", "another/copy"


def verify(*arguments: str, **environment: str) -> FinishedCommand:
    return run_command(
        "verify", *arguments, **{"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "0"} | environment
    )


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A reference and a fine-tune of it, in three shards each."""
    work = tmp_path_factory.mktemp("verify-pair")
    reference = tiny.write_tiny_llama(work / "reference", hidden=32, shards=3)
    return reference, write_fine_tuned(reference, work / "source")


@pytest.fixture(scope="session")
def made(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repaired checkpoint of local folders, as `run` leaves it in `model/`."""
    reference, source = pair
    out = tmp_path_factory.mktemp("out")
    repair(out / "work", source, reference, "delta", "antidote", 0.1).rename(out / "model")
    return out


def test_an_unchanged_result_is_verified(made: Path, pair: tuple[Path, Path]) -> None:
    done = verify(str(made), "--json")
    assert done.returncode == 0, done.stderr
    found = records.from_json(Verification, done.stdout)
    assert found.difference is None
    assert (found.id, found.revision) == (str(made), None)
    assert found.source == ReportedSource(str(pair[1]), None, "full")
    assert found.reference == ReportedReference(str(pair[0]), None, "option")
    for said in (str(pair[0]), str(pair[1]), "antidote on delta, dose 0.1 of each row", "20 tensors", "not shown"):
        assert said in done.stderr
    assert f"{found.changed_weights:,} of {found.scored_weights:,} scored weights (12.2 %)" in done.stderr


def test_weights_that_did_not_pass_are_verified_and_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "model", tmp_path / "out" / "model-not-passing")
    report = tmp_path / "out" / "model-not-passing" / "antidote" / "report.json"
    report.write_text('{"verdict": "fail"}')
    done = verify(str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    assert "its verdict is fail: these weights did NOT pass the policy" in done.stderr
    assert records.from_json(Verification, done.stdout).verdict == "fail"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"verdict": "repaired"}', "repaired"),
        ('{"verdict": "\\u001b[2J"}', None),
        ('{"verdict": ["fail"]}', None),
        ("[]", None),
        (None, None),
    ],
)
def test_the_verdict_of_a_report_is_read(tmp_path: Path, text: str | None, verdict: str | None) -> None:
    (tmp_path / "antidote").mkdir()
    if text is not None:
        (tmp_path / "antidote" / "report.json").write_text(text)
    assert read_verdict(tmp_path) == verdict
    lines = describe_verification(Verification(None, verdict=verdict))
    assert [line for line in lines if line.startswith("report")] == (
        ["report     its verdict is repaired"] if verdict else []
    )


def test_a_flipped_bit_is_found(made: Path, copy_of: Callable[[Path], Path]) -> None:
    repaired = copy_of(made / "model")
    tensor = "model.layers.1.self_attn.q_proj.weight"
    layout = read_layout(repaired)
    path = repaired / layout.weight_map[tensor]
    data = bytearray(path.read_bytes())
    header = layout.headers[path.name]
    data[header.data_start + header.tensors[tensor].start] ^= 1
    path.write_bytes(data)
    done = verify(str(repaired))
    assert done.returncode == 1, done.stderr
    assert f"differs    {tensor} in {path.name}" in done.stderr
    assert "not shown" not in done.stderr
    assert done.stdout == ""


def test_an_edited_manifest_is_found(made: Path, copy_of: Callable[[Path], Path]) -> None:
    repaired = copy_of(made / "model")
    path = repaired / "antidote" / "manifest.json"
    path.write_text(path.read_text().replace('"dose": 0.1', '"dose": 0.3'))
    done = verify(str(repaired), "--json")
    assert done.returncode == 1, done.stderr
    assert "the manifest was edited" in json.loads(done.stdout)["difference"]


def test_source_and_reference_can_be_given(
    made: Path, pair: tuple[Path, Path], copy_of: Callable[[Path], Path]
) -> None:
    repaired = copy_of(made / "model")
    nowhere = "/nowhere/source"
    forge(repaired, replace(manifest_of(repaired), source=ReportedSource(nowhere, None, "full")))
    done = verify(str(repaired))
    assert done.returncode == 2, done.stderr
    assert nowhere in done.stderr
    assert "--source" in done.stderr
    done = verify(str(repaired), f"--source={pair[1]}", f"--reference={pair[0]}")
    assert done.returncode == 0, done.stderr
    done = verify(str(repaired), f"--source={pair[0]}")
    assert done.returncode == 1, done.stderr
    assert "of the source is not the file that was repaired" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{source}"], "has no antidote/manifest.json"),
        (["./nowhere"], "there is no folder"),
        (["{out}", "--revision=main"], "drop --revision"),
    ],
)
def test_a_folder_that_is_not_a_result_is_refused(
    made: Path, pair: tuple[Path, Path], arguments: list[str], said: str
) -> None:
    done = verify(*(each.format(source=pair[1], out=made) for each in arguments))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reference_that_had_no_part(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    adapter = tiny.write_tiny_adapter(tmp_path / "adapter", pair[0])
    repaired = repair(tmp_path, adapter, None, "adapter", "antidote", 0.05, base=pair[0])
    done = verify(str(repaired), f"--reference={pair[0]}")
    assert done.returncode == 2, done.stderr
    assert "drop --reference" in done.stderr


@pytest.fixture
def hub(pair: tuple[Path, Path], tmp_path: Path) -> LoopbackHub:
    """The reference, and the fine-tune with its repair as the commit after it."""
    running = LoopbackHub(tmp_path / "hub")
    reference, source = pair
    named = (
        ReportedSource(MODEL, running.add(MODEL, source), "full"),
        ReportedReference(REFERENCE, running.add(REFERENCE, reference), "model card"),
    )
    repaired = repair(tmp_path / "work", source, reference, "delta", "antidote", 0.1, sources=named)
    running.add(MODEL, repaired)
    (repaired / "pytorch_model.bin").write_bytes(b"never opened")
    running.add(ELSEWHERE, repaired)
    (repaired / "pytorch_model.bin").unlink()
    return running


@pytest.mark.slow
def test_a_result_on_the_hub_is_verified(hub: LoopbackHub, pair: tuple[Path, Path], tmp_path: Path) -> None:
    environment = {"HF_HOME": str(tmp_path / "huggingface")}
    with hub:
        good = verify(MODEL, "--json", **hub.environment, **environment)
        overridden = verify(MODEL, f"--source={pair[1]}", **hub.environment, **environment)
        other = verify(ELSEWHERE, **hub.environment, **environment)
    assert good.returncode == 0, good.stderr
    found = records.from_json(Verification, good.stdout)
    assert found.source is not None
    assert found.reference is not None
    assert (found.source.id, found.reference.id) == (MODEL, REFERENCE)
    assert len({found.revision, found.source.revision, found.reference.revision}) == 3
    assert f"{MODEL} at {found.source.revision}" in good.stderr
    assert overridden.returncode == 0, overridden.stderr
    assert other.returncode == 1
    assert "differs    pytorch_model.bin is not part of the repair" in other.stderr


def test_a_repository_without_a_manifest_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    with hub:
        done = verify(REFERENCE, **hub.environment, HF_HOME=str(tmp_path / "huggingface"))
    assert done.returncode == 2
    assert re.search(f"error: {REFERENCE} at [0-9a-f]{{40}} has no antidote/manifest.json\n", done.stderr)


def test_a_manifest_from_the_hub_cannot_name_a_local_folder(
    hub: LoopbackHub, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    def forged(name: str, source: ReportedSource) -> None:
        folder = tmp_path / name.replace("/", "-")
        repaired = repair(folder, pair[1], pair[0], "delta", "antidote", 0.1)
        forge(repaired, replace(manifest_of(repaired), source=source))
        hub.add(name, repaired)

    forged("forger/local", ReportedSource(str(pair[1]), None, "full"))
    forged("forger/moving", ReportedSource(MODEL, "main", "full"))
    environment = {"HF_HOME": str(tmp_path / "huggingface")}
    with hub:
        local = verify("forger/local", **hub.environment, **environment)
        moving = verify("forger/moving", **hub.environment, **environment)
    assert local.returncode == 2, local.stderr
    assert "--source" in local.stderr
    assert moving.returncode == 1, moving.stderr
    assert f"differs    the manifest names no commit of {MODEL}" in moving.stderr
