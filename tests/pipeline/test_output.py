"""The output folder of a run: when reports and weights appear in it."""

import dataclasses
from pathlib import Path

import pytest

from antidote_ci.pipeline import output
from antidote_ci.pipeline.resolve import ReportedModel
from antidote_ci.policy import Policy, RunConfig
from antidote_ci.records import Report
from tests.report.samples import REPAIRED


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".work-1" / "model" / "antidote").mkdir(parents=True)
    (tmp_path / "out" / ".work-1" / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "out" / ".work-1" / "repair").mkdir()
    return tmp_path / "out" / ".work-1"


def write(report: Report, work: Path) -> Report:
    config = RunConfig("org/model", None, Policy(), work.parent)
    return output.write_output(config, report, ReportedModel(report.source, None, "", []), work, work / "model")


def test_the_weights_appear_with_their_report_and_checksums(work: Path) -> None:
    assert write(REPAIRED, work).exit_code == 7
    names = {path.relative_to(work.parent).as_posix() for path in work.parent.rglob("*") if path.is_file()}
    assert {"report.json", "README.md", "model/README.md", "model/SHA256SUMS", "model/model.safetensors"} <= names
    assert (work.parent / "repair").is_dir()
    assert not list(work.iterdir())


def test_a_report_that_cannot_be_written_leaves_no_weights(work: Path) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        write(dataclasses.replace(REPAIRED, reason="\ud800"), work)
    assert [path.name for path in work.parent.iterdir()] == [work.name]
