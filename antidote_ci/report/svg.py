"""SVG primitives for the charts of the report page.

x coordinates are percentages and y coordinates are pixels, so that a chart fits any page width without scaling its
text. Colours come from the page's CSS. Marks and dashes differ as well, so the charts are readable without colour.
"""

from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from antidote_ci.report.text import flatten

Shape = Literal["circle", "square", "triangle", "diamond", "wedge", "cross"]

PATHS: dict[Shape, str] = {
    "circle": "M-5.5 0 A5.5 5.5 0 0 0 5.5 0 A5.5 5.5 0 0 0 -5.5 0 Z",
    "square": "M-5 -5 H5 V5 H-5 Z",
    "triangle": "M0 -6 L6 5 H-6 Z",
    "diamond": "M0 -7 L7 0 L0 7 L-7 0 Z",
    "wedge": "M0 6 L6 -5 H-6 Z",
    "cross": "M-6 -3 L-3 -6 L0 -3 L3 -6 L6 -3 L3 0 L6 3 L3 6 L0 3 L-3 6 L-6 3 L-3 0 Z",
}


def new_chart(kind: str, height: int, title: str) -> Element:
    """Return an empty chart of the page's width. Screen readers read its title; the table after it has the values."""
    size = {"width": "100%", "height": str(height)}
    return Element("svg", {"class": f"chart {kind}", "role": "img", **size, "aria-label": flatten(title)})


def draw_mark(parent: Element, shape: Shape, x: str, y: float, tooltip: str = "") -> None:
    """Draw a mark; browsers show `tooltip` under the pointer."""
    mark = add_element(parent, "svg", class_="mark", x=x, y=f"{y:.1f}", overflow="visible")
    path = add_element(mark, "path", d=PATHS[shape])
    if tooltip:
        add_element(path, "title", flatten(tooltip))


def draw_swatch(series: str, shape: Shape, *, line: bool = True) -> str:
    """Draw the legend's sample of a series: its mark, on its line unless `line` is false."""
    svg = Element("svg", {"class": f"swatch series {series}", "width": "28", "height": "14", "aria-hidden": "true"})
    if line:
        draw_line(svg, "curve", "0", 7, "28", 7)
    draw_mark(svg, shape, "14", 7)
    return tostring(svg, encoding="unicode")


def draw_line(parent: Element, css_class: str, x1: str, y1: float, x2: str, y2: float) -> None:
    """Draw a straight line."""
    add_element(parent, "line", class_=css_class, x1=x1, y1=f"{y1:.1f}", x2=x2, y2=f"{y2:.1f}")


def draw_text(parent: Element, css_class: str, x: str, y: float, text: str, anchor: str) -> Element:
    """Write one line of text."""
    return add_element(parent, "text", flatten(text), class_=css_class, x=x, y=f"{y:.1f}", text_anchor=anchor)


def add_element(parent: Element, tag: str, text: str = "", **attributes: str | float) -> Element:
    """Add a child element. `text_anchor` becomes `text-anchor`, and `class_` becomes `class`."""
    names = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    child = SubElement(parent, tag, names)
    child.text = text or None
    return child


def text_anchor(position: float) -> str:
    """Return the anchor that keeps text inside the chart; `position` runs from 0 (left) to 1 (right)."""
    return "start" if position < 0.12 else "end" if position > 0.88 else "middle"
