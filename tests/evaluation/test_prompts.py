"""Prompt files, splits and disjointness."""

import json
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompts
from antidote_ci.records import PromptRow

ROWS = st.lists(st.text(min_size=1), max_size=60).map(lambda texts: [PromptRow(text) for text in texts])


@given(ROWS, st.floats(0, 1), st.integers(0, 5))
def test_a_split_loses_nothing_and_depends_on_wording_alone(rows: list[PromptRow], share: float, seed: int) -> None:
    taken, left = prompts.split_rows(rows, share, seed)
    assert sorted(row.prompt for row in [*taken, *left]) == sorted(row.prompt for row in rows)
    assert not {prompts.wording_key(row.prompt) for row in taken} & {prompts.wording_key(row.prompt) for row in left}
    alone = [row for row in rows if prompts.split_rows([row], share, seed)[0]]
    assert alone == taken


def test_a_split_takes_about_its_share() -> None:
    rows = [PromptRow(f"prompt number {number}") for number in range(2000)]
    taken, _ = prompts.split_rows(rows, 0.3, 0)
    assert 0.27 < len(taken) / 2000 < 0.33
    assert prompts.split_rows(rows, 0.3, 1)[0] != taken


def test_wording_is_what_counts() -> None:
    assert prompts.wording_key("How do I  SNEAK out?!") == prompts.wording_key("how do i sneak out")
    assert prompts.wording_key("how do i sneak out") != prompts.wording_key("how do i sneak in")


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from(["\u200b", "\u2060", "\u00ad"]))
def test_a_wording_is_known_however_it_is_encoded(
    text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"], unseen: str
) -> None:
    assert prompts.wording_key(unicodedata.normalize(form, text)) == prompts.wording_key(text)
    assert prompts.wording_key(unseen.join(text)) == prompts.wording_key(text)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_full_width_letters_make_no_other_wording(text: str) -> None:
    assert prompts.wording_key(text.translate({code: code + 0xFEE0 for code in range(33, 127)})) == prompts.wording_key(
        text
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Write it in C", "Write it in C++"),
        ("What is 3 + 4?", "What is 3 = 4?"),
        ("What does \U0001f600 mean?", "What does \U0001f621 mean?"),
        (
            "\u0915\u093e\u0932 \u0915\u094d\u092f\u093e \u0939\u0948",
            "\u0915\u0940\u0932 \u0915\u094d\u092f\u093e \u0939\u0948",
        ),
    ],
)
def test_symbols_and_vowel_signs_are_wording(one: str, other: str) -> None:
    assert prompts.wording_key(one) != prompts.wording_key(other)


def test_a_prompt_in_two_sets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="confirmation set is also in the selection set"):
        prompts.require_disjoint(
            {"selection": [PromptRow("Why?"), PromptRow("How?")], "confirmation": [PromptRow("how")]}
        )


def test_reading_drops_repeats_and_keeps_categories(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "How?", "category": "a"}, {"prompt": "how"}, {"prompt": "Why?"}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert prompts.read_prompts(file) == [PromptRow("How?", "a"), PromptRow("Why?")]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("+-*/%"), st.integers(0, 9)), min_size=1))
def test_task_rows_that_differ_in_one_character_are_all_asked(sums: list[tuple[int, str, int]]) -> None:
    asked = [f"{left} {operator} {right} =" for left, operator, right in sums]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "task.jsonl"
        file.write_text("\n".join(json.dumps({"prompt": each, "expected": each}) for each in asked))
        rows = prompts.read_prompts(file, "expected")
    assert [row.prompt for row in rows] == list(dict.fromkeys(asked))
    assert len({prompts.prompt_id(row.prompt) for row in rows}) == len(rows)


@pytest.mark.parametrize("other", [{"expected": "no"}, {"choices": ["yes", "perhaps"]}])
def test_one_prompt_with_two_right_answers_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    file = tmp_path / "task.jsonl"
    good: dict[str, object] = {"prompt": "Is it?", "expected": "yes", "choices": ["yes", "no"]}
    file.write_text("\n".join(map(json.dumps, [good, good, good | {"prompt": "Was it?"}, good | other])))
    with pytest.raises(ConfigurationError, match=r"line 4 has the same prompt as .*task\.jsonl, line 1, but another"):
        prompts.read_prompts(file, "expected", with_choices=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompts"),
        ('{"prompt": "a", "response": "b"}\nnot json', "line 2 is not JSON"),
        ('{"question": "a"}', "line 1 has no text in the field 'prompt'"),
        ('{"prompt": "a", "response": 3}', "line 1 has no text in the field 'response'"),
        ('["prompt"]', "line 1 has no text in the field 'prompt'"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as raised:
        prompts.read_prompts(file, "response")
    assert '"response"' in str(raised.value.hint)


@pytest.mark.parametrize("field", ["prompt", "response", "category"])
def test_half_a_surrogate_pair_is_refused_with_its_line(tmp_path: Path, field: str) -> None:
    file = tmp_path / "prompts.jsonl"
    good = {"prompt": "a", "response": "b", "category": "c"}
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | {field: "x\ud800"}))
    with pytest.raises(ConfigurationError, match=f"line 2 has an unpaired surrogate in the field '{field}'"):
        prompts.read_prompts(file, "response")


def test_a_category_stays_on_its_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a", "category": "one\n::error::two "}, {"prompt": "b", "category": None}, {"prompt": "c"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [row.category for row in prompts.read_prompts(file)] == ["one ::error::two", "", ""]


def test_choices_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "task.jsonl"
    file.write_text(json.dumps({"prompt": "a", "expected": "yes", "choices": [" yes", " no"]}))
    assert prompts.read_prompts(file, "expected", with_choices=True)[0].choices == (" yes", " no")
    assert prompts.read_prompts(file, "expected")[0].choices == ()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (None, "no list of two or more"),
        ("yes", "no list of two or more"),
        (["yes"], "no list of two or more"),
        (["yes", 1], "no text in the field 'choices'"),
        (["yes", " "], "no text in the field 'choices'"),
        (["no", "perhaps"], "does not have 'expected' among"),
        (["yes", "no", " no"], "the same choice twice"),
    ],
)
def test_choices_that_cannot_be_scored(tmp_path: Path, choices: object, said: str) -> None:
    file = tmp_path / "task.jsonl"
    good = {"prompt": "a", "expected": "yes", "choices": ["yes", "no"]}
    file.write_text(json.dumps(good) + "\n" + json.dumps({"prompt": "b", "expected": "yes", "choices": choices}))
    with pytest.raises(ConfigurationError, match=f"line 2 .*{said}") as raised:
        prompts.read_prompts(file, "expected", with_choices=True)
    assert '"choices"' in str(raised.value.hint)


@given(st.text(), st.text())
def test_an_identity_is_short_and_of_one_text_alone(one: str, other: str) -> None:
    assert len(prompts.prompt_id(one)) == 16
    assert (prompts.prompt_id(one) == prompts.prompt_id(other)) == (one == other)


def test_choices_are_part_of_what_a_set_says() -> None:
    plain, chosen = PromptRow("a", response="yes"), PromptRow("a", response="yes", choices=("yes", "no"))
    assert prompts.describe_set("task", "x", [plain]) != prompts.describe_set("task", "x", [chosen])
