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


def render_report_template(template: str, **values: object) -> str:
    """The template of that name filled in.

    Only values marked as safe (`markupsafe.Markup`) keep their markup: our figures in HTML, our commands and links in
    Markdown.
    Raises jinja2.UndefinedError for a value that the template wants and does not get.
    """
    return _jinja_environment(template.endswith(".html.jinja")).get_template(template).render(values)


@cache
def _jinja_environment(html: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(find_template_folder()),
        autoescape=html,  # noqa: S701 - Markdown is escaped by `finalize`
        finalize=_escape_html if html else _escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": text.format_number, "percent": text.format_percent}
    return environment


def find_template_folder() -> Path:
    """A wheel carries the templates inside the package; a checkout has them beside it."""
    return next(path for path in (PACKAGE / "templates", PACKAGE.parent / "templates") if path.is_dir())


def _escape_html(value: object) -> str:
    return _join_figures(value, text.flatten)


def _escape_markdown(value: object) -> str:
    return _join_figures(value, text.escape_markdown)


def _join_figures(value: object, escaped: Callable[[object], str]) -> str:
    """No line break between a figure and its sign, or between two bounds."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else _FIGURE_GAP.sub("\u00a0", escaped(value))
