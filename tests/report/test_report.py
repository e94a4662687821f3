"""The files that a run writes, and SHA256SUMS."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings

from antidote_ci.records import Report, from_json, to_json
from antidote_ci.report import CardLocation, compute_checksums, render_card, write_report
from tests.report.samples import EVERY_KIND, REPAIRED, hostile_reports

REPORT_FILES = ["report.json", "report.html", "summary.md", "badge.json", "README.md"]
FILES = [
    "model.safetensors",
    "config.json",
    "antidote/manifest.json",
    "antidote/report.html",
    "-n",
    "a b",
    "é\\n\\",
    "new\nline",
]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_write_report_writes_its_files(report: Report, tmp_path: Path) -> None:
    paths = write_report(report, "# Mine\n", tmp_path / "new" / "folder")
    assert [path.name for path in paths] == REPORT_FILES
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(REPORT_FILES)
    assert from_json(Report, paths[0].read_bytes()) == report


def test_write_report_writes_the_card_of_the_location(tmp_path: Path) -> None:
    location = CardLocation("demo/clean", own=True)
    *_, path = write_report(REPAIRED, "# Mine\n", tmp_path, location)
    assert path.read_text() == render_card(REPAIRED, "# Mine\n", location) != render_card(REPAIRED, "# Mine\n")


def test_write_report_is_deterministic(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_report(REPAIRED, "# Mine\n", tmp_path)]
    assert [path.read_bytes() for path in write_report(REPAIRED, "# Mine\n", tmp_path)] == first


@settings(max_examples=25, deadline=None)
@given(hostile_reports)
def test_json_round_trip_keeps_hostile_strings(report: Report) -> None:
    assert from_json(Report, to_json(report)) == report


def test_a_report_without_the_effects_of_the_template_is_read() -> None:
    written = json.loads(to_json(REPAIRED))
    del written["evaluations"]["before"]["plan"]["template"]
    plan = from_json(Report, json.dumps(written)).evaluations.before.plan
    assert plan == dataclasses.replace(REPAIRED.evaluations.before.plan, template=None)


def test_files_are_replaced_atomically(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with (tmp_path / "report.html").open() as reader:
        write_report(REPAIRED, "", tmp_path)
        assert reader.read() == "old"
    assert "Repaired" in (tmp_path / "report.html").read_text()


def test_a_report_that_cannot_be_encoded_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        write_report(dataclasses.replace(REPAIRED, reason="\ud800"), "", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(REPAIRED, "", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_bytes_of_the_card_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    source_card = b"---\r\nlicense: mit\r\n---\r\n# caf\xe9\r\n"
    write_report(REPAIRED, source_card.decode("utf-8", "surrogateescape"), tmp_path)
    assert b"---\r\n# caf\xe9\r\n" in (tmp_path / "README.md").read_bytes()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    for index, name in enumerate([*FILES, "README.md", "nested/README.md"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00" * index)
    (tmp_path / "SHA256SUMS").write_text(compute_checksums(tmp_path))
    return tmp_path


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_checksums_list_every_file_except_the_card_and_the_list(model_folder: Path) -> None:
    lines = (model_folder / "SHA256SUMS").read_text().splitlines()
    names = [name.replace("\\", "\\\\").replace("\n", "\\n") for name in sorted([*FILES, "nested/README.md"])]
    assert [line.partition("  ")[2] for line in lines] == names
    result = check(model_folder)
    assert (result.returncode, result.stdout.count(": OK")) == (0, len(FILES) + 1)


@pytest.mark.parametrize("name", FILES)
def test_sha256sum_detects_a_changed_file(model_folder: Path, name: str) -> None:
    with (model_folder / name).open("ab") as file:
        file.write(b"x")
    assert check(model_folder).returncode == 1


def test_checksums_do_not_depend_on_the_card(model_folder: Path) -> None:
    first = (model_folder / "SHA256SUMS").read_text()
    (model_folder / "README.md").write_text("edited")
    assert compute_checksums(model_folder) == first
    assert check(model_folder).returncode == 0
