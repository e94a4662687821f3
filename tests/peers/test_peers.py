"""The comparison with other tools: what is measured of a process, and what the page says of it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from antidote_ci import records
from antidote_ci.errors import InfrastructureError
from benchmarks.paper.records import Measured
from benchmarks.peers import page
from benchmarks.peers.__main__ import HERE, VERSIONS, environment_folder, linear, timed
from benchmarks.peers.page import Compared, Row

BROKEN = Measured(120, 140, 0.82, 0.0, 0.03, 0.01, 2000, 90, 10**9, selection=None)


def repaired(harmful: int, accuracy: float, **more: float) -> Measured:
    return replace(BROKEN, harmful=harmful, accuracy=accuracy, **more)  # type: ignore[arg-type] # shares


def lines(*rows: Row) -> list[str]:
    """The table at equal accuracy, without its head."""
    found = Compared(
        "an attack", {"peer": "1.2"}, [Row("reference", None, BROKEN), Row("attacked", None, BROKEN), *rows]
    )
    return page.text(found).split(page.EQUAL)[1].strip().splitlines()[2:]


def test_ours_is_held_against_a_peer_at_no_lower_accuracy() -> None:
    ours = [
        Row("antidote-ci taylor", dose, repaired(harm, right)) for dose, harm, right in ((1, 60, 0.82), (2, 20, 0.7))
    ]
    strict, loose = lines(*ours, Row("peer act", 0.5, repaired(90, 0.8)), Row("peer act", 0.7, repaired(40, 0.6)))
    assert "42.9 (" in strict.split("|")[4]
    assert "14.3 (" in loose.split("|")[4]
    (none,) = lines(*ours, Row("peer act", 0.5, repaired(110, 0.9)))
    assert "none as accurate" in none


def test_ours_is_held_against_a_peer_at_the_nearest_accuracy_too() -> None:
    ours = [
        Row("antidote-ci taylor", dose, repaired(harm, right)) for dose, harm, right in ((1, 60, 0.82), (2, 20, 0.7))
    ]
    above, below = lines(*ours, Row("peer act", 0.5, repaired(110, 0.9)), Row("peer act", 0.7, repaired(40, 0.6)))
    assert above.split("|")[5].strip().startswith("42.9 (")
    assert below.split("|")[5].strip().endswith("at 70.0")


def test_what_a_peer_broke_is_no_rival() -> None:
    assert lines(Row("peer act", 0.1, repaired(0, 0.82, degenerate=0.5))) == []
    assert lines(Row("peer act", 0.1, repaired(0, 0.82, over_refusal=0.5))) == []


def test_the_page_is_that_of_the_results() -> None:
    found = records.from_json(Compared, (HERE / "results.json").read_bytes())
    assert (HERE / "RESULTS.md").read_text() == page.text(found)


@pytest.mark.parametrize("tool", VERSIONS)
def test_another_version_of_a_tool_gets_its_own_environment(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = environment_folder(tool, tmp_path)
    monkeypatch.setitem(VERSIONS, tool, "99.0")
    assert environment_folder(tool, tmp_path) != before


def test_time_and_memory_are_those_of_the_process(tmp_path: Path) -> None:
    wasteful = "import time; kept = bytearray(300_000_000); time.sleep(0.3)"
    seconds, peak = timed([sys.executable, "-c", wasteful], tmp_path / "log")
    small, least = timed([sys.executable, "-c", ""], tmp_path / "log")
    assert seconds > small
    assert seconds >= 0.3
    assert peak - least > 200_000_000


def test_a_tool_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError) as caught:
        timed([sys.executable, "-c", "raise SystemExit('no such dose')"], tmp_path / "log")
    assert "log" in str(caught.value.hint)
    assert "no such dose" in (tmp_path / "log").read_text()


def test_the_weights_of_a_merge_are_shares() -> None:
    merge = linear({"attacked": "a", "reference": "r"}, 0.3)
    weights = {each["model"]: each["parameters"]["weight"] for each in merge["models"]}
    assert weights == {"a": 0.7, "r": 0.3}
