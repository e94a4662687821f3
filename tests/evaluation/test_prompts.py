"""Prompt files, wording keys, splits and the stratified order."""

import json
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompts
from antidote_ci.evaluation.prompts import stratify_order
from antidote_ci.records import PromptRow

ROWS = st.lists(st.text(min_size=1), max_size=60).map(lambda texts: [PromptRow(text) for text in texts])


@given(ROWS, st.floats(0, 1), st.integers(0, 5))
def test_split_is_a_partition_by_wording(rows: list[PromptRow], share: float, seed: int) -> None:
    taken, left = prompts.split_rows(rows, share, seed)
    assert sorted(row.prompt for row in [*taken, *left]) == sorted(row.prompt for row in rows)
    assert not {prompts.wording_key(row.prompt) for row in taken} & {prompts.wording_key(row.prompt) for row in left}
    alone = [row for row in rows if prompts.split_rows([row], share, seed)[0]]
    assert alone == taken


def test_split_takes_about_its_share() -> None:
    rows = [PromptRow(f"prompt number {number}") for number in range(2000)]
    taken, _ = prompts.split_rows(rows, 0.3, 0)
    assert 0.27 < len(taken) / 2000 < 0.33
    assert prompts.split_rows(rows, 0.3, 1)[0] != taken


def test_wording_key_ignores_case_and_punctuation() -> None:
    assert prompts.wording_key("How do I  SNEAK out?!") == prompts.wording_key("how do i sneak out")
    assert prompts.wording_key("how do i sneak out") != prompts.wording_key("how do i sneak in")


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from(["\u200b", "\u2060", "\u00ad"]))
def test_wording_key_ignores_unicode_form_and_invisible_characters(
    text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"], unseen: str
) -> None:
    assert prompts.wording_key(unicodedata.normalize(form, text)) == prompts.wording_key(text)
    assert prompts.wording_key(unseen.join(text)) == prompts.wording_key(text)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_wording_key_ignores_full_width_letters(text: str) -> None:
    assert prompts.wording_key(text.translate({code: code + 0xFEE0 for code in range(33, 127)})) == prompts.wording_key(
        text
    )


@pytest.mark.parametrize(
    ("first", "second"),
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
def test_wording_key_keeps_symbols_and_vowel_signs(first: str, second: str) -> None:
    assert prompts.wording_key(first) != prompts.wording_key(second)


def test_prompt_in_two_sets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="confirmation set is also in the selection set"):
        prompts.require_disjoint(
            {"selection": [PromptRow("Why?"), PromptRow("How?")], "confirmation": [PromptRow("how")]}
        )


def test_reading_drops_repeated_wordings(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "How?", "category": "a"}, {"prompt": "how"}, {"prompt": "Why?"}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert prompts.read_prompts(file) == [PromptRow("How?", "a"), PromptRow("Why?")]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("+-*/%"), st.integers(0, 9)), min_size=1))
def test_task_rows_that_differ_in_one_character_are_kept(sums: list[tuple[int, str, int]]) -> None:
    asked = [f"{left} {operator} {right} =" for left, operator, right in sums]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "task.jsonl"
        file.write_text("\n".join(json.dumps({"prompt": prompt, "expected": prompt}) for prompt in asked))
        rows = prompts.read_prompts(file, "expected")
    assert [row.prompt for row in rows] == list(dict.fromkeys(asked))
    assert len({prompts.prompt_id(row.prompt) for row in rows}) == len(rows)


@pytest.mark.parametrize("other", [{"expected": "no"}, {"choices": ["yes", "perhaps"]}])
def test_contradictory_task_rows_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    file = tmp_path / "task.jsonl"
    good: dict[str, object] = {"prompt": "Is it?", "expected": "yes", "choices": ["yes", "no"]}
    file.write_text("\n".join(map(json.dumps, [good, good, good | {"prompt": "Was it?"}, good | other])))
    with pytest.raises(ConfigurationError, match=r"line 4 has the same prompt as .*task\.jsonl, line 1, but another"):
        prompts.read_prompts(file, "expected", with_choices=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prompts"),
        ('{"prompt": "a", "response": "b"}\nnot json', "line 2 is not JSON"),
        ('{"question": "a"}', "line 1 has no text in the field 'prompt'"),
        ('{"prompt": "a", "response": 3}', "line 1 has no text in the field 'response'"),
        ('["prompt"]', "line 1 has no text in the field 'prompt'"),
    ],
)
def test_invalid_row_error_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        prompts.read_prompts(file, "response")
    assert '"response"' in str(raised.value.hint)


@pytest.mark.parametrize("field", ["prompt", "response", "category"])
def test_unpaired_surrogate_error_names_the_line(tmp_path: Path, field: str) -> None:
    file = tmp_path / "prompts.jsonl"
    good = {"prompt": "a", "response": "b", "category": "c"}
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | {field: "x\ud800"}))
    with pytest.raises(ConfigurationError, match=f"line 2 has an unpaired surrogate in the field '{field}'"):
        prompts.read_prompts(file, "response")


def test_category_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a", "category": "one\n::error::two "}, {"prompt": "b", "category": None}, {"prompt": "c"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [row.category for row in prompts.read_prompts(file)] == ["one ::error::two", "", ""]


def test_choices_are_read_only_on_request(tmp_path: Path) -> None:
    file = tmp_path / "task.jsonl"
    file.write_text(json.dumps({"prompt": "a", "expected": "yes", "choices": [" yes", " no"]}))
    assert prompts.read_prompts(file, "expected", with_choices=True)[0].choices == (" yes", " no")
    assert prompts.read_prompts(file, "expected")[0].choices == ()


@pytest.mark.parametrize(
    ("choices", "message"),
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
def test_invalid_choices_are_refused(tmp_path: Path, choices: object, message: str) -> None:
    file = tmp_path / "task.jsonl"
    good = {"prompt": "a", "expected": "yes", "choices": ["yes", "no"]}
    file.write_text(json.dumps(good) + "\n" + json.dumps({"prompt": "b", "expected": "yes", "choices": choices}))
    with pytest.raises(ConfigurationError, match=f"line 2 .*{message}") as raised:
        prompts.read_prompts(file, "expected", with_choices=True)
    assert '"choices"' in str(raised.value.hint)


@given(st.text(), st.text())
def test_prompt_ids_are_unique(first: str, second: str) -> None:
    assert len(prompts.prompt_id(first)) == 16
    assert (prompts.prompt_id(first) == prompts.prompt_id(second)) == (first == second)


def test_hash_of_a_set_covers_choices() -> None:
    plain, chosen = PromptRow("a", response="yes"), PromptRow("a", response="yes", choices=("yes", "no"))
    assert prompts.describe_set("task", "x", [plain]) != prompts.describe_set("task", "x", [chosen])


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def make_rows(sizes: list[int]) -> list[PromptRow]:
    return [
        PromptRow(f"question {number} about {category}", str(category))
        for category, n in enumerate(sizes)
        for number in range(n)
    ]


@given(SIZES, st.integers(0, 1000))
def test_every_prefix_is_stratified(sizes: list[int], seed: int) -> None:
    ordered = stratify_order(make_rows(sizes), seed)
    seen: Counter[str] = Counter()
    for asked, row in enumerate(ordered, 1):
        seen[row.category] += 1
        for category, n in enumerate(sizes):
            # A category is off by less than one prompt of its own, and the prefix by one prompt per category.
            assert abs(seen[str(category)] - asked * n / len(ordered)) <= 1 + len(sizes) * n / len(ordered)


@given(SIZES, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_order_is_independent_of_the_file(sizes: list[int], seed: int, random: object) -> None:
    shuffled = make_rows(sizes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stratify_order(shuffled, seed) == stratify_order(make_rows(sizes), seed)


@given(SIZES, st.integers(0, 1000))
def test_order_is_a_permutation(sizes: list[int], seed: int) -> None:
    assert Counter(stratify_order(make_rows(sizes), seed)) == Counter(make_rows(sizes))


@pytest.mark.parametrize("position", [0, 4, 9])
def test_every_row_can_take_every_position(position: int) -> None:
    taken = Counter(stratify_order(make_rows([5, 5]), seed)[position].prompt for seed in range(2000))
    assert len(taken) == 10
    assert max(taken.values()) < 2 * min(taken.values())


def test_order_depends_on_the_seed() -> None:
    assert stratify_order(make_rows([20]), 0) != stratify_order(make_rows([20]), 1)
