"""Static checks of chat templates."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import UnsafeCheckpoint
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
HARMLESS = [
    TEMPLATE,
    "{% generation %}{{ messages[0]['content'] }}{% endgeneration %}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content | trim }}{% endfor %}",
    "{{ 'Write def __init__(self) and if __name__ == \"__main__\" as usual.' }}",
    "Plain words on ().__class__",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
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
