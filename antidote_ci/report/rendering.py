"""Templates to text. Every value that a template prints is escaped, whether the template asks for it or not."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.report import text

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = Path(__file__).parent.parent

_FIGURE_GAP = re.compile(r" (?=%)|(?<=[<✓✗]) |(?<=\d,) (?=[\d.]+\\?\])")


def render(template: str, **values: object) -> str:
    """The template of that name filled in.

    Only values marked as safe (`markupsafe.Markup`) keep their markup: our figures in HTML, our commands and links in
    Markdown.
    Raises jinja2.UndefinedError for a value that the template wants and does not get.
    """
    return _environment(template.endswith(".html.jinja")).get_template(template).render(values)


@cache
def _environment(html: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template_folder()),
        autoescape=html,  # noqa: S701 - Markdown is escaped by `finalize`
        finalize=_for_page if html else _for_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": text.number, "percent": text.percent}
    return environment


def template_folder() -> Path:
    """A wheel carries the templates inside the package; a checkout has them beside it."""
    return next(path for path in (PACKAGE / "templates", PACKAGE.parent / "templates") if path.is_dir())


def _for_page(value: object) -> str:
    return _unbroken(value, text.plain)


def _for_markdown(value: object) -> str:
    return _unbroken(value, text.markdown)


def _unbroken(value: object, escaped: Callable[[object], str]) -> str:
    """No line break between a figure and its sign, or between two bounds."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else _FIGURE_GAP.sub("\u00a0", escaped(value))
