"""Chat templates that are wrong or hostile are refused, and valid ones render as in transformers."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model.conversations import (
    Message,
    render_conversations,
    render_template,
    single_turn,
    time_limit,
)
from antidote_ci.model.generation import EncodeRequest, encode_conversations
from antidote_ci.model.loading import load_tokenizer
from antidote_ci.records import Model
from antidote_ci.sandbox.client import Sandbox
from tests.tiny import build_tokenizer, render_exchange

CHAT = [[{"role": "user", "content": "Hi"}]]
ENDLESS_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
MARK = "words-of-the-template"


@pytest.fixture(scope="module")
def tokenizer() -> Any:  # noqa: ANN401 - transformers is untyped
    tokenizer = build_tokenizer(["Tell me a story."], vocabulary=300)
    tokenizer.name_or_path = "/models/org/my-model"
    return tokenizer


def require_refused(tokenizer: Any, template: str, seconds: int = 20) -> AntidoteError:  # noqa: ANN401
    tokenizer.chat_template = template
    with pytest.raises(AntidoteError) as raised:
        render_template(tokenizer, CHAT, True, seconds)
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
    assert render_template(tokenizer, CHAT, True) == ["Today is 26 Jul 2024, 00:00:00."]
