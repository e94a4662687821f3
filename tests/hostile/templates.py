"""Chat templates that reach for Python, or exhaust what renders them.

What shows in their text is refused for it. The others may misbehave, in the child alone.
"""

from pathlib import Path

from tests.hostile.fixture import TEMPLATE, TOKENIZER_CONFIG, Change, Fixture, setting

RECURSION = "CWE-674"
SUBCLASSES = (
    "{% for kind in ().__class__.__base__.__subclasses__() %}{% if 'warning' in kind.__name__ %}"
    "{{ kind()._module.__builtins__['__import__']('os').getpid() }}{% endif %}{% endfor %}"
)
GLOBALS = "{{ cycler.__init__.__globals__.os.getpid() }}"


def written(template: str) -> Change:
    """Write the template to chat_template.jinja."""
    return lambda folder: (folder / TEMPLATE).write_text(template)


def _in_the_settings(template: object) -> Change:
    """Write the template to tokenizer_config.json only."""

    def build(folder: Path) -> None:
        (folder / TEMPLATE).unlink()
        setting(TOKENIZER_CONFIG, chat_template=template)(folder)

    return build


def _beside(folder: Path) -> None:
    """Keep the default template valid and add a hostile one for conversations with documents."""
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(GLOBALS)


FIXTURES = (
    Fixture(
        "subclasses",
        "CVE-2024-34359",
        "a template in the tokenizer's settings that reaches os through all classes, as in llama-cpp-python",
        _in_the_settings(SUBCLASSES),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "globals",
        "CVE-2026-5760",
        "a template that reaches the globals of one of Jinja's own functions, as in SGLang",
        written(GLOBALS),
        TEMPLATE,
    ),
    Fixture(
        "silent-reach",
        "https://kb.cert.org/vuls/id/915947",
        "the same inside a test for existence, which a sandbox does not report",
        written("{% if cycler.__init__.__globals__ is defined %}yes{% endif %}{{ messages[0]['content'] }}"),
        TEMPLATE,
    ),
    Fixture(
        "format",
        "CVE-2016-10745",
        "str.format reaches attributes that the template itself may not",
        written("{{ '{0.__class__.__mro__}'.format(messages) }}"),
        TEMPLATE,
    ),
    Fixture(
        "format-map",
        "CVE-2019-10906",
        "the same with str.format_map",
        written("{{ '{messages.__class__.__mro__}'.format_map({'messages': messages}) }}"),
        TEMPLATE,
    ),
    Fixture(
        "stored-format",
        "CVE-2024-56326",
        "the same with a stored reference to str.format that is called later",
        written("{% set kept = ['{0.__class__.__mro__}'.format] %}{{ kept[0](messages) }}"),
        TEMPLATE,
    ),
    Fixture(
        "format-by-filter",
        "CVE-2025-27516",
        "the same with the filter attr",
        written("{{ ('{0.__class__.__mro__}' | attr('format'))(messages) }}"),
        TEMPLATE,
    ),
    Fixture(
        "computed-name",
        "https://kb.cert.org/vuls/id/915947",
        "the same with names that are computed while the template runs",
        written("{{ cycler['__in' ~ 'it__']['__glo' ~ 'bals__'].os.getpid() }}"),
        TEMPLATE,
        own_process=True,
    ),
    Fixture(
        "endless-loops",
        "CVE-2025-61620",
        "nested loops, which no sandbox stops",
        written("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        TEMPLATE,
        own_process=True,
    ),
    Fixture(
        "growing-text",
        "CVE-2026-115911",
        "a text of a hundred gigabytes",
        written("{{ 'x' * 10**11 }}"),
        TEMPLATE,
        own_process=True,
    ),
    Fixture(
        "endless-number-in-a-template",
        "GHSA-542m-9234-8gvf",
        "one operation whose result has four hundred million digits",
        written("{{ 9 ** (9 ** 9) }}"),
        TEMPLATE,
        own_process=True,
    ),
    Fixture(
        "endless-macro",
        RECURSION,
        "a macro that calls itself",
        written("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"),
        TEMPLATE,
        own_process=True,
    ),
    Fixture(
        "nested-expression",
        RECURSION,
        "parentheses nested until the parser's stack overflows",
        written("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}"),
        TEMPLATE,
    ),
    Fixture(
        "named-template",
        "CVE-2026-5760",
        "the hostile template is one of several in the tokenizer's settings, and not the one that is used here",
        _in_the_settings(
            [
                {"name": "default", "template": "{{ messages[0]['content'] }}"},
                {"name": "tool_use", "template": GLOBALS},
            ]
        ),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "template-beside",
        "CVE-2026-5760",
        "the hostile template is an additional one, and not the one that is used here",
        _beside,
        "rag.jinja",
    ),
    Fixture(
        "huge-template",
        "CVE-2025-61620",
        "a template of a megabyte, which frameworks compile before any check",
        written("{% if messages %}x{% endif %}" * 40_000),
        TEMPLATE,
    ),
    Fixture(
        "many-templates",
        "CVE-2025-61620",
        "sixty templates, each as long as one may be",
        _in_the_settings(
            [{"name": f"t{number}", "template": "{% if messages %}x{% endif %}" * 2_000} for number in range(60)]
        ),
        TOKENIZER_CONFIG,
    ),
)
