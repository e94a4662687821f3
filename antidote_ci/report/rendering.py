"""Render the Jinja templates. Every printed value is escaped, whether or not the template asks for it."""

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci import formatting
from antidote_ci.report import text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

PACKAGE = Path(__file__).parent.parent

# Spaces between a number and its sign, and between two bounds, at which a line must not break.
_FIGURE_GAP = re.compile(r" (?=%)|(?<=[<✓✗]) |(?<=\d,) (?=[\d.]+\\?\])")


def render_report_template(template: str, **values: object) -> str:
    """Render a template of the templates folder.

    Only values marked as safe (`markupsafe.Markup`) keep their markup: charts in HTML, commands and links in Markdown.
    Raises jinja2.UndefinedError when a value of the template is missing.
    """
    return _jinja_environment(template.endswith(".html.jinja")).get_template(template).render(values)


@cache
def _jinja_environment(html: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    escape: Callable[..., str] = text.flatten if html else text.escape_markdown
    environment = Environment(
        loader=FileSystemLoader(find_template_folder()),
        autoescape=html,  # noqa: S701 - Markdown is escaped by `finalize`
        finalize=partial(_escape_value, escape),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": text.format_number,
        "percent": formatting.format_percent,
        "interval": formatting.format_interval,
        "short": text.short_sha,
        "long": partial(_escape_long, escape, html),
    }
    return environment


def find_template_folder() -> Path:
    """Return the templates folder: inside the package in a wheel, next to it in a checkout."""
    return next(path for path in (PACKAGE / "templates", PACKAGE.parent / "templates") if path.is_dir())


def mark_chart(chart: str) -> "Markup":
    """Mark a chart as safe: ElementTree has escaped the labels."""
    from markupsafe import Markup

    return Markup(chart)  # noqa: S704


def _escape_value(escape: Callable[..., str], value: object) -> str:
    from markupsafe import Markup

    return value if isinstance(value, Markup) else _FIGURE_GAP.sub("\u00a0", escape(value))


def _escape_long(escape: Callable[..., str], html: bool, value: object) -> "Markup":
    """Escape a text that is composed of several: it may be longer than other values."""
    import markupsafe

    shown = _FIGURE_GAP.sub("\u00a0", escape(value, text.MAX_COMPOSED_LENGTH))
    return markupsafe.escape(shown) if html else markupsafe.Markup(shown)  # noqa: S704 - escaped Markdown
