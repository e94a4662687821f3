"""Static checks of chat templates."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import UnsafeCheckpoint
from tests.chat_templates import PUBLISHED
from tests.conftest import CopyOf
from tests.tiny import TEMPLATE

REACHING = [
    "{{ ().__class__.__base__ }}",
    "{{ 'and {a.__class__} of it'.format(a=messages) }}",
    "{% if cycler.__init__ is defined %}x{% endif %}",
    "{{ ''['__class__'] }}",
    "{{ messages | map(attribute='a.__class__') | list }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{% set kept = ['{0[__class__]}'.format] %}{{ kept[0](messages) }}",
    "{{ messages | attr('role') }}",
    "{% generation %}{{ x.__globals__ }}{% endgeneration %}",
    "{% for m in messages %}{% if m.__dict__ %}{% break %}{% endif %}{% endfor %}",
    "{{ a" + ".b" * 20_000 + " }}",
    "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "{{ " + "9" * 5_000 + " }}",
]
RANDOM = [
    "{{ messages|random }}",
    "{{ messages|map('random')|list }}",
    "{% set f = 'ran' ~ 'dom' %}{{ messages|map(f)|list }}",
    "{{ lipsum() }}",
    "{% filter random %}ab{% endfilter %}",
    "{{ messages | map(*['random']) | list }}",
]
DATE_DECIDES = [
    "{% if strftime_now('%Y') != '2024' %}x{% endif %}",
    "{% set d = strftime_now('%Y') %}{% if d != '2024' %}x{% endif %}",
    "{% set ns = namespace(d='') %}{% set ns.d = strftime_now('%Y') %}{% if ns.d > '2024' %}x{% endif %}",
    "{% set ns = namespace(d=strftime_now('%Y')) %}{{ 'x' if '2024' in ns.d }}",
    "{% set ns = namespace(d=strftime_now('%Y')) %}{% set b = ns %}{{ 'x' if b.d == '2' }}",
    "{% set ns = namespace(d='') %}{% set b = ns %}{% set b.d = strftime_now('%Y') %}{{ 'x' if ns.d == '2' }}",
    "{% set ns = namespace(d='') %}{% set b = namespace() %}{% set b = ns %}{% set b.d = strftime_now('%Y') %}"
    "{{ 'x' if ns.d == '2' }}",
    "{% set l = [namespace()] %}{% for b in l %}{% set b.d = strftime_now('%Y') %}{% endfor %}"
    "{% set b = namespace() %}{{ 'x' if l[0].d == '2' }}",
    "{% set ns = namespace(d=strftime_now('%Y')) %}{% set k = 'd' %}{{ 'x' if ns[k] == '2' }}",
    "{% set ns = namespace(d=strftime_now('%Y')) %}{{ 'x' if ns['d'] == '2' }}",
    "{% macro m(d) %}{% if d == '2024' %}x{% endif %}{% endmacro %}{{ m(strftime_now('%Y')) }}",
    "{% macro m(a, d='') %}{% if d == '2024' %}x{% endif %}{% endmacro %}{{ m(1, d=strftime_now('%Y')) }}",
    "{% macro m(d=strftime_now('%Y')) %}{% if d == '2024' %}x{% endif %}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ strftime_now('%Y') }}{% endmacro %}{% if m() == '2024' %}x{% endif %}",
    "{% macro m() %}{{ strftime_now('%Y') }}{% endmacro %}{% set f = m %}{% if f() == '2024' %}x{% endif %}",
    "{% macro m() %}{% if varargs[0] == '2' %}x{% endif %}{% endmacro %}{{ m(strftime_now('%Y')) }}",
    "{% macro m() %}{% if kwargs.a == '2' %}x{% endif %}{% endmacro %}{{ m(a=strftime_now('%Y')) }}",
    "{% macro m() %}{% if caller() == '2' %}x{% endif %}{% endmacro %}{% call m() %}{{ strftime_now('%Y') }}"
    "{% endcall %}",
    "{% macro m() %}{{ caller(strftime_now('%Y')) }}{% endmacro %}{% call(d) m() %}{% if d == '2' %}x"
    "{% endif %}{% endcall %}",
    "{% macro ap(f, x) %}{{ f(x) }}{% endmacro %}{% macro g(x) %}{% if x == '2' %}x{% endif %}{% endmacro %}"
    "{{ ap(g, strftime_now('%Y')) }}",
    "{% set f = strftime_now %}{% if f('%Y') == '2024' %}x{% endif %}",
    "{% set l = [strftime_now] %}{% if l[0]('%Y') == '2024' %}x{% endif %}",
    "{% set d %}{{ strftime_now('%Y') }}{% endset %}{% if d == '2024' %}x{% endif %}",
    "{{ ['a', 'b'][strftime_now('%Y')|int - 2024] }}",
    "{{ {'2024': 'good'}[strftime_now('%Y')] }}",
    "{{ {'2024': 'good'}.get(strftime_now('%Y'), 'bad') }}",
    "{{ {strftime_now('%Y'): 'good'}['2024'] }}",
    "{{ {strftime_now('%Y'): 'good'}|tojson }}",
    "{{ 'evil ' * (strftime_now('%Y')|int - 2024) }}",
    "{% for i in range(strftime_now('%Y')|int - 2024) %}x{% endfor %}",
    "{% for c in strftime_now('%Y') %}x{% endfor %}",
    "{% for m in messages if strftime_now('%Y') == '2024' %}x{% endfor %}",
    "{{ ['2024']|select('equalto', strftime_now('%Y'))|list }}",
    "{{ [strftime_now('%Y')]|select('equalto', '2024')|list }}",
    "{{ strftime_now('%Y').replace('2025', 'evil') }}",
    "{{ strftime_now('%Y')|replace('2025', 'evil') }}",
    "{{ 'good'.replace(strftime_now('%Y'), '') }}",
    "{{ (strftime_now('%B') ~ 'evil text')[:9] }}",
    "{{ (strftime_now('%B') ~ 'evil text')|truncate(9) }}",
    "{{ strftime_now('%Y')|length }}",
    "{{ 'x' if strftime_now('%Y')|length > 4 }}",
    "{{ 'x' if strftime_now('%Y') is eq '2024' }}",
    "{{ 'x' if '2024' is eq strftime_now('%Y') }}",
    "{{ 'x' if '2024' is in strftime_now('%Y') }}",
    "{{ (strftime_now('%Y') ~ 'evil')|trim('0123456789evil') }}",
    "{{ (strftime_now('%Y') ~ 'evil').strip('0123456789evil') }}",
    "{{ strftime_now('%d').strip(*['01']) and 'evil' }}",
    "{{ strftime_now('%d')|trim(*['01']) and 'evil' }}",
    "{{ [strftime_now('%B')]|join(attribute=6) and 'evil' }}",
    "{{ [strftime_now('%B')]|join('', 6) and 'evil' }}",
    "{{ strftime_now('%d').startswith('1') and 'evil' }}",
    "{% for m in messages %}{% if loop.changed(strftime_now('%Y')) %}x{% endif %}{% endfor %}",
    "{{ loop.cycle('a', strftime_now('%Y')) }}",
    "{% set j = joiner(strftime_now('%Y')) %}{{ 'x' if j() == '2' }}",
    "{% set c = cycler(strftime_now('%Y')) %}{{ 'x' if c.next() == '2' }}",
    "{% block a %}{{ strftime_now('%Y') }}{% endblock %}{% if self.a() == '2' %}x{% endif %}",
    "{% filter replace('2025', 'evil') %}{{ strftime_now('%Y') }}{% endfilter %}",
    "{% filter upper|replace('2025', 'evil') %}{{ strftime_now('%Y') }}{% endfilter %}",
    "{% filter replace('2025', 'evil')|upper %}{{ strftime_now('%Y') }}{% endfilter %}",
    "{% set x | replace('2025','evil') | upper %}{{ strftime_now('%Y') }}{% endset %}{{ x }}",
    "{% with d = strftime_now('%Y') %}{% if d == '2' %}x{% endif %}{% endwith %}",
    "{% set a, b = strftime_now('%Y'), 1 %}{% if a == '2' %}x{% endif %}",
    "{% if a == '2' %}x{% endif %}{% set a = b %}{% set b = c %}{% set c = strftime_now('%Y') %}",
    "{{ '%s' % strftime_now('%Y') }}",
    "{{ '{:.2}evil'.format(strftime_now('%Y')) }}",
    "{{ strftime_now(strftime_now('%Y')) }}",
    "{{ strftime_now('%Y') < '2025' and 'x' }}",
    "{{ ('x' if strftime_now is callable) }}",
    "{% include strftime_now('%Y') %}",
    "{% if (strftime_now('%Y') | default('x')) == '2' %}x{% endif %}",
    "{% if (y | default(strftime_now('%Y'))) == '2' %}x{% endif %}",
    "{% set messages = messages + [{'content': strftime_now('%Y')}] %}{% for m in messages %}"
    "{{ 'x' if m.content == '2' }}{% endfor %}",
    "{{ (strftime_now('%j')|int // 200) * 'evil' }}",
    "{{ strftime_now('%Y')|sum }}{{ strftime_now('%Y')|first }}",
    "{{ dict(a=strftime_now('%Y')).a == '2' }}",
    "{{ [[strftime_now('%Y'), 'x']]|map(attribute=0)|list }}",
    "{{ strftime_now('%Y')|e == '2' }}",
    "{{ ['x','y']|sort(attribute=strftime_now('%Y')) }}",
    "{{ 'x' if ('2024' ~ '') == strftime_now('%Y') else 'y' }}",
    "{{ 'x' if -(strftime_now('%Y')|int) < 3 }}",
    "{% macro strftime_now2(f) %}{{ strftime_now(f) }}{% endmacro %}{% if strftime_now2('%Y')|trim == '2' %}x"
    "{% endif %}",
    "{% generation %}{% if strftime_now('%Y') == '2' %}x{% endif %}{% endgeneration %}",
    # Names that are no longer what an earlier statement made of them.
    "{% macro f(x) %}{% endmacro %}{% set f = dict %}{{ 'x' if f(a=strftime_now('%Y')).a == '2' }}",
    "{% macro g(f) %}{{ 'x' if f(a=strftime_now('%Y')).a == '2' }}{% endmacro %}{% macro f(x) %}{% endmacro %}"
    "{{ g(dict) }}",
    "{% macro f(x) %}{% endmacro %}{% with f = dict %}{{ 'x' if f(a=strftime_now('%Y')).a == '2' }}{% endwith %}",
    "{% macro f(x) %}{% endmacro %}{% for f in [dict] %}{{ 'x' if f(a=strftime_now('%Y')).a == '2' }}{% endfor %}",
    "{% macro namespace(x) %}{% if x == '2' %}x{% endif %}{% endmacro %}{% set ns = namespace(x=strftime_now('%Y')) %}",
    "{% macro ns() %}{% endmacro %}{% set ns = namespace(d=strftime_now('%Y')) %}{{ 'x' if ns.d == '2' }}",
    "{% set ns = 1 %}{% set ns = namespace(d=strftime_now('%Y')) %}{{ 'x' if ns.d == '2' }}",
    "{% set now = strftime_now %}{% if now('%Y') == '2' %}x{% endif %}{% macro strftime_now(f) %}{% endmacro %}",
    "{% macro caller(x) %}{% endmacro %}{% macro g() %}{{ caller(strftime_now('%Y')) }}{% endmacro %}"
    "{% call(a) g() %}{{ 'x' if a == '2' }}{% endcall %}",
    "{% macro loop(x) %}{% endmacro %}{% for c in ['a'] recursive %}"
    "{{ 'x' if c == '2' else loop(strftime_now('%Y')) }}{% endfor %}",
    "".join(f"{{% set a{n} = a{n + 1} %}}" for n in range(100)) + "{% set a100 = strftime_now('%Y') %}",
    "{% macro m(a) %}{% endmacro %}" * 20 + "{{ m(strftime_now('%Y')) }}",
]
DATE_PRINTED = [
    "{{ strftime_now('%Y') }}",
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    '{% set date_string = strftime_now("%d %b %Y") %}{% else %}{% set date_string = "26 Jul 2024" %}{% endif %}'
    '{% endif %}{{ "Today Date: " + date_string + "\\n\\n" }}',
    '{%- set today = strftime_now("%Y-%m-%d") %}{% set d = "The date is " + today + "." %}'
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% else %}{% set s = d %}{% endif %}"
    "{% if s is defined %}{{ '[S]' + s + '[/S]' }}{% endif %}",
    "{% set ns = namespace(s='') %}{% set ns.s = ns.s + strftime_now('%Y') %}{% if ns.s %}{{ ns.s }}{% endif %}",
    "{% macro sys() %}Date {{ strftime_now('%Y')|trim }}{% endmacro %}{{ sys() }}",
    "{% set d = strftime_now('%Y') if strftime_now is defined else '2024' %}{{ d ~ '.' }}",
    "{{ (current_date | default(strftime_now('%Y'), true)).strip() }}",
    "{{ ['a', strftime_now('%Y')]|join('\\n') }}",
    "{% generation %}{{ strftime_now('%Y') }}{% endgeneration %}",
    "{{ {'date': strftime_now('%Y')}|tojson }}",
    "{% set d %}{{ strftime_now('%Y') }}{% endset %}{{ d }}",
    "{{ messages|map('trim')|list }}{{ messages|map(attribute='role')|list }}",
    "{% set strftime_then = '2024' %}{% if strftime_then == '2024' %}x{% endif %}",
]
HARMLESS = [
    TEMPLATE,
    "{% generation %}{{ messages[0]['content'] }}{% endgeneration %}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content | trim }}{% endfor %}",
    "{{ 'Write def __init__(self) and if __name__ == \"__main__\" as usual.' }}",
    "Plain words on ().__class__",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | map(attribute='role') | list }}{{ ['a'] | map('replace', 'a', bos_token) | list }}",
    "{% if a mistake",
    "{{ 9 ** (9 ** 9) }}",
    "",
]


def as_file(folder: Path, template: str) -> str:
    (folder / "chat_template.jinja").write_text(template)
    return "chat_template.jinja"


def beside(folder: Path, template: str) -> str:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(template)
    return "additional_chat_templates/rag.jinja"


def in_settings(value: Callable[[str], object], name: str = "tokenizer_config.json") -> Callable[[Path, str], str]:
    def put(folder: Path, template: str) -> str:
        path = folder / name
        data = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(data | {"chat_template": value(template)}))
        return name

    return put


PLACES = {
    "file": as_file,
    "additional": beside,
    "text": in_settings(lambda text: text),
    "list": in_settings(lambda text: [{"name": "default", "template": "x"}, {"name": "rag", "template": text}]),
    "object": in_settings(lambda text: {"default": "x", "rag": text}),
    "processor": in_settings(lambda text: text, "chat_template.json"),
    "configuration of the processor": in_settings(lambda text: text, "processor_config.json"),
}


@pytest.mark.parametrize("place", PLACES)
def test_template_in_any_place_is_checked(place: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    name = PLACES[place](folder, REACHING[0])
    with pytest.raises(UnsafeCheckpoint, match="reaches for '__base__'") as refusal:
        read_layout(folder)
    assert refusal.value.what.startswith(name)


@pytest.mark.parametrize("place", PLACES)
def test_template_in_any_place_has_a_size_limit(place: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    PLACES[place](folder, TEMPLATE)
    read_layout(folder)
    folder = copy_of(tiny_llama)
    PLACES[place](folder, "x" * (64 << 10) + "x")
    with pytest.raises(UnsafeCheckpoint, match="65,536 bytes"):
        read_layout(folder)


@pytest.mark.parametrize("template", REACHING)
def test_template_with_access_to_python_is_refused(template: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    as_file(folder, template)
    with pytest.raises(UnsafeCheckpoint, match=r"chat_template\.jinja") as refusal:
        read_layout(folder)
    assert refusal.value.hint


@pytest.mark.parametrize("template", RANDOM)
def test_random_template_is_refused(template: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    as_file(folder, template)
    with pytest.raises(UnsafeCheckpoint, match=r"reaches for '(random|lipsum|map)'"):
        read_layout(folder)


@pytest.mark.parametrize("template", DATE_DECIDES)
def test_template_in_which_the_date_decides_is_refused(template: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    as_file(folder, template)
    with pytest.raises(UnsafeCheckpoint, match=r"^chat_template\.jinja .* uses the date .* not only in its output$"):
        read_layout(folder)


@pytest.mark.parametrize("place", PLACES)
def test_date_in_any_place_is_checked(place: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    name = PLACES[place](folder, DATE_DECIDES[0])
    with pytest.raises(UnsafeCheckpoint, match="uses the date in a comparison") as refusal:
        read_layout(folder)
    assert refusal.value.what.startswith(name)


@pytest.mark.parametrize("template", [*DATE_PRINTED, *PUBLISHED.values()])
def test_template_that_prints_the_date_is_accepted(template: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    as_file(folder, template)
    read_layout(folder)


@pytest.mark.parametrize("template", HARMLESS)
def test_harmless_template_is_accepted(template: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    as_file(folder, template)
    read_layout(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"name": "../../evil", "template": "x"}], "the invalid name '../../evil'"),
        ({"/evil": "x"}, "the invalid name '/evil'"),
        ([{"template": "x"}], "the invalid name None"),
        ([{"name": "a"}], "'a' that is not a string"),
        (["x"], "that is not a string"),
        (7, "that is not a string"),
        ({f"name{number}": "x" for number in range(65)}, "one of 66 chat templates"),
    ],
)
def test_named_template_without_valid_name_or_text_is_refused(
    value: object, words: str, tiny_llama: Path, copy_of: CopyOf
) -> None:
    folder = copy_of(tiny_llama)
    in_settings(lambda _: value)(folder, "")
    with pytest.raises(UnsafeCheckpoint, match=f"^tokenizer_config.json .*{words}"):
        read_layout(folder)
