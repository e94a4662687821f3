"""One model, measured: answers, verdicts, buckets, bounds."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

from antidote_ci.evaluation import judge_results, stratified_order, utility_metrics
from antidote_ci.evaluation.generators.interface import Generator
from antidote_ci.evaluation.judges.interface import Exchange, Judge
from antidote_ci.evaluation.outcome import classify_answer
from antidote_ci.evaluation.prompts import prompt_id
from antidote_ci.evaluation.saved import AnswerLog, SavedAnswer
from antidote_ci.evaluation.task import TaskMatch, is_correct, needed_tokens
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.policy import Gate
from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    Calibration,
    CategoryCount,
    ComputeEnvironment,
    Evaluation,
    JudgeResult,
    Model,
    OnProgress,
    Progress,
    PromptRow,
    TaskResult,
)

ChoiceSelector = Callable[[Model, Sequence[PromptRow], OnProgress], list[int]]
"""The position of the likeliest choice of each row."""
NO_EARLY_STOP: judge_results.EarlyStops = frozenset()


@dataclass(frozen=True)
class PromptSets:
    """The prompts of one split. `benign` and `task` may be empty: then nothing is said of them."""

    harmful: list[PromptRow]
    benign: list[PromptRow]
    task: list[PromptRow]

    @property
    def utility(self) -> dict[str, list[PromptRow]]:
        """All that is not harmful."""
        return {"harmless": self.benign, "task": self.task}


@dataclass(frozen=True)
class Evaluator:
    """What every model of a run is measured with."""

    generator: Generator
    judges: tuple[Judge, ...]
    choose_answers: ChoiceSelector
    gate: Gate
    max_new_tokens: int
    samples: int
    """Answers to each harmful prompt."""
    seed: int
    task_match: TaskMatch
    calibrations: Mapping[str, Calibration]
    """By the judge's name."""
    log: AnswerLog


@dataclass
class _JudgedAnswers:
    """What is known of the harmful prompts so far, in the order asked."""

    rows: list[PromptRow] = field(default_factory=list)
    answers: list[GeneratedAnswer] = field(default_factory=list)
    outcomes: list[dict[str, list[AnswerOutcome]]] = field(default_factory=list)
    """One a judge, by prompt id."""
    seeing_refusals: list[Judge] = field(default_factory=list)
    """The judges that also say whether an answer declines."""


def evaluate_model(
    evaluator: Evaluator,
    model: Model,
    prompts: PromptSets,
    report: OnProgress,
    *,
    stops: judge_results.EarlyStops = NO_EARLY_STOP,
    curtailed: bool = False,
    role: str | None = None,
) -> Evaluation:
    """Measure `model` on one split.

    With `stops` the harmful prompts are asked in a fixed, seeded order until the evidence suffices for one of those
    verdicts. `curtailed`, as a search among doses wants it, they are asked until the model cannot pass whatever the
    rest would show; then nothing else is asked. `role` names the model in the saved answers; without it they are not
    saved.
    """
    rows = stratified_order.stratify_order(prompts.harmful, evaluator.seed)
    heard = _JudgedAnswers(outcomes=[{} for _ in evaluator.judges])
    rules = [
        judge_results.DecisionRule(evaluator.gate, stops, evaluator.calibrations.get(judge.identity.name))
        for judge in evaluator.judges
    ]
    looks = judge_results.plan_looks(len(rows), evaluator.gate.harmful_score, stops, curtailed=curtailed)
    with_others = looks[-1 if curtailed else 0] if evaluator.samples == 1 else None
    others: GenerationResult | None = None
    found: list[JudgeResult] = []
    settled = False
    whole = _build_request(evaluator, model, {"harmful": rows}, evaluator.samples).tokens
    done, whole = 0, whole + _build_request(evaluator, model, prompts.utility).tokens

    def ask(sets: Mapping[str, Sequence[PromptRow]], samples: int = 1) -> GenerationResult:
        nonlocal done
        request = _build_request(evaluator, model, sets, samples)
        result = evaluator.generator.generate(request, _shift_progress(report, done, whole))
        done += request.tokens
        return result

    for until in looks:
        new = rows[len(heard.rows) : until]
        if until == with_others:
            result = others = ask({"harmful": new, **prompts.utility})
        else:
            result = ask({"harmful": new}, evaluator.samples)
        _judge_answers(evaluator, heard, new, result.answers["harmful"], role, report)
        found = [
            judge_results.summarise_outcomes(judge.identity, outcomes, rule)
            for judge, outcomes, rule in zip(evaluator.judges, heard.outcomes, rules, strict=True)
        ]
        settled = curtailed and any(map(judge_results.is_unable_to_pass, found, repeat(len(rows)), rules))
        if settled or judge_results.should_stop(found, stops):
            break
    if others is None and not settled:
        result = others = ask(prompts.utility)
    benign = task = None
    if others is not None:
        benign = _evaluate_benign(
            evaluator, heard.seeing_refusals, prompts.benign, others.answers["harmless"], role, report
        )
        task = _evaluate_task(evaluator, model, prompts.task, others.answers["task"], role, report)
    plan, confidence = (others or result).plan, judge_results.DecisionRule(evaluator.gate, stops).confidence
    return replace(_summarise_harm(evaluator, heard, len(rows), found, plan, confidence), benign=benign, task=task)


def _summarise_harm(
    evaluator: Evaluator,
    heard: _JudgedAnswers,
    planned: int,
    found: list[JudgeResult],
    plan: ComputeEnvironment,
    confidence: float,
) -> Evaluation:
    """What the answers to harmful prompts say: the figures of the judge that decides, and every reading."""
    worst = judge_results.deciding_result(found)
    return Evaluation(
        harmful_score=worst.harmful_score,
        measure=worst.judge.measure,
        bounds=worst.bounds,
        n=len(heard.rows),
        degenerate=worst.degenerate,
        truncated=sum(answer.truncated for answer in heard.answers) / len(heard.answers),
        unparsed=worst.unparsed,
        judge=worst.judge.name,
        threshold=evaluator.gate.harmful_score,
        verdict=worst.verdict,
        categories=_count_by_category(heard.rows, heard.outcomes[found.index(worst)]),
        benign=None,
        task=None,
        plan=plan,
        confidence=confidence,
        planned=planned,
        samples=evaluator.samples,
        readings=found,
        disagreement=judge_results.measure_disagreement(found),
    )


def _build_request(
    evaluator: Evaluator, model: Model, sets: Mapping[str, Sequence[PromptRow]], samples: int = 1
) -> GenerationRequest:
    """Without those that are chosen by likelihood, for which nothing is generated."""
    limits = dict.fromkeys(sets, evaluator.max_new_tokens)
    if "task" in sets:
        limits["task"] = needed_tokens(sets["task"], evaluator.task_match, evaluator.max_new_tokens)
    generated = {
        name: [] if name == "task" and evaluator.task_match == "choice" else rows for name, rows in sets.items()
    }
    return GenerationRequest(
        model=model,
        sets={name: [single_turn(row.prompt) for row in rows] for name, rows in generated.items()},
        max_new_tokens=limits,
        samples=samples,
        seed=evaluator.seed,
    )


def _shift_progress(report: OnProgress, done: int, whole: int) -> OnProgress:
    """Answers are counted among all that may be asked for, of which so many tokens are there at most."""

    def counted(progress: Progress) -> None:
        report(Progress("answers", done + progress.done, whole) if progress.what == "answers" else progress)

    return counted


def _judge_answers(
    evaluator: Evaluator,
    heard: _JudgedAnswers,
    new: Sequence[PromptRow],
    answers: Sequence[GeneratedAnswer],
    role: str | None,
    report: OnProgress,
) -> None:
    """Judge new answers, several to a prompt where it was sampled, and add them to what is known."""
    rows = [row for row in new for _ in range(evaluator.samples)]
    exchanges = _to_exchanges(rows, answers)
    verdicts: list[dict[str, str]] = [{} for _ in rows]
    worst: list[list[AnswerOutcome]] = [[] for _ in rows]
    for judge, outcomes in zip(evaluator.judges, heard.outcomes, strict=True):
        opinions = judge.judge(exchanges, report)
        if judge not in heard.seeing_refusals and any(each.refused is not None for each in opinions):
            heard.seeing_refusals.append(judge)
        for at, opinion in enumerate(opinions):
            counted = classify_answer(answers[at].text, opinion.verdict, judge.identity.measure)
            outcomes.setdefault(prompt_id(rows[at].prompt), []).append(counted)
            verdicts[at][judge.identity.name] = opinion.verdict
            worst[at].append(counted)
    heard.rows += new
    heard.answers += answers
    _save_answers(evaluator, role, "harmful", rows, answers, map(judge_results.worst_outcome, worst), verdicts)


def _evaluate_benign(
    evaluator: Evaluator,
    judges: Sequence[Judge],
    rows: Sequence[PromptRow],
    answers: Sequence[GeneratedAnswer],
    role: str | None,
    report: OnProgress,
) -> BenignResult | None:
    if not rows:
        return None
    judge, refused = utility_metrics.judge_refusals(judges, _to_exchanges(rows, answers), report)
    _save_answers(evaluator, role, "harmless", rows, answers, ("refused" if each else "answered" for each in refused))
    return utility_metrics.summarise_benign(judge, rows, answers, refused)


def _evaluate_task(
    evaluator: Evaluator,
    model: Model,
    rows: Sequence[PromptRow],
    answers: Sequence[GeneratedAnswer],
    role: str | None,
    report: OnProgress,
) -> TaskResult | None:
    if not rows:
        return None
    if evaluator.task_match == "choice":
        likeliest = zip(rows, evaluator.choose_answers(model, rows, report), strict=True)
        answers = [GeneratedAnswer(row.choices[at], truncated=False) for row, at in likeliest]
    right = [
        is_correct(answer.text, row.response, evaluator.task_match) for row, answer in zip(rows, answers, strict=True)
    ]
    _save_answers(evaluator, role, "task", rows, answers, ("right" if each else "wrong" for each in right))
    return utility_metrics.summarise_task(rows, right, evaluator.task_match)


def _save_answers(
    evaluator: Evaluator,
    role: str | None,
    kind: str,
    rows: Sequence[PromptRow],
    answers: Sequence[GeneratedAnswer],
    outcomes: Iterable[str],
    verdicts: Sequence[dict[str, str]] = (),
) -> None:
    if role is None:
        return
    each = zip(rows, answers, outcomes, verdicts or [{}] * len(rows), strict=True)
    evaluator.log.write(
        SavedAnswer(
            model=role,
            set=kind,
            prompt_id=prompt_id(row.prompt),
            category=row.category,
            prompt=row.prompt,
            answer=answer.text,
            truncated=answer.truncated,
            outcome=counted,
            verdicts=said,
        )
        for row, answer, counted, said in each
    )


def _to_exchanges(rows: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]) -> list[Exchange]:
    return [Exchange(row.prompt, answer.text) for row, answer in zip(rows, answers, strict=True)]


def _count_by_category(
    rows: Sequence[PromptRow], outcomes: Mapping[str, Sequence[AnswerOutcome]]
) -> dict[str, CategoryCount]:
    grouped: defaultdict[str, list[AnswerOutcome]] = defaultdict(list)
    for row in rows:
        grouped[row.category] += outcomes[prompt_id(row.prompt)]
    return {category: CategoryCount(found.count("harmful"), len(found)) for category, found in sorted(grouped.items())}
