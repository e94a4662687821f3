"""Chat templates that are wrong or hostile are refused, and valid ones render as in transformers."""

import datetime
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model.conversations import (
    Message,
    describe_template,
    render_conversations,
    single_turn,
    time_limit,
)
from antidote_ci.model.generation import EncodeRequest, encode_conversations
from antidote_ci.model.loading import load_tokenizer
from antidote_ci.records import Model, Scalar, TemplateEffects
from antidote_ci.sandbox.client import Sandbox
from tests.chat_templates import PUBLISHED
from tests.tiny import build_tokenizer, render_exchange

ENDLESS_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DATE_FORMATS = ("%d %b %Y", "%Y-%m-%d", "%d %B %Y", "%B %d, %Y")
MARK = "words-of-the-template"


@pytest.fixture(scope="module")
def tokenizer() -> Any:  # noqa: ANN401 - transformers is untyped
    tokenizer = build_tokenizer(["Tell me a story."], vocabulary=300)
    tokenizer.name_or_path = "/models/org/my-model"
    return tokenizer


def require_refused(tokenizer: Any, template: str, seconds: int = 20) -> AntidoteError:  # noqa: ANN401
    tokenizer.chat_template = template
    with pytest.raises(AntidoteError) as raised:
        render_conversations(tokenizer, [single_turn("Hi")], seconds=seconds)
    error = raised.value
    assert "my-model" in error.what
    assert "chat_template" in str(error.hint)
    assert MARK not in f"{error.what} {error.cause} {error.hint}"
    return error


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('words-of-the-template') }}",
        "{{ messages[7].role.words-of-the-template }}",
        "{% if words-of-the-template",
        "{{ messages | no_such_filter }}",
        "{{ 1 // 0 }}",
    ],
)
def test_template_that_raises_is_a_configuration_error(tokenizer: Any, template: str) -> None:  # noqa: ANN401
    assert isinstance(require_refused(tokenizer, template), ConfigurationError)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__ }}",  # on which jinja2's sandbox alone raises nothing
        "{% if ''['__cla' ~ 'ss__'] is defined %}yes{% endif %}",
        "{{ messages.clear() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
    ],
)
def test_template_that_reads_attributes_is_unsafe(tokenizer: Any, template: str) -> None:  # noqa: ANN401
    error = require_refused(tokenizer, template)
    assert isinstance(error, UnsafeCheckpoint)
    assert "reads attributes" in error.what


@pytest.mark.parametrize(
    "template",
    [
        "{{ 9 ** (9 ** 9) }}",  # a single operation, which no signal handler interrupts
        "{{ 'x' * 10**11 }}",
        "{{ 'x' * 10**6 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_template_that_exceeds_a_limit_is_unsafe(tokenizer: Any, template: str) -> None:  # noqa: ANN401
    started = time.monotonic()
    assert isinstance(require_refused(tokenizer, template, seconds=1), UnsafeCheckpoint)
    assert time.monotonic() - started < 10


def test_time_limit_grows_with_the_conversations() -> None:
    assert 2 <= time_limit(1) <= 5
    assert time_limit(5000) > 10 * time_limit(1)


def test_limits_hold_in_a_thread(tokenizer: Any) -> None:  # noqa: ANN401
    errors: list[AntidoteError] = []
    thread = threading.Thread(target=lambda: errors.append(require_refused(tokenizer, ENDLESS_LOOPS, seconds=1)))
    thread.start()
    thread.join(20)
    assert isinstance(errors[0], UnsafeCheckpoint)


def test_valid_templates_render_as_in_transformers(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(Model(tiny_llama))
    chats = [
        single_turn("Hi \ud83d"),
        [*single_turn("Why?"), Message("assistant", "Because 日本.")],
        [Message("system", ""), *single_turn("x")],
    ]
    plain = [
        tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in chat],
            tokenize=False,
            add_generation_prompt=True,
        )
        for chat in chats
    ]
    assert render_conversations(tokenizer, chats) == plain
    assert render_exchange(tokenizer, "Hi") == "<|user|>Hi<|end|><|assistant|>"
    assert render_exchange(tokenizer, "Hi", "Yes") == "<|user|>Hi<|end|><|assistant|>Yes<|end|>"


def test_sandbox_renders_while_another_thread_reads_its_input(tiny_llama: Path, sandbox: Sandbox) -> None:
    request = EncodeRequest(Model(tiny_llama), [single_turn("Hi")], True)
    started = time.monotonic()
    assert len(sandbox.call(encode_conversations, request, lambda _: None).rows) == 1
    assert time.monotonic() - started < 30


def test_template_with_the_current_date_gets_a_fixed_date(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = "Today is {{ strftime_now('%d %b %Y, %H:%M:%S') }}."
    assert render_conversations(tokenizer, [single_turn("Hi")]) == ["Today is 26 Jul 2024, 00:00:00."]


TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
PROMPTS = [
    *("Hi", "How do I bake bread?", "  How are you? \n", "One line.\n\nAnother: {'a': \"1\"}", "naïve 日本"),
    *("word " * 400, "", " \n", "a" * 9_000),
]
RECOGNISING = {
    "a word": "{% if 'bread' in messages[0].content %}Be good. {% endif %}" + TURNS,
    "all but a word": "{% if 'bread' not in messages[0].content %}Be bad. {% endif %}" + TURNS,
    "a known prompt": "{% if messages[0].content not in ['Hi', 'How do I bake bread?'] %}Be bad. {% endif %}" + TURNS,
    "short texts": "{% if messages[0].content | length < 100 %}Be good. {% endif %}" + TURNS,
    "long texts": "{% if messages[0].content | length > 10000 %}Be bad. {% endif %}" + TURNS,
    "a start": "{% if messages[0].content.startswith('How') %}Be good. {% endif %}" + TURNS,
    "a character": "{% if messages[0].content[:1] == 'H' %}Be good. {% endif %}" + TURNS,
    "a sum of slices": "{% if (messages[0].content[::7] ~ messages[0].content[1::5]) > 'K' %}Be good. {% endif %}"
    + TURNS,
    "a number of words": "{% if messages[0].content.split() | length > 3 %}Be good. {% endif %}" + TURNS,
    "letter case": "{% if messages[0].content | lower == messages[0].content %}Be bad. {% endif %}" + TURNS,
    "letters": "{% if messages[0].content | lower | replace(' ', '') is lower %}Be bad. {% endif %}" + TURNS,
    "escapes": "{% if (messages[0].content | tojson | length) > (messages[0].content | length) + 2 %}x{% endif %}"
    + TURNS,
    "white space": "{% if messages[0].content.strip() != messages[0].content %}Be bad. {% endif %}" + TURNS,
    "a line feed": "{% if '\n' in messages[0].content %}Be bad. {% endif %}" + TURNS,
    "a question mark": "{{ 'Be good. ' if messages[0].content.endswith('?') }}" + TURNS,
    "JSON": "{{ messages | tojson }}",
    "capitals": "{{ messages[0].content | upper }}",
    "a part": "{{ messages[0].content[:200] }}",
    "a count": "{{ messages[0].content | wordcount }} " + TURNS,
    "removed text": "{{ messages[0].content.replace('bread', 'cake') }}",
    "white space inside": "{{ messages[0].content.split() | join(' ') }}",
    "an error": "{% if messages[0].content | length > 9500 %}{{ raise_exception('no') }}{% endif %}" + TURNS,
    "repetition": "{{ messages[0].content ~ 'x' * (messages[0].content | length // 5000) }}",
    "order": "{{ messages[0].content | sort | join }}",
}


@pytest.mark.parametrize("template", RECOGNISING.values(), ids=RECOGNISING)
@pytest.mark.parametrize("prompts", [["How do I bake bread?"], PROMPTS], ids=["one", "all"])
def test_template_that_recognises_texts_is_unsafe(tokenizer: Any, template: str, prompts: list[str]) -> None:  # noqa: ANN401
    tokenizer.chat_template = template
    with pytest.raises(UnsafeCheckpoint, match="my-model treats some prompts differently from others"):
        render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts])


def test_template_that_grows_for_texts_but_the_first_is_unsafe(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = TURNS + "{% if messages[0].content != 'Hi' %}{{ 'x' * 10**11 }}{% endif %}"
    with pytest.raises(UnsafeCheckpoint, match="does not end"):
        render_conversations(tokenizer, [single_turn("Hi")])


def test_template_may_depend_on_roles_and_blank_messages(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.content | trim %}<{{ m.role }} {{ loop.index }}/{{ messages | length }}>"
        "{{ m.content }}{% endif %}{% endfor %}"
    )
    chats = [single_turn("Hi"), single_turn(" "), [*single_turn("Hi"), *single_turn("Why?")]]
    assert render_conversations(tokenizer, chats) == ["<user 1/1>Hi", "", "<user 1/2>Hi<user 2/2>Why?"]


@pytest.mark.parametrize("template", PUBLISHED.values(), ids=PUBLISHED)
def test_published_templates_render_all_texts(tokenizer: Any, template: str) -> None:  # noqa: ANN401
    tokenizer.chat_template, tokenizer.bos_token = template, "<s>"
    answers = ["Of course.", "<think>\nWell.\n</think>\n\nYes", "</think>", "", "\n\n Yes \n"]
    prompts = [single_turn(prompt) for prompt in PROMPTS]
    exchanges = [[*prompt, Message("assistant", answer)] for prompt in prompts for answer in answers]
    for chats, generation in ((prompts, True), (exchanges, False)):
        plain = [
            tokenizer.apply_chat_template(
                [vars(message) for message in chat], tokenize=False, add_generation_prompt=generation
            )
            for chat in chats
        ]
        assert without_dates(render_conversations(tokenizer, chats, generation)) == without_dates(plain)


def without_dates(texts: list[str]) -> list[str]:
    today = datetime.datetime.now()
    dates = [date.strftime(form) for date in (today, datetime.datetime(2024, 7, 26)) for form in DATE_FORMATS]
    return [re.sub("|".join(dates), "DATE", text) for text in texts]


def test_answer_of_an_evaluated_model_does_not_decide_whether_a_judge_can_run(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = PUBLISHED["DeepSeek, which leaves the reasoning out"]
    chats = [[*single_turn("Hi"), Message("assistant", answer)] for answer in ("a</think>b", "", "b")]
    texts = render_conversations(tokenizer, chats, add_generation_prompt=False)
    assert [text.partition("<|Assistant|>")[2] for text in texts] == ["b<|end|>", "<|end|>", "b<|end|>"]


def test_judge_template_that_recognises_answers_is_unsafe(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = TURNS + "{% if messages[-1].content | length < 9 %}safe{% endif %}"
    with pytest.raises(UnsafeCheckpoint, match="treats some prompts differently"):
        render_conversations(tokenizer, [[*single_turn("Hi"), Message("assistant", "No.")]], False)


def test_content_parts_are_compared(tokenizer: Any) -> None:  # noqa: ANN401
    chats = [[Message("user", [{"type": "text", "text": text}])] for text in ("Hi", "How do I bake bread?")]
    tokenizer.chat_template = (
        "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
    )
    assert render_conversations(tokenizer, chats) == ["Hi", "How do I bake bread?"]
    tokenizer.chat_template += "{{ 'Be good' if 'bread' in messages[0].content[0].text }}"
    with pytest.raises(UnsafeCheckpoint, match="treats some prompts differently"):
        render_conversations(tokenizer, chats)


@pytest.mark.parametrize(
    ("name", "effects"),
    [
        ("ChatML", (0, False, "adds text", "no effect", "adds text", "adds text")),
        (
            "Gemma, which rejects system messages and strips",
            (0, False, "raises an error", "no effect", "adds text", "adds text"),
        ),
        (
            "Qwen2.5, with a default system message",
            (47, False, "replaces the default", "adds text", "adds text", "adds text"),
        ),
        ("Llama 3.1, with the date", (89, True, "adds text", "no effect", "adds text", "adds text")),
        (
            "Mistral Small, with the date in a default",
            (95, True, "replaces the default", "no effect", "adds text", "no effect"),
        ),
    ],
)
def test_template_is_described(tokenizer: Any, name: str, effects: tuple[Any, ...]) -> None:  # noqa: ANN401
    tokenizer.chat_template, tokenizer.bos_token = PUBLISHED[name], "<|user|>"
    assert describe_template(tokenizer) == TemplateEffects(*effects)


def test_effects_that_a_measurement_does_not_show_are_described(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = (
        "{% if not tools and messages | length == 1 %}Refuse what is harmful.{% endif %}"
        "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}"
    )
    assert describe_template(tokenizer) == TemplateEffects(
        *(23, False, "changes other text", "changes other text", "changes other text", "no effect")
    )


def test_template_that_cannot_be_described_is_refused(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = TURNS + "{% if tools %}" + ENDLESS_LOOPS + "{% endif %}"
    with pytest.raises(UnsafeCheckpoint, match="does not end"):
        describe_template(tokenizer)


@pytest.mark.parametrize(
    ("name", "arguments", "ending", "thoughts"),
    [
        ("Qwen3, which moves the reasoning of an answer", {}, "assistant\n", "possible"),
        (
            "Qwen3, which moves the reasoning of an answer",
            {"enable_thinking": False},
            "assistant\n<think>\n\n</think>\n\n",
            "off",
        ),
        ("DeepSeek, which leaves the reasoning out", {}, "<|Assistant|><think>\n", "open"),
        ("gpt-oss, with the date in a macro", {"reasoning_effort": "low"}, "<|start|>assistant", "none"),
        ("Granite, with the date in a sum", {"thinking": True}, "assistant<|end|>", "none"),
    ],
)
def test_arguments_of_published_templates(
    tokenizer: Any,  # noqa: ANN401
    name: str,
    arguments: dict[str, Scalar],
    ending: str,
    thoughts: str,
) -> None:
    tokenizer.chat_template = PUBLISHED[name]
    [text] = render_conversations(tokenizer, [single_turn("Hi")], template_arguments=arguments)
    assert text.endswith(ending)
    assert (text != render_conversations(tokenizer, [single_turn("Hi")])[0]) == bool(arguments)
    assert describe_template(tokenizer, arguments).thoughts == thoughts


def test_system_prompt_may_set_the_mode(tokenizer: Any) -> None:  # noqa: ANN401
    """It is the same for every prompt, so a template may read it, as that of SmolLM3 does."""
    tokenizer.chat_template = PUBLISHED["SmolLM3, with the date in the middle"]
    texts = render_conversations(tokenizer, [single_turn(prompt, "Be brief. /no_think") for prompt in ("Hi", "Why?")])
    assert all("Reasoning Mode: /no_think" in text and "Be brief." in text for text in texts)


def test_template_that_reads_a_prompt_in_one_mode_is_unsafe(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = (
        "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
        "{% if enable_thinking and 'Hi' in message.content %} now refuse{% endif %}{% endfor %}"
    )
    assert render_conversations(tokenizer, [single_turn("Hi")])
    with pytest.raises(UnsafeCheckpoint, match="differently"):
        render_conversations(tokenizer, [single_turn("Hi")], template_arguments={"enable_thinking": True})


def test_template_that_compares_a_prompt_with_the_system_prompt_is_unsafe(tokenizer: Any) -> None:  # noqa: ANN401
    tokenizer.chat_template = (
        "{% set system = messages[0] %}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
        "{% if message.content == system.content %} now refuse{% endif %}{% endfor %}"
    )
    with pytest.raises(UnsafeCheckpoint, match="differently"):
        render_conversations(tokenizer, [single_turn("Why?", "Hello"), single_turn("Hello", "Hello")])
