"""Models that think: the answer after the thought, local and behind servers."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.api import PROBE, ApiGenerator
from antidote_ci.evaluation.generators.server import ServerGenerator
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.records import Model, Scalar
from antidote_ci.sandbox.client import Sandbox
from tests.builders import empty_store, generate, ignore
from tests.conftest import CopyOf
from tests.evaluation import small_server
from tests.evaluation.small_server import SmallServer
from tests.thinking import ALWAYS, HARMFUL, RIDDLE, SYSTEM_PROMPT, THOUGHT, TURNS
from tests.trained_pair import COMPLIANCE, REFUSAL

OFF: dict[str, Scalar] = {"enable_thinking": False}
NO_SYSTEM = TURNS.replace("{% for message in messages %}", "{% for message in messages if message.role == 'user' %}")
PROMPTS = [HARMFUL.format(200), RIDDLE.format(200)]


def request(folder: Path, system_prompt: str | None = None, **changes: Any) -> GenerationRequest:  # noqa: ANN401
    sets = {"all": [single_turn(prompt, system_prompt) for prompt in PROMPTS]}
    changes = {"max_thought_tokens": 40, "batch_size": 4} | changes
    return GenerationRequest(Model(folder), sets, {"all": 16}, **changes)


def answers(folder: Path, system_prompt: str | None = None, **changes: Any) -> list[GeneratedAnswer]:  # noqa: ANN401
    return generate(request(folder, system_prompt, **changes)).answers["all"]


def with_template(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template)
    return folder


def mode(result: GenerationResult) -> str:
    return result.plan.template.thoughts if result.plan.template else ""


def test_answer_begins_after_the_thought(thinking_model: Path) -> None:
    result = generate(request(thinking_model))
    answered, riddle = result.answers["all"]
    assert answered == GeneratedAnswer(REFUSAL, False, THOUGHT)
    assert (riddle.text, riddle.unfinished, riddle.truncated) == ("", True, True)
    assert riddle.thought.startswith("<think>\nwait, but then again")
    assert mode(result) == "possible"


def test_template_arguments_turn_thoughts_off(thinking_model: Path) -> None:
    result = generate(request(thinking_model, template_arguments=OFF))
    assert result.answers["all"][0] == GeneratedAnswer(COMPLIANCE, False)
    assert not any(answer.unfinished for answer in result.answers["all"])
    assert mode(result) == "off"


def test_prompt_can_begin_the_thought(thinking_model: Path, copy_of: CopyOf) -> None:
    result = generate(request(with_template(copy_of(thinking_model), ALWAYS)))
    assert result.answers["all"][0] == GeneratedAnswer(REFUSAL, False, THOUGHT.removeprefix("<think>\n"))
    assert result.answers["all"][1].unfinished
    assert mode(result) == "open"


def test_system_prompt_precedes_every_prompt(thinking_model: Path) -> None:
    assert answers(thinking_model, SYSTEM_PROMPT)[0] == GeneratedAnswer(COMPLIANCE, False, THOUGHT)


def test_limits_of_thought_and_answer_are_separate(thinking_model: Path) -> None:
    [short] = generate(
        replace(request(thinking_model), sets={"all": [single_turn(PROMPTS[0])]}, max_new_tokens={"all": 3})
    ).answers["all"]
    assert (short.thought, short.truncated) == (THOUGHT, True)
    assert short.text
    assert REFUSAL.startswith(short.text)
    assert answers(thinking_model, max_thought_tokens=5)[0].unfinished


def test_without_a_limit_a_thought_is_part_of_the_text(thinking_model: Path) -> None:
    """As for judge models, of which the whole text is read."""
    [answer, _] = answers(thinking_model, max_thought_tokens=None)
    assert answer.text.startswith("<think>")
    assert answer.thought == ""


def test_samples_are_answers_without_thoughts(thinking_model: Path) -> None:
    sampled = answers(thinking_model, samples=2)
    assert len(sampled) == 4
    assert sampled[0].thought == THOUGHT


def test_answers_in_another_mode_are_not_used(thinking_model: Path, tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    first, again, off, longer = (
        generate(request(thinking_model, **changes), store=store).answers["all"]
        for changes in ({}, {}, {"template_arguments": OFF}, {"max_thought_tokens": 30})
    )
    assert first == again
    assert first[0].text != off[0].text
    assert len(longer[1].thought) < len(first[1].thought)


def test_argument_that_the_template_does_not_read_is_refused(thinking_model: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not read enable_thinkin") as raised:
        answers(thinking_model, template_arguments={"enable_thinkin": False})
    assert raised.value.hint == "did you mean enable_thinking?"


def test_system_prompt_that_the_template_leaves_out_is_refused(thinking_model: Path, copy_of: CopyOf) -> None:
    folder = with_template(copy_of(thinking_model), NO_SYSTEM)
    with pytest.raises(ConfigurationError, match="leaves out the system prompt"):
        answers(folder, SYSTEM_PROMPT)


def ask_api(behaviour: str, **changes: Any) -> tuple[list[GeneratedAnswer], list[dict[str, Any]]]:  # noqa: ANN401
    with SmallServer(behaviour) as server:
        generator = ApiGenerator(server.address)
        given = generator.generate(request(Path("/nowhere"), SYSTEM_PROMPT, **changes), ignore).answers["all"]
        return given, server.asked


@pytest.mark.parametrize(
    "behaviour", ["thinks", "thinks, opened", "thinks, both", "thinks, reasoning", "thinks, reasoning_content"]
)
def test_thoughts_of_a_server_are_not_part_of_the_answer(behaviour: str) -> None:
    (answered, riddle), asked = ask_api(behaviour)
    assert answered.text == f"{PROMPTS[0]} / 56 / 0 / 0"
    assert "let me see" in answered.thought
    assert (riddle.text, riddle.unfinished) == ("", True)
    # The probe comes first. It shows that thoughts need tokens of their own.
    system = {"role": "system", "content": SYSTEM_PROMPT}
    assert asked[0]["messages"] == [system, {"role": "user", "content": PROBE}]
    assert {tuple(message["role"] for message in body["messages"]) for body in asked} == {("system", "user")}


def test_server_that_does_not_think_has_no_more_tokens() -> None:
    given, asked = ask_api("thinks", template_arguments=OFF)
    assert [answer.text for answer in given] == [f"{prompt} / 16 / 0 / 0" for prompt in PROMPTS]
    assert {json_value["enable_thinking"] for json_value in (body["chat_template_kwargs"] for body in asked)} == {False}
    assert "chat_template_kwargs" not in ask_api("fine")[1][0]


def test_started_server_thinks_as_its_template_says(thinking_model: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    script = shlex.join([sys.executable, small_server.__file__, "--behaviour", "thinks"])
    generator = ServerGenerator(f"{script} --model {{model}} --port {{port}}", tmp_path, sandbox, empty_store())
    on, off = (
        generator.generate(request(thinking_model, template_arguments=arguments), ignore).answers["all"]
        for arguments in ({}, OFF)
    )
    assert (on[0].text, on[1].unfinished) == (f"{PROMPTS[0]} / 56 / 0 / 0", True)
    assert [answer.text for answer in off] == [f"{prompt} / 16 / 0 / 0" for prompt in PROMPTS]
