"""Evaluates one model on one split: answers, verdicts, outcomes, bounds."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from antidote_ci.evaluation import judge_results, kinds, utility
from antidote_ci.evaluation.generators import Generator
from antidote_ci.evaluation.judges import Exchange, Judge
from antidote_ci.evaluation.prompts import prompt_id, stratify_order
from antidote_ci.evaluation.saved import AnswerLog, SavedAnswer
from antidote_ci.evaluation.utility import TaskMatch
from antidote_ci.model.conversations import NO_SETTINGS, Conversation, single_turn
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.policy import DEFAULT_THOUGHT_TOKENS, Gate
from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    Calibration,
    CategoryCount,
    ChatSettings,
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
"""Returns the index of the likeliest choice of each row."""
NO_EARLY_STOP: judge_results.EarlyStops = frozenset()


@dataclass(frozen=True)
class PromptSets:
    """The prompts of one split. Without `benign` or `task` that result is None."""

    harmful: list[PromptRow]
    benign: list[PromptRow]
    task: list[PromptRow]
    unseen: list[PromptRow] = field(default_factory=list)
    """Harmful prompts of a kind that the repair does not read. They are reported apart from the harmful score."""

    @property
    def others(self) -> dict[str, list[PromptRow]]:
        """The sets that do not count in the harmful score."""
        return {"harmless": self.benign, "task": self.task, "unseen": self.unseen}


@dataclass(frozen=True)
class Evaluator:
    """The generator, judges and settings that evaluate every model of a run."""

    generator: Generator
    judges: tuple[Judge, ...]
    choose_answers: ChoiceSelector
    gate: Gate
    max_new_tokens: int
    samples: int
    """Answers per harmful prompt."""
    seed: int
    task_match: TaskMatch
    calibrations: Mapping[str, Calibration]
    """By the name of the judge."""
    log: AnswerLog
    chat: ChatSettings = NO_SETTINGS
    """How every prompt is put to every model."""
    max_thought_tokens: int = DEFAULT_THOUGHT_TOKENS
    single_look: bool = False
    """Ask all prompts at once: a server would be started again for each look, and a large model loads for minutes."""


def evaluate_model(
    evaluator: Evaluator,
    model: Model,
    prompts: PromptSets,
    on_progress: OnProgress,
    *,
    stops: judge_results.EarlyStops = NO_EARLY_STOP,
    curtailed: bool = False,
    role: str | None = None,
) -> Evaluation:
    """Evaluate `model` on one split.

    With `stops` the harmful prompts are asked in a seeded order until the evidence decides one of those verdicts. With
    `curtailed`, for the dose search, they are asked until the model cannot pass any more, and then the other sets are
    skipped. `role` names the model in the saved answers; without it no answers are saved.
    """
    rows = stratify_order(prompts.harmful, evaluator.seed)
    rules = [
        judge_results.DecisionRule(evaluator.gate, stops, evaluator.calibrations.get(judge.identity.name))
        for judge in evaluator.judges
    ]
    looks = judge_results.plan_looks(len(rows), evaluator.gate.harmful_score, stops, curtailed=curtailed)
    if evaluator.single_look:
        looks = looks[-1:]
    # One request for several sets loads the weights once. Only harmful prompts are sampled more than once.
    combined_look = looks[-1 if curtailed else 0] if evaluator.samples == 1 else None
    progress = _EvaluationProgress(evaluator, model, role, on_progress, _count_tokens(evaluator, model, prompts))
    others: GenerationResult | None = None
    results: list[JudgeResult] = []
    cannot_pass = False
    for look in looks:
        new = rows[len(progress.rows) : look]
        if look == combined_look:
            generated = others = progress.generate({"harmful": new, **prompts.others})
        else:
            generated = progress.generate({"harmful": new}, evaluator.samples)
        progress.judge_harmful(new, generated.answers["harmful"])
        results = [
            judge_results.summarise_outcomes(judge.identity, outcomes, rule)
            for judge, outcomes, rule in zip(evaluator.judges, progress.outcomes, rules, strict=True)
        ]
        cannot_pass = curtailed and any(
            judge_results.is_unable_to_pass(result, len(rows), rule)
            for result, rule in zip(results, rules, strict=True)
        )
        if cannot_pass or judge_results.should_stop(results, evaluator.gate.harmful_score):
            break
    if others is None and not cannot_pass:
        others = progress.generate(prompts.others)
    return _build_evaluation(progress, prompts, results, others, plan=generated.plan, confidence=rules[0].confidence)


def _count_tokens(evaluator: Evaluator, model: Model, prompts: PromptSets) -> int:
    """Return the most tokens that the answers to all prompts can have."""
    harmful = _build_request(evaluator, model, {"harmful": prompts.harmful}, evaluator.samples)
    return harmful.tokens + _build_request(evaluator, model, prompts.others).tokens


def _build_evaluation(
    progress: "_EvaluationProgress",
    prompts: PromptSets,
    results: list[JudgeResult],
    others: GenerationResult | None,
    *,
    plan: ComputeEnvironment,
    confidence: float,
) -> Evaluation:
    """Judge the answers to the sets that do not count in the harmful score, and summarise all results."""
    evaluator = progress.evaluator
    worst = judge_results.deciding_result(results)
    deciding = results.index(worst)
    benign = task = None
    unseen: dict[str, list[AnswerOutcome]] = {}
    if others is not None:
        benign = progress.evaluate_benign(prompts.benign, others.answers["harmless"])
        task = progress.evaluate_task(prompts.task, others.answers["task"])
        unseen = progress.judge_answers("unseen", prompts.unseen, others.answers["unseen"])[deciding]
    return Evaluation(
        harmful_score=worst.harmful_score,
        measure=worst.judge.measure,
        bounds=worst.bounds,
        n=len(progress.rows),
        degenerate=worst.degenerate,
        truncated=_share(answer.truncated and not answer.unfinished for answer in progress.answers),
        unparsed=worst.unparsed,
        judge=worst.judge.name,
        threshold=evaluator.gate.harmful_score,
        verdict=worst.verdict,
        categories=_count_by_category(progress.rows, progress.outcomes[deciding]),
        benign=benign,
        task=task,
        plan=plan,
        confidence=confidence,
        planned=len(prompts.harmful),
        samples=evaluator.samples,
        readings=results,
        disagreement=judge_results.measure_disagreement(results),
        kinds=[
            *kinds.summarise_kinds(progress.rows, progress.outcomes[deciding]),
            *kinds.summarise_kinds(prompts.unseen, unseen, unseen=True),
        ],
        thoughts=_share(bool(answer.thought) for answer in progress.answers),
        unfinished=worst.unfinished,
    )


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)


@dataclass
class _EvaluationProgress:
    """The state of one evaluation."""

    evaluator: Evaluator
    model: Model
    role: str | None
    on_progress: OnProgress
    total_tokens: int
    """Tokens of all answers at most."""
    done_tokens: int = 0
    rows: list[PromptRow] = field(default_factory=list)
    """The harmful prompts that were answered, in order."""
    answers: list[GeneratedAnswer] = field(default_factory=list)
    refusal_judge: Judge | None = None
    """The first judge that also detects refusals."""

    def __post_init__(self) -> None:
        self.outcomes: list[dict[str, list[AnswerOutcome]]] = [{} for _ in self.evaluator.judges]
        """For each judge, by prompt id."""

    def generate(self, sets: Mapping[str, Sequence[PromptRow]], samples: int = 1) -> GenerationResult:
        request = _build_request(self.evaluator, self.model, sets, samples)
        done = self.done_tokens

        def forward_progress(progress: Progress) -> None:
            if progress.what == "answers":
                progress = Progress("answers", done + progress.done, self.total_tokens)
            self.on_progress(progress)

        result = self.evaluator.generator.generate(request, forward_progress)
        self.done_tokens += request.tokens
        return result

    def judge_harmful(self, new: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]) -> None:
        """Judge new answers, `samples` per prompt, and add them to the state."""
        rows = [row for row in new for _ in range(self.evaluator.samples)]
        for outcomes, judged in zip(self.outcomes, self.judge_answers("harmful", rows, answers), strict=True):
            outcomes.update(judged)
        self.rows += new
        self.answers += answers

    def judge_answers(
        self, set_name: str, rows: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]
    ) -> list[dict[str, list[AnswerOutcome]]]:
        """Return for each judge the outcomes by prompt id, of one answer to each row. The answers are saved.

        A thought without an end has no answer, so it is not judged.
        """
        finished = [index for index, answer in enumerate(answers) if not answer.unfinished]
        exchanges = _to_exchanges([rows[index] for index in finished], [answers[index] for index in finished])
        verdicts: list[dict[str, str]] = [{} for _ in rows]
        all_outcomes: list[list[AnswerOutcome]] = [[] for _ in rows]
        by_judge: list[dict[str, list[AnswerOutcome]]] = []
        for judge in self.evaluator.judges:
            judged = judge.judge(exchanges, self.on_progress) if exchanges else []
            if self.refusal_judge is None and any(verdict.refused is not None for verdict in judged):
                self.refusal_judge = judge
            measure = judge.identity.measure
            outcomes: list[AnswerOutcome] = ["unfinished"] * len(answers)
            for index, verdict in zip(finished, judged, strict=True):
                outcomes[index] = judge_results.classify_answer(answers[index].text, verdict.verdict, measure)
                verdicts[index][judge.identity.name] = verdict.verdict
            by_judge.append({})
            for index, outcome in enumerate(outcomes):
                by_judge[-1].setdefault(prompt_id(rows[index].prompt), []).append(outcome)
                all_outcomes[index].append(outcome)
        self.save(set_name, rows, answers, map(judge_results.worst_outcome, all_outcomes), verdicts)
        return by_judge

    def evaluate_benign(self, rows: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]) -> BenignResult | None:
        if not rows:
            return None
        judge, refused = utility.judge_refusals(self.refusal_judge, _to_exchanges(rows, answers), self.on_progress)
        # A thought without an end is neither a refusal nor an answer.
        refused = [is_refusal and not answer.unfinished for is_refusal, answer in zip(refused, answers, strict=True)]
        outcomes = (
            "unfinished" if answer.unfinished else "refused" if is_refusal else "answered"
            for answer, is_refusal in zip(answers, refused, strict=True)
        )
        self.save("harmless", rows, answers, outcomes)
        return utility.summarise_benign(judge, rows, answers, refused)

    def evaluate_task(self, rows: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]) -> TaskResult | None:
        if not rows:
            return None
        match = self.evaluator.task_match
        if match == "choice":
            choices = self.evaluator.choose_answers(self.model, rows, self.on_progress)
            answers = [
                GeneratedAnswer(row.choices[choice], truncated=False) for row, choice in zip(rows, choices, strict=True)
            ]
        correct = [
            utility.is_correct(answer.text, row.response, match) for row, answer in zip(rows, answers, strict=True)
        ]
        self.save("task", rows, answers, ("right" if is_right else "wrong" for is_right in correct))
        return utility.summarise_task(rows, answers, correct, match)

    def save(
        self,
        set_name: str,
        rows: Sequence[PromptRow],
        answers: Sequence[GeneratedAnswer],
        outcomes: Iterable[str],
        verdicts: Sequence[dict[str, str]] = (),
    ) -> None:
        """Save the answers when the model has a role."""
        if self.role is None:
            return
        self.evaluator.log.write(
            SavedAnswer(
                model=self.role,
                set=set_name,
                prompt_id=prompt_id(row.prompt),
                category=row.category,
                prompt=row.prompt,
                answer=answer.text,
                thought=answer.thought,
                truncated=answer.truncated,
                outcome=outcome,
                verdicts=by_judge,
            )
            for row, answer, outcome, by_judge in zip(
                rows, answers, outcomes, verdicts or [{}] * len(rows), strict=True
            )
        )


def _build_request(
    evaluator: Evaluator, model: Model, sets: Mapping[str, Sequence[PromptRow]], samples: int = 1
) -> GenerationRequest:
    """Return the request for these sets. A task with choices needs no generated answers."""
    limits = dict.fromkeys(sets, evaluator.max_new_tokens)
    if "task" in sets:
        limits["task"] = utility.needed_tokens(sets["task"], evaluator.task_match, evaluator.max_new_tokens)
        if evaluator.task_match == "choice":
            sets = {**sets, "task": []}
    return GenerationRequest(
        model=model,
        sets={name: to_conversations(evaluator, rows) for name, rows in sets.items()},
        max_new_tokens=limits,
        samples=samples,
        seed=evaluator.seed,
        template_arguments=evaluator.chat.template_arguments,
        max_thought_tokens=evaluator.max_thought_tokens,
    )


def to_conversations(evaluator: Evaluator, rows: Sequence[PromptRow]) -> list[Conversation]:
    """Return one conversation per prompt, with the system prompt of the run."""
    return [single_turn(row.prompt, evaluator.chat.system_prompt) for row in rows]


def _to_exchanges(rows: Sequence[PromptRow], answers: Sequence[GeneratedAnswer]) -> list[Exchange]:
    return [Exchange(row.prompt, answer.text) for row, answer in zip(rows, answers, strict=True)]


def _count_by_category(
    rows: Sequence[PromptRow], outcomes: Mapping[str, Sequence[AnswerOutcome]]
) -> dict[str, CategoryCount]:
    categories: defaultdict[str, list[AnswerOutcome]] = defaultdict(list)
    for row in rows:
        categories[row.category] += outcomes[prompt_id(row.prompt)]
    return {
        category: CategoryCount(answers.count("harmful"), len(answers))
        for category, answers in sorted(categories.items())
    }
