"""The strokes of which the report's figures are made, as inline SVG. Pure.

Places along x are percentages and places along y are pixels, so one drawing fits a phone and a desk without shrinking
its text. Colours come from the page's CSS; marks and dashes differ too, so that no colour is needed to read them.
"""

from collections.abc import Sequence
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from antidote_ci.report.text import flatten

Shape = Literal["circle", "square", "triangle", "diamond", "wedge", "cross"]


def new_chart(kind: str, height: int, title: str, description: str, identity: str = "") -> Element:
    """An empty drawing as wide as the page, described for who cannot see it; `identity` tells two of a kind apart."""
    name = identity or kind
    svg = Element(
        "svg",
        {
            "class": f"chart {kind}",
            "role": "img",
            "width": "100%",
            "height": str(height),
            "aria-labelledby": f"{name}-title {name}-description",
        },
    )
    add_element(svg, "title", flatten(title), id=f"{name}-title")
    add_element(svg, "desc", description, id=f"{name}-description")
    return svg


def draw_mark(parent: Element, shape: Shape, x: str, y: float) -> None:
    """A mark in pixels around a place in percent: a nested drawing without a frame."""
    at = add_element(parent, "svg", class_="mark", x=x, y=f"{y:.1f}", overflow="visible")
    if shape == "circle":
        add_element(at, "circle", r=5.5)
    elif shape == "square":
        add_element(at, "rect", x=-5, y=-5, width=10, height=10)
    elif shape == "triangle":
        add_element(at, "path", d="M0 -6 L6 5 L-6 5 Z")
    elif shape == "wedge":
        add_element(at, "path", d="M0 6 L6 -5 L-6 -5 Z")
    elif shape == "cross":
        add_element(at, "path", d="M-6 -3 L-3 -6 L0 -3 L3 -6 L6 -3 L3 0 L6 3 L3 6 L0 3 L-3 6 L-6 3 L-3 0 Z")
    else:
        add_element(at, "path", d="M0 -7 L7 0 L0 7 L-7 0 Z")


def draw_swatch(series: str, shape: Shape, *, lined: bool = True) -> str:
    """The mark of a series for a legend, upon its line or alone."""
    svg = Element("svg", {"class": f"swatch series {series}", "width": "28", "height": "14", "aria-hidden": "true"})
    if lined:
        draw_line(svg, "curve", "0", 7, "28", 7)
    draw_mark(svg, shape, "14", 7)
    return tostring(svg, encoding="unicode")


def draw_line(parent: Element, name: str, x1: str, y1: float, x2: str, y2: float) -> None:
    """A straight line."""
    add_element(parent, "line", class_=name, x1=x1, y1=f"{y1:.1f}", x2=x2, y2=f"{y2:.1f}")


def draw_curve(parent: Element, frame: tuple[str, str, float], points: Sequence[tuple[float, float]]) -> None:
    """A line through many points: x from 0 to 1 across the frame (left and width in percent, height in pixels).

    A nested drawing stretches it to any width; the stroke keeps its own.
    """
    left, width, height = frame
    inner = add_element(parent, "svg", x=left, y=0, width=width, height=f"{height:g}", preserveAspectRatio="none")
    inner.set("viewBox", f"0 0 1000 {height:g}")
    places = " ".join(f"{1000 * x:.1f},{y:.1f}" for x, y in points)
    add_element(inner, "polyline", class_="curve", points=places, fill="none", vector_effect="non-scaling-stroke")


def draw_text(parent: Element, name: str, x: str, y: float, words: str, anchor: str) -> Element:
    """Words at a place."""
    return add_element(parent, "text", flatten(words), class_=name, x=x, y=f"{y:.1f}", text_anchor=anchor)


def add_element(parent: Element, tag: str, words: str = "", **attributes: str | float) -> Element:
    """A child; underscores in attributes stand for hyphens, and one at the end for nothing."""
    names = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    child = SubElement(parent, tag, names)
    child.text = words or None
    return child


def text_anchor(share: float) -> str:
    """Text near an edge grows away from it."""
    return "start" if share < 0.12 else "end" if share > 0.88 else "middle"
