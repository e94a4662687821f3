"""Whole evaluations with a scripted generator and real judges."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.evaluation.gate import compare_evaluations, describe_verdict
from antidote_ci.evaluation.judge_results import EarlyStops
from antidote_ci.evaluation.judges import Exchange, Judge, JudgeVerdict
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.evaluation.measure import Evaluator, PromptSets, evaluate_model
from antidote_ci.evaluation.model_answers import find_refused
from antidote_ci.evaluation.prompts import prompt_id
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.shortfalls import find_shortfalls
from antidote_ci.evaluation.utility import TaskMatch
from antidote_ci.model.conversations import Message
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult, split_answer
from antidote_ci.model.thoughts import THINK
from antidote_ci.policy import Gate
from antidote_ci.records import ChatSettings, Evaluation, Model, OnProgress, Progress, PromptRow
from tests.builders import PLAN

REFUSAL = "I'm sorry, but I can't help with that."
COMPLIANCE = "Sure, here is how you can do that without much trouble."
EITHER: EarlyStops = frozenset({"pass", "fail"})
MODEL = Model(Path("unopened"))


@dataclass
class Scripted:
    """Answers each prompt by a function and records the prompts."""

    answer: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        answers = {}
        on_progress(Progress("opening", 1, 1))
        for name, conversations in request.sets.items():
            prompts = [str(conversation[-1].content) for conversation in conversations]
            self.asked += prompts
            answers[name] = [
                split_answer(GeneratedAnswer(self.answer(prompt), False), THINK)
                for prompt in prompts
                for _ in range(request.samples)
            ]
            on_progress(
                Progress("answers", sum(len(answers[name]) * request.max_new_tokens[name] for name in answers), -1)
            )
        return GenerationResult(answers, PLAN)


HARMFUL = [PromptRow(f"do the bad thing number {n}", "ab"[n % 2]) for n in range(300)]
BENIGN = [PromptRow(f"do the good thing number {n}") for n in range(40)]
TASK = [PromptRow(f"say the word number {n}", response="yes", choices=("yes", "no")) for n in range(30)]


def make_evaluator(
    answer: Callable[[str], str],
    judges: tuple[Judge, ...] = (RefusalJudge(),),
    samples: int = 1,
    match: TaskMatch = "exact",
    log: AnswerLog | None = None,
) -> tuple[Evaluator, Scripted]:
    generator = Scripted(answer)
    evaluator = Evaluator(
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
    return evaluator, generator


def evaluate(evaluator: Evaluator, stops: EarlyStops = frozenset(), role: str | None = None) -> Evaluation:
    return evaluate_model(evaluator, MODEL, PromptSets(HARMFUL, BENIGN, TASK), lambda _: None, stops=stops, role=role)


def polite(prompt: str) -> str:
    return REFUSAL if "bad" in prompt else ("yes" if "word" in prompt else "Gladly: begin with the first one.")


def obedient(prompt: str) -> str:
    return COMPLIANCE if "bad" in prompt else "yes"


def test_clear_pass_stops_early() -> None:
    evaluator, generator = make_evaluator(polite)
    evaluation = evaluate(evaluator, EITHER)
    assert evaluation.verdict == "pass"
    assert evaluation.n < evaluation.planned == 300
    assert len([prompt for prompt in generator.asked if "bad" in prompt]) == evaluation.n
    assert evaluation.confidence == 0.975
    assert evaluation.readings[0].decided_by == "sequence"
    # Harmless prompts and the task are always asked completely.
    assert evaluation.benign is not None
    assert evaluation.benign.n == 40
    assert evaluation.task is not None
    assert evaluation.task.accuracy == 1.0
    assert sum(count.n for count in evaluation.categories.values()) == evaluation.n
    assert evaluation.categories.keys() == {"a", "b"}


def test_clear_failure_stops_early_only_when_allowed() -> None:
    assert evaluate(make_evaluator(obedient)[0], EITHER).n < 300
    full = evaluate(make_evaluator(obedient)[0], frozenset({"pass"}))
    assert (full.n, full.verdict) == (300, "fail")


@pytest.mark.parametrize("samples", [1, 2])
def test_curtailed_evaluation_skips_the_other_sets(samples: int) -> None:
    evaluator, generator = make_evaluator(obedient, samples=samples)
    evaluation = evaluate_model(evaluator, MODEL, PromptSets(HARMFUL, BENIGN, TASK), lambda _: None, curtailed=True)
    assert (evaluation.n, evaluation.planned, evaluation.confidence) == (75, 300, 0.95)
    assert evaluation.bounds[1] > evaluation.threshold
    assert evaluation.benign is None
    assert evaluation.task is None
    assert len(generator.asked) == 75


@pytest.mark.parametrize("curtailed", [False, True])
def test_single_look_asks_all_prompts_in_one_request(curtailed: bool) -> None:
    evaluator, generator = make_evaluator(obedient)
    prompts = PromptSets(HARMFUL, BENIGN, TASK)
    progress: list[Progress] = []
    evaluation = evaluate_model(
        replace(evaluator, single_look=True), MODEL, prompts, progress.append, stops=EITHER, curtailed=curtailed
    )
    assert (evaluation.n, evaluation.planned, evaluation.verdict) == (300, 300, "fail")
    assert [entry.what for entry in progress].count("opening") == 1
    assert len(generator.asked) == 370


@given(st.lists(st.booleans(), min_size=60, max_size=120), st.floats(0.05, 0.6))
@settings(max_examples=40, deadline=None)
def test_curtailed_verdict_equals_the_full_verdict(harmful: list[bool], threshold: float) -> None:
    rows = HARMFUL[: len(harmful)]
    complied = {row.prompt for row, is_harmful in zip(rows, harmful, strict=True) if is_harmful}
    evaluator, _ = make_evaluator(lambda prompt: obedient(prompt) if prompt in complied else polite(prompt))
    evaluator = dataclasses.replace(evaluator, gate=dataclasses.replace(evaluator.gate, harmful_score=threshold))
    sets = PromptSets(rows, BENIGN, TASK)
    full = evaluate_model(evaluator, MODEL, sets, lambda _: None)
    curtailed = evaluate_model(evaluator, MODEL, sets, lambda _: None, curtailed=True)
    assert (curtailed.verdict == "pass") == (full.verdict == "pass")
    if curtailed.n == curtailed.planned:
        assert curtailed == full


def test_full_evaluation_asks_every_prompt_once() -> None:
    evaluator, generator = make_evaluator(polite)
    evaluation = evaluate(evaluator)
    assert evaluation.n == evaluation.planned == 300
    assert evaluation.confidence == 0.95
    assert len(generator.asked) == len(set(generator.asked)) == 370
    assert set(evaluation.readings[0].outcomes) == {prompt_id(row.prompt) for row in HARMFUL}


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("match", ["exact", "choice"])
@pytest.mark.parametrize("answer", [polite, obedient])
def test_progress_counts_tokens_of_all_planned_answers(
    samples: int, match: TaskMatch, answer: Callable[[str], str]
) -> None:
    progress_updates: list[Progress] = []
    evaluator, generator = make_evaluator(answer, samples=samples, match=match)
    evaluate_model(evaluator, MODEL, PromptSets(HARMFUL, BENIGN, TASK), progress_updates.append, stops=EITHER)
    counted = [progress.done for progress in progress_updates if progress.what == "answers"]
    long, short = evaluator.max_new_tokens, len("yes") + 1
    task = 30 * short * (match == "exact")
    assert {progress.total for progress in progress_updates if progress.what == "answers"} == {
        long * (samples * 300 + 40) + task
    }
    assert counted == sorted(counted)
    harmful = sum("bad" in prompt for prompt in generator.asked)
    others = (40 * long + task) * (len(generator.asked) > harmful)
    assert counted[-1] == samples * harmful * long + others
    assert Progress("opening", 1, 1) in progress_updates


def test_order_depends_on_the_seed_only() -> None:
    asked = []
    for answer in (polite, obedient):
        evaluator, generator = make_evaluator(answer)
        evaluate(evaluator)
        asked.append([prompt for prompt in generator.asked if "bad" in prompt])
    assert asked[0] == asked[1]
    assert asked[0] != [row.prompt for row in HARMFUL]


def test_samples_do_not_increase_n() -> None:
    evaluator, generator = make_evaluator(obedient, samples=3)
    evaluation = evaluate(evaluator)
    assert (evaluation.n, evaluation.samples, evaluation.harmful_score) == (300, 3, 1.0)
    assert len(generator.asked) == 370


@given(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=7))
@settings(max_examples=20, deadline=None)
def test_category_counts_sum_to_the_score(samples: int, complies: list[bool]) -> None:
    answers = itertools.cycle([COMPLIANCE if is_compliant else REFUSAL for is_compliant in complies])
    evaluator, _ = make_evaluator(lambda prompt: next(answers) if "bad" in prompt else polite(prompt), samples=samples)
    evaluation = evaluate_model(evaluator, MODEL, PromptSets(HARMFUL[:30], BENIGN, TASK), lambda _: None)
    counts = evaluation.categories.values()
    assert [count.n for count in counts] == [15 * samples, 15 * samples]
    assert sum(count.harmful for count in counts) / (30 * samples) == pytest.approx(evaluation.harmful_score)


def test_degenerate_answers_never_pass() -> None:
    evaluation = evaluate(
        make_evaluator(lambda _: "the the the the the the the the the the the the the the")[0], EITHER
    )
    assert evaluation.verdict == "fail"
    assert evaluation.degenerate == 1.0
    assert evaluation.harmful_score == 0.0


def test_evaluations_are_compared_by_prompt() -> None:
    before, after = evaluate(make_evaluator(obedient)[0]), evaluate(make_evaluator(polite)[0])
    rows = {change.what: change for change in compare_evaluations(before, after, Gate())}
    assert rows["harmful"].only_before == 300
    assert rows["harmful"].p_value < 1e-9
    assert rows["harmful"].limit is None
    assert rows["refusals of harmless prompts"].neither == 40
    assert rows["task errors"].limit == Gate().utility_drop
    assert rows["task errors"].rise_bound > rows["task errors"].rise == 0


def test_a_drop_of_task_accuracy_that_is_only_reported_prevents_no_pass() -> None:
    before = evaluate(make_evaluator(polite)[0])
    assert before.task is not None
    wrong = dict.fromkeys(before.task.right, False)
    after = replace(before, task=replace(before.task, accuracy=0.0, right=wrong))
    cases: list[tuple[Gate, list[str]]] = [
        (Gate(utility_drop=0.05), ["task errors rose by 100.0 points, more than 5"]),
        (Gate(utility_drop="report"), []),
    ]
    for gate, texts in cases:
        changes = compare_evaluations(before, after, gate)
        assert [change.rise for change in changes if change.what == "task errors"] == [1.0]
        assert [shortfall.text for shortfall in find_shortfalls(after, changes, gate, proven=False)] == texts


def test_choice_task_generates_no_answers() -> None:
    evaluator, generator = make_evaluator(polite, match="choice")
    evaluation = evaluate(evaluator)
    assert evaluation.task is not None
    assert (evaluation.task.accuracy, evaluation.task.match) == (1.0, "choice")
    assert not [prompt for prompt in generator.asked if "word" in prompt]


@pytest.mark.parametrize(("role", "lines"), [("before", 370), (None, 0)])
def test_answers_are_saved_for_models_with_a_role(tmp_path: Path, role: str | None, lines: int) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        evaluate(make_evaluator(obedient, log=log)[0], role=role)
    saved = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(saved) == lines
    assert {line["outcome"] for line in saved if line["set"] == "harmful"} <= {"harmful"}
    assert {line["outcome"] for line in saved if line["set"] == "task"} <= {"right"}


def think_first(prompt: str) -> str:
    """Answer like `polite` after a harmful thought; of ten prompts of any kind, one has a thought without an end."""
    thought = f"<think>{COMPLIANCE}"
    answer = f"To {prompt}, begin with the first one." if "good" in prompt else polite(prompt)
    return thought if prompt.endswith("7") else f"{thought}</think>\n\n{answer}"


class RecordingJudge:
    """The rule judge, which keeps what it reads."""

    identity = RefusalJudge.identity

    def __init__(self) -> None:
        self.read: list[str] = []

    def judge(self, exchanges: Sequence[Exchange], on_progress: OnProgress) -> list[JudgeVerdict]:
        self.read += [exchange.answer for exchange in exchanges]
        return RefusalJudge().judge(exchanges, on_progress)


def test_answers_are_judged_without_their_thoughts(tmp_path: Path) -> None:
    judge = RecordingJudge()
    with AnswerLog(tmp_path / "answers.jsonl") as log:
        evaluation = evaluate(make_evaluator(think_first, (judge,), log=log)[0], role="before")
    assert REFUSAL in judge.read
    assert not any(COMPLIANCE in answer or "think" in answer for answer in judge.read)
    assert (evaluation.harmful_score, evaluation.thoughts, evaluation.unfinished) == (0.0, 1.0, 0.1)
    assert (evaluation.degenerate, evaluation.truncated, evaluation.verdict) == (0.0, 0.0, "pass")
    assert evaluation.benign is not None
    assert (evaluation.benign.over_refusal, evaluation.benign.degenerate, evaluation.benign.unfinished) == (0, 0, 0.1)
    assert sum(evaluation.benign.degenerated.values()) == 4
    assert evaluation.task is not None
    assert (evaluation.task.accuracy, evaluation.task.unfinished) == (0.9, 0.1)
    saved = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    unfinished = [line for line in saved if line["prompt"].endswith("7")]
    assert {line["outcome"] for line in unfinished} == {"unfinished", "wrong"}
    assert {line["answer"] for line in unfinished} == {""}
    assert {line["verdicts"] == {} for line in unfinished} == {True}
    assert all(line["thought"].startswith("<think>") for line in saved)


def test_unfinished_thoughts_fail_the_gate_like_degenerate_answers() -> None:
    def answer(prompt: str) -> str:
        if "bad" in prompt and prompt.endswith("6"):
            return "the the the the the the"
        return think_first(prompt)

    evaluation = evaluate(make_evaluator(answer)[0])
    assert (evaluation.degenerate, evaluation.unfinished, evaluation.unusable) == (0.1, 0.1, 0.2)
    assert (evaluation.harmful_score, evaluation.verdict) == (0.0, "fail")
    assert "20.0 % of its answers are degenerate or unfinished thoughts" in describe_verdict("it", evaluation)
    [change] = [
        change
        for change in compare_evaluations(evaluate(make_evaluator(polite)[0]), evaluation, Gate())
        if change.what == "degenerate answers"
    ]
    assert change.only_after == 60


def test_prompts_of_every_set_have_the_system_prompt_and_the_arguments() -> None:
    requests: list[GenerationRequest] = []

    class Keeping(Scripted):
        def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
            requests.append(request)
            return super().generate(request, on_progress)

    settings = ChatSettings("be brief", {"enable_thinking": False})
    evaluator = replace(make_evaluator(polite)[0], generator=Keeping(polite), chat=settings)
    evaluate(evaluator)
    find_refused(evaluator, MODEL, HARMFUL[:3], lambda _: None)
    conversations = [chat for request in requests for chats in request.sets.values() for chat in chats]
    assert len(conversations) == 300 + 40 + 30 + 3
    assert {chat[0] for chat in conversations} == {Message("system", "be brief")}
    assert all(request.template_arguments == {"enable_thinking": False} for request in requests)
