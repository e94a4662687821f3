import re
from xml.etree import ElementTree

import pytest

from benchmarks.paper import cells, figures
from benchmarks.paper.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.paper.evidence import Evidence, by_rate
from tests.paper import results

PRESET = cells.cpu()
FULL = results.full(PRESET)
SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str) -> int:
    return len(re.findall(r'class="mark', svg))


def test_there_are_four_figures_and_none_of_nothing() -> None:
    assert set(figures.drawn(FULL)) == set(figures.TITLES)
    assert figures.drawn(Evidence(PRESET, {})) == {}


@pytest.mark.parametrize("name", figures.TITLES)
def test_a_figure_is_valid_for_light_and_dark_pages_and_loads_nothing(name: str) -> None:
    svg = figures.drawn(FULL)[name]
    root = ElementTree.fromstring(svg)  # noqa: S314 - written a moment ago
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label") == figures.TITLES[name]
    assert "prefers-color-scheme: dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert not {element.tag.removeprefix(SVG) for element in root.iter()} & {"script", "image", "use", "foreignObject"}
    assert "nan" not in svg


@pytest.mark.parametrize("name", figures.TITLES)
def test_everything_is_drawn_within_the_frame(name: str) -> None:
    root = ElementTree.fromstring(figures.drawn(FULL)[name])  # noqa: S314
    _, _, width, height = (float(number) for number in str(root.get("viewBox")).split())
    for element in root.iter():
        for key, limit in (("cx", width), ("x1", width), ("x2", width), ("cy", height), ("y1", height), ("y2", height)):
            assert 0 <= float(element.get(key, 0)) <= limit


def test_a_frontier_has_a_mark_a_dose_with_its_bounds() -> None:
    attack = PRESET.attack
    found = Evidence(PRESET, {attack: FULL.results[attack]})
    svg = figures.drawn(found)["frontiers"]
    doses = sum(len(found.at(method, attack)) for method in figures.METHODS)
    names = len(figures.METHODS) + 2
    assert marks(svg) == doses + 2 + names
    assert len(re.findall(r'class="bound', svg)) == doses + 2


def test_what_was_not_run_is_left_out() -> None:
    some = {attack: each for attack, each in FULL.results.items() if attack.defence == "lisa"}
    svg = figures.drawn(Evidence(PRESET, some))["rates"]
    assert "Lisa" in svg
    assert "Vaccine" not in svg
    assert marks(svg) == len(PRESET.rates) + 1


def test_a_failed_cell_leaves_a_gap() -> None:
    lost = by_rate(FULL)[-1]
    found = Evidence(PRESET, dict(FULL.results) | {lost: results.failed(FULL.results[lost].cell)})
    assert marks(figures.drawn(FULL)["rates"]) - marks(figures.drawn(found)["rates"]) == 3


def test_places_stand_where_their_values_are() -> None:
    axis = Axis("rate", (1e-4, 1e-3, 1e-2), logarithmic=True)
    assert axis.share(1e-3) == pytest.approx(0.5)
    assert Axis("score", (0, 100)).share(25) == 0.25
    assert Axis("score", (0, 100)).share(120) == 1.0
    assert Axis("epochs", (1,), logarithmic=True).share(1) == 0.5


@pytest.mark.parametrize(
    ("values", "step", "expected"), [((43, 91), 20, [40, 60, 80, 100]), ((), 20, [0, 20]), ((40, 40), 20, [40, 60])]
)
def test_ticks_hold_all_values(values: tuple[float, ...], step: float, expected: list[float]) -> None:
    assert ticks(values, step) == expected


def test_words_are_text_whatever_they_hold() -> None:
    panel = Panel("<b>&", Axis("x", (0, 1)), Axis("y", (0, 1)), [Series("<script>", [Place(0, 1)])])
    assert "<script>" not in draw("<i>", [panel])
