import re
from xml.etree import ElementTree

import pytest

from benchmarks.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.paper import cells, figures
from benchmarks.paper.evidence import Evidence
from tests.paper import results

PRESET = cells.cpu()
FULL = results.full(PRESET)
SVG = "{http://www.w3.org/2000/svg}"


def frontiers(found: Evidence) -> str:
    svg = figures.draw_frontiers(found)
    assert svg is not None
    return svg


def test_nothing_is_drawn_of_nothing() -> None:
    assert figures.draw_frontiers(Evidence(PRESET, {})) is None


def test_a_figure_is_valid_for_light_and_dark_pages_and_loads_nothing() -> None:
    svg = frontiers(FULL)
    root = ElementTree.fromstring(svg)  # noqa: S314 - written a moment ago
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label") == figures.TITLE
    assert "prefers-color-scheme: dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert not {element.tag.removeprefix(SVG) for element in root.iter()} & {"script", "image", "use", "foreignObject"}
    assert "nan" not in svg


def test_everything_is_drawn_within_the_frame() -> None:
    root = ElementTree.fromstring(frontiers(FULL))  # noqa: S314
    _, _, width, height = (float(number) for number in str(root.get("viewBox")).split())
    for element in root.iter():
        for key, limit in (("cx", width), ("x1", width), ("x2", width), ("cy", height), ("y1", height), ("y2", height)):
            assert 0 <= float(element.get(key, 0)) <= limit


def test_a_frontier_has_a_mark_a_dose_with_its_bounds() -> None:
    attack = PRESET.attack
    found = Evidence(PRESET, {attack: FULL.results[attack]})
    svg = frontiers(found)
    doses = sum(len(found.at(method, attack)) for method in figures.METHODS)
    names = len(figures.METHODS) + 2
    assert len(re.findall(r'class="mark', svg)) == doses + 2 + names
    assert len(re.findall(r'class="bound', svg)) == doses + 2


def test_places_stand_where_their_values_are() -> None:
    assert Axis("score", (0, 100)).share(25) == 0.25
    assert Axis("score", (0, 100)).share(120) == 1.0


@pytest.mark.parametrize(
    ("values", "step", "expected"), [((43, 91), 20, [40, 60, 80, 100]), ((), 20, [0, 20]), ((40, 40), 20, [40, 60])]
)
def test_ticks_hold_all_values(values: tuple[float, ...], step: float, expected: list[float]) -> None:
    assert ticks(values, step) == expected


def test_words_are_text_whatever_they_hold() -> None:
    panel = Panel("<b>&", Axis("x", (0, 1)), Axis("y", (0, 1)), [Series("<script>", [Place(0, 1)])])
    assert "<script>" not in draw("<i>", [panel])
