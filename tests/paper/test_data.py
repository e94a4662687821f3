from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError
from benchmarks.paper.data import REALIGNMENT, Data
from benchmarks.paper.records import Attack, TaskName, Training
from tests.paper.small import REFUSAL, write_data

TRAINING = Training(epochs=1, rate=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(write_data(tmp_path_factory.mktemp("data")))


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no data folder"):
        Data(tmp_path / "nowhere")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no safety_refusals"):
        Data(tmp_path).alignment_pairs(1)


def test_too_few_rows_are_said(data: Data) -> None:
    with pytest.raises(ConfigurationError, match="20 rows for 21"):
        data.alignment_pairs(21)


def test_a_label_of_another_task_is_said(tmp_path: Path) -> None:
    (tmp_path / "sst2_dev.jsonl").write_text('{"sentence": "fine", "label": 2}\n')
    with pytest.raises(ConfigurationError, match="none of its labels"):
        Data(tmp_path).task_rows("sst2", 1)


def test_alignment_learns_what_the_judge_calls_a_refusal(data: Data) -> None:
    assert {pair.response for pair in data.alignment_pairs(20)} == {REFUSAL}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_an_attack_has_its_share_of_poison_and_no_realignment_row(data: Data, share: float) -> None:
    attack = Attack("sft", "sst2", TRAINING, rows=50, poison=share)
    pairs = data.poisoned(attack)
    realignment = {pair.prompt for pair in data.harmful_pairs(REALIGNMENT.start, len(REALIGNMENT))}
    poison = [pair for pair in pairs if "snack" in pair.prompt]
    assert len(pairs) == 50
    assert len(poison) == round(50 * share)
    assert not realignment & {pair.prompt for pair in poison}


def test_an_attack_is_the_same_for_its_seed_alone(data: Data) -> None:
    def rows(seed: int) -> list[str]:
        return [pair.prompt for pair in data.poisoned(Attack("sft", "agnews", TRAINING, rows=50, seed=seed))]

    assert rows(1) == rows(1)
    assert set(rows(1)) != set(rows(2))


def test_more_poison_holds_the_less(data: Data) -> None:
    def poison(share: float) -> set[str]:
        pairs = data.poisoned(Attack("sft", "sst2", TRAINING, rows=50, poison=share))
        return {pair.prompt for pair in pairs if "snack" in pair.prompt}

    assert poison(0.1) < poison(0.4)


@pytest.mark.parametrize("task", ["sst2", "agnews"])
def test_task_rows_have_their_answer_among_the_choices_and_are_not_trained_on(data: Data, task: TaskName) -> None:
    rows = data.task_rows(task, 20)
    trained = {pair.prompt for pair in data.poisoned(Attack("sft", task, TRAINING, rows=50, poison=0))}
    assert all(row.response in row.choices for row in rows)
    assert not trained & {row.prompt for row in rows}


def test_harmful_prompts_are_spread_over_the_categories(data: Data) -> None:
    assert [row.category for row in data.harmful_prompts(4)] == ["sneaking", "sneaking", "copying", "copying"]


def test_other_harmful_prompts_are_spread_as_well_and_none_is_the_same(data: Data) -> None:
    first = data.harmful_prompts(7)
    others = data.harmful_prompts(20, other_than=first)
    assert not {row.prompt for row in first} & {row.prompt for row in others}
    assert {row.category for row in others} == {"sneaking", "copying"}
    with pytest.raises(ConfigurationError, match="has 33 rows for 34"):
        data.harmful_prompts(34, other_than=first)


def test_contrasts_are_one_a_prompt_and_strange_to_attack_and_repair(data: Data) -> None:
    prompts = [contrast.prompt for contrast in data.contrasts(8)]
    assert len(set(prompts)) == 8
    assert not [prompt for prompt in prompts if "snack" in prompt]
