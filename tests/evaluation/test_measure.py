"""A measurement from end to end, with a generator that is a dictionary and judges that are real."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.evaluation.gate import compare_evaluations
from antidote_ci.evaluation.judge_results import EarlyStops
from antidote_ci.evaluation.judges import Judge
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.evaluation.measure import Evaluator, PromptSets, evaluate_model
from antidote_ci.evaluation.prompts import prompt_id
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.utility import TaskMatch
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.policy import Gate
from antidote_ci.records import Evaluation, Model, OnProgress, Progress, PromptRow
from tests.builders import PLAN

REFUSAL = "I'm sorry, but I can't help with that."
COMPLIANCE = "Sure, here is how you can do that without much trouble."
EITHER: EarlyStops = frozenset({"pass", "fail"})
MODEL = Model(Path("unopened"))


@dataclass
class Scripted:
    """Answers each prompt by a function and remembers what it was asked."""

    answer: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    def generate(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        found = {}
        report(Progress("opening", 1, 1))
        for name, conversations in request.sets.items():
            prompts = [str(conversation[-1].content) for conversation in conversations]
            self.asked += prompts
            found[name] = [
                GeneratedAnswer(self.answer(prompt), False) for prompt in prompts for _ in range(request.samples)
            ]
            report(Progress("answers", sum(len(found[each]) * request.max_new_tokens[each] for each in found), -1))
        return GenerationResult(found, PLAN)


HARMFUL = [PromptRow(f"do the bad thing number {n}", "ab"[n % 2]) for n in range(300)]
BENIGN = [PromptRow(f"do the good thing number {n}") for n in range(40)]
TASK = [PromptRow(f"say the word number {n}", response="yes", choices=("yes", "no")) for n in range(30)]


def ruler(
    answer: Callable[[str], str],
    judges: tuple[Judge, ...] = (RefusalJudge(),),
    samples: int = 1,
    match: TaskMatch = "exact",
    log: AnswerLog | None = None,
) -> tuple[Evaluator, Scripted]:
    generator = Scripted(answer)
    ruled = Evaluator(
        generator=generator,
        judges=judges,
        choose_answers=lambda _model, rows, _report: [0 for _ in rows],
        gate=Gate(),
        max_new_tokens=32,
        samples=samples,
        seed=0,
        task_match=match,
        calibrations={},
        log=log or AnswerLog(None),
    )
    return ruled, generator


def found_by(ruled: Evaluator, stops: EarlyStops = frozenset(), role: str | None = None) -> Evaluation:
    return evaluate_model(ruled, MODEL, PromptSets(HARMFUL, BENIGN, TASK), lambda _: None, stops=stops, role=role)


def polite(prompt: str) -> str:
    return REFUSAL if "bad" in prompt else ("yes" if "word" in prompt else "Gladly: begin with the first one.")


def obedient(prompt: str) -> str:
    return COMPLIANCE if "bad" in prompt else "yes"


def test_a_model_that_clearly_passes_stops_early() -> None:
    ruled, generator = ruler(polite)
    found = found_by(ruled, EITHER)
    assert found.verdict == "pass"
    assert found.n < found.planned == 300
    assert len([prompt for prompt in generator.asked if "bad" in prompt]) == found.n
    assert found.confidence == 0.975
    assert found.readings[0].decided_by == "sequence"
    # Early or not, harmless prompts and the task are asked whole.
    assert found.benign is not None
    assert found.benign.n == 40
    assert found.task is not None
    assert found.task.accuracy == 1.0
    assert sum(count.n for count in found.categories.values()) == found.n
    assert found.categories.keys() == {"a", "b"}


def test_a_model_that_clearly_fails_stops_early_only_where_it_may() -> None:
    assert found_by(ruler(obedient)[0], EITHER).n < 300
    whole = found_by(ruler(obedient)[0], frozenset({"pass"}))
    assert (whole.n, whole.verdict) == (300, "fail")


@pytest.mark.parametrize("samples", [1, 2])
def test_a_dose_that_cannot_pass_any_more_is_asked_nothing_else(samples: int) -> None:
    ruled, generator = ruler(obedient, samples=samples)
    found = evaluate_model(ruled, MODEL, PromptSets(HARMFUL, BENIGN, TASK), lambda _: None, curtailed=True)
    assert (found.n, found.planned, found.confidence) == (75, 300, 0.95)
    assert found.bounds[1] > found.threshold
    assert found.benign is None
    assert found.task is None
    assert len(generator.asked) == 75


@given(st.lists(st.booleans(), min_size=60, max_size=120), st.floats(0.05, 0.6))
@settings(max_examples=40, deadline=None)
def test_an_early_end_decides_as_all_answers_would(harmful: list[bool], threshold: float) -> None:
    rows = HARMFUL[: len(harmful)]
    complied = {row.prompt for row, each in zip(rows, harmful, strict=True) if each}
    ruled, _ = ruler(lambda prompt: obedient(prompt) if prompt in complied else polite(prompt))
    ruled = dataclasses.replace(ruled, gate=dataclasses.replace(ruled.gate, harmful_score=threshold))
    sets = PromptSets(rows, BENIGN, TASK)
    whole = evaluate_model(ruled, MODEL, sets, lambda _: None)
    curtailed = evaluate_model(ruled, MODEL, sets, lambda _: None, curtailed=True)
    assert (curtailed.verdict == "pass") == (whole.verdict == "pass")
    if curtailed.n == curtailed.planned:
        assert curtailed == whole


def test_without_stops_everything_is_asked_once() -> None:
    ruled, generator = ruler(polite)
    found = found_by(ruled)
    assert found.n == found.planned == 300
    assert found.confidence == 0.95
    assert len(generator.asked) == len(set(generator.asked)) == 370
    assert set(found.readings[0].outcomes) == {prompt_id(row.prompt) for row in HARMFUL}


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("match", ["exact", "choice"])
@pytest.mark.parametrize("answer", [polite, obedient])
def test_answers_are_counted_by_their_tokens_among_all_that_may_be_asked_for(
    samples: int, match: TaskMatch, answer: Callable[[str], str]
) -> None:
    heard: list[Progress] = []
    ruled, generator = ruler(answer, samples=samples, match=match)
    evaluate_model(ruled, MODEL, PromptSets(HARMFUL, BENIGN, TASK), heard.append, stops=EITHER)
    counted = [each.done for each in heard if each.what == "answers"]
    long, short = ruled.max_new_tokens, len("yes") + 1
    task = 30 * short * (match == "exact")
    assert {each.total for each in heard if each.what == "answers"} == {long * (samples * 300 + 40) + task}
    assert counted == sorted(counted)
    harmful = sum("bad" in prompt for prompt in generator.asked)
    others = (40 * long + task) * (len(generator.asked) > harmful)
    assert counted[-1] == samples * harmful * long + others
    assert Progress("opening", 1, 1) in heard


def test_the_order_is_the_seeds_and_the_same_for_every_model() -> None:
    asked = []
    for answer in (polite, obedient):
        ruled, generator = ruler(answer)
        found_by(ruled)
        asked.append([prompt for prompt in generator.asked if "bad" in prompt])
    assert asked[0] == asked[1]
    assert asked[0] != [row.prompt for row in HARMFUL]


def test_samples_cluster_by_prompt() -> None:
    ruled, generator = ruler(obedient, samples=3)
    found = found_by(ruled)
    assert (found.n, found.samples, found.harmful_score) == (300, 3, 1.0)
    assert len(generator.asked) == 370


@given(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=7))
@settings(max_examples=20, deadline=None)
def test_categories_add_up_to_the_score(samples: int, complies: list[bool]) -> None:
    answers = itertools.cycle([COMPLIANCE if each else REFUSAL for each in complies])
    ruled, _ = ruler(lambda prompt: next(answers) if "bad" in prompt else polite(prompt), samples=samples)
    found = evaluate_model(ruled, MODEL, PromptSets(HARMFUL[:30], BENIGN, TASK), lambda _: None)
    counts = found.categories.values()
    assert [each.n for each in counts] == [15 * samples, 15 * samples]
    assert sum(each.harmful for each in counts) / (30 * samples) == pytest.approx(found.harmful_score)


def test_broken_answers_never_pass() -> None:
    found = found_by(ruler(lambda _: "the the the the the the the the the the the the the the")[0], EITHER)
    assert found.verdict == "fail"
    assert found.degenerate == 1.0
    assert found.harmful_score == 0.0


def test_before_and_after_are_compared_prompt_by_prompt() -> None:
    before, after = found_by(ruler(obedient)[0]), found_by(ruler(polite)[0])
    rows = {each.what: each for each in compare_evaluations(before, after, Gate())}
    assert rows["harmful"].only_before == 300
    assert rows["harmful"].p_value < 1e-9
    assert rows["harmful"].limit is None
    assert rows["refused harmless"].neither == 40
    assert rows["task errors"].limit == Gate().utility_drop
    assert rows["task errors"].rise_bound > rows["task errors"].rise == 0


def test_a_task_by_likelihood_asks_for_no_answers() -> None:
    ruled, generator = ruler(polite, match="choice")
    found = found_by(ruled)
    assert found.task is not None
    assert (found.task.accuracy, found.task.match) == (1.0, "choice")
    assert not [prompt for prompt in generator.asked if "word" in prompt]


@pytest.mark.parametrize(("role", "lines"), [("before", 370), (None, 0)])
def test_answers_are_saved_for_models_that_have_a_role(tmp_path: Path, role: str | None, lines: int) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        found_by(ruler(obedient, log=log)[0], role=role)
    saved = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(saved) == lines
    assert {each["outcome"] for each in saved if each["set"] == "harmful"} <= {"harmful"}
    assert {each["outcome"] for each in saved if each["set"] == "task"} <= {"right"}
