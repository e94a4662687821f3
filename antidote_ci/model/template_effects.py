"""What a chat template does with a system message, tools, further turns and the generation prompt, for the report.

Real templates differ here, so nothing of it is refused. A measured prompt has one user message, no system message and
no tools: what the template does with them in use is not measured.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile

from antidote_ci.model.text_comparison import Chat, is_template_error, write_text
from antidote_ci.records import TemplateEffect, TemplateEffects, ThoughtMode

TOOL = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Return the time of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def find_template_effects(
    render: Callable[..., str],
    render_on_another_date: Callable[..., str],
    special_tokens: Iterable[str],
    find_mode: Callable[[str], ThoughtMode],
) -> TemplateEffects:
    """Compare the text of a question with that of the same question and an addition.

    The messages are random, so that the template cannot know them. `special_tokens` do not count as text. `find_mode`
    is given the text between the question and the answer.
    """
    question, answer, system = write_text(), write_text(), write_text()
    asked = [{"role": "user", "content": question}]
    further = [*asked, {"role": "assistant", "content": answer}, *asked]
    plain = render(asked, add_generation_prompt=True)
    start = plain.find(question)

    def compare(chat: Chat, **options: object) -> TemplateEffect:
        try:
            text = render(chat, add_generation_prompt=True, **options)
        except Exception as error:
            if is_template_error(error):
                return "raises an error"
            raise
        return _describe_change(plain, text)

    leading = _find_leading_text(plain[: max(start, 0)], _try(render, further), answer, question)
    for token in special_tokens:
        leading = leading.replace(token, "")
    system_effect = compare([{"role": "system", "content": system}, *asked])
    if system_effect == "changes other text" and leading.strip():
        with_system = render([{"role": "system", "content": system}, *asked], add_generation_prompt=True)
        if system in with_system and with_system.endswith(plain[start:]):
            system_effect = "replaces the default"
    return TemplateEffects(
        added_characters=len(leading.strip()),
        prints_date=render_on_another_date(asked, add_generation_prompt=True) != plain,
        system_message=system_effect,
        tools=compare(asked, tools=[TOOL]),
        further_turns=compare(further),
        generation_prompt=_describe_change(render(asked, add_generation_prompt=False), plain),
        thoughts=find_mode(plain.rpartition(question)[2]),
    )


def _try(render: Callable[..., str], chat: Chat) -> str:
    """The text of a chat, or an empty one when the template does not accept the chat."""
    try:
        return render(chat, add_generation_prompt=True)
    except Exception as error:
        if is_template_error(error):
            return ""
        raise


def _find_leading_text(before: str, further: str, answer: str, question: str) -> str:
    """The text before the first message without the header that every message has."""
    header = further.partition(answer)[2].partition(question)[0]
    shared = _count_shared(reversed(before), reversed(header))
    return before[: len(before) - shared]


def _describe_change(plain: str, text: str) -> TemplateEffect:
    if text == plain:
        return "no effect"
    start, end = _count_shared(plain, text), _count_shared(reversed(plain), reversed(text))
    lines = iter(text.splitlines())
    # `in` consumes the iterator, so this asks whether all lines are there in the same order.
    only_added = start + end >= len(plain) or all(line in lines for line in plain.splitlines())
    return "adds text" if only_added else "changes other text"


def _count_shared(first: Iterable[str], second: Iterable[str]) -> int:
    """The number of equal characters at the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
