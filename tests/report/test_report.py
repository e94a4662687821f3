"""The four files as they come to lie in a folder."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings

from antidote_ci.records import Report, from_json, to_json
from antidote_ci.report import CardLocation, render_card, write_report
from tests.report.samples import EVERY_KIND, REPAIRED, hostile_reports

NAMES = ["report.json", "report.html", "summary.md", "README.md"]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_files_lie_there_and_nothing_else(report: Report, tmp_path: Path) -> None:
    written = write_report(report, "# Mine\n", tmp_path / "new" / "folder")
    assert [path.name for path in written] == NAMES
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(NAMES)
    assert from_json(Report, written[0].read_bytes()) == report


def test_the_card_is_the_one_for_its_place(tmp_path: Path) -> None:
    place = CardLocation("demo/clean", own=True)
    *_, path = write_report(REPAIRED, "# Mine\n", tmp_path, place)
    assert path.read_text() == render_card(REPAIRED, "# Mine\n", place) != render_card(REPAIRED, "# Mine\n")


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_report(REPAIRED, "# Mine\n", tmp_path)]
    assert [path.read_bytes() for path in write_report(REPAIRED, "# Mine\n", tmp_path)] == first


@settings(max_examples=25, deadline=None)
@given(hostile_reports)
def test_hostile_strings_survive_the_json(report: Report) -> None:
    assert from_json(Report, to_json(report)) == report


def test_a_reader_of_the_old_file_goes_on_reading_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with (tmp_path / "report.html").open() as reader:
        write_report(REPAIRED, "", tmp_path)
        assert reader.read() == "old"
    assert "Repaired" in (tmp_path / "report.html").read_text()


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        write_report(dataclasses.replace(REPAIRED, reason="\ud800"), "", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_leaves_no_scraps(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(REPAIRED, "", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_bytes_of_the_card_that_are_no_text_survive(tmp_path: Path) -> None:
    source_card = b"---\r\nlicense: mit\r\n---\r\n# caf\xe9\r\n"
    write_report(REPAIRED, source_card.decode("utf-8", "surrogateescape"), tmp_path)
    assert b"---\r\n# caf\xe9\r\n" in (tmp_path / "README.md").read_bytes()
