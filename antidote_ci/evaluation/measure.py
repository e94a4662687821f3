"""One model, measured: answers, verdicts, buckets, bounds."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

from antidote_ci.evaluation import judge_results, stratified_order, utility_metrics
from antidote_ci.evaluation.generators.interface import Generator
from antidote_ci.evaluation.judges.interface import Exchange, Judge
from antidote_ci.evaluation.outcome import outcome
from antidote_ci.evaluation.prompts import identity
from antidote_ci.evaluation.saved import AnswerLog, SavedAnswer
from antidote_ci.evaluation.task import Match, is_right, tokens_needed
from antidote_ci.model.conversations import asked
from antidote_ci.model.generation import Answer, GenerationRequest, GenerationResult
from antidote_ci.policy import Gate
from antidote_ci.records import (
    Benign,
    Calibration,
    CategoryCount,
    Evaluation,
    Model,
    OnProgress,
    Outcome,
    Plan,
    Progress,
    Reading,
    Row,
    Task,
)

Chooser = Callable[[Model, Sequence[Row], OnProgress], list[int]]
"""The position of the likeliest choice of each row."""
NEVER: judge_results.Stops = frozenset()


@dataclass(frozen=True)
class PromptSets:
    """The prompts of one split. `benign` and `task` may be empty: then nothing is said of them."""

    harmful: list[Row]
    benign: list[Row]
    task: list[Row]

    @property
    def others(self) -> dict[str, list[Row]]:
        """All that is not harmful."""
        return {"harmless": self.benign, "task": self.task}


@dataclass(frozen=True)
class Ruler:
    """What every model of a run is measured with."""

    generator: Generator
    judges: tuple[Judge, ...]
    choose: Chooser
    gate: Gate
    max_new_tokens: int
    samples: int
    """Answers to each harmful prompt."""
    seed: int
    task_match: Match
    calibrations: Mapping[str, Calibration]
    """By the judge's name."""
    log: AnswerLog


@dataclass
class _Heard:
    """What is known of the harmful prompts so far, in the order asked."""

    rows: list[Row] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    outcomes: list[dict[str, list[Outcome]]] = field(default_factory=list)
    """One a judge, by prompt id."""
    seeing_refusals: list[Judge] = field(default_factory=list)
    """The judges that also say whether an answer declines."""


def measure(
    ruler: Ruler,
    model: Model,
    prompts: PromptSets,
    report: OnProgress,
    *,
    stops: judge_results.Stops = NEVER,
    curtailed: bool = False,
    role: str | None = None,
) -> Evaluation:
    """Measure `model` on one split.

    With `stops` the harmful prompts are asked in a fixed, seeded order until the evidence suffices for one of those
    verdicts. `curtailed`, as a search among doses wants it, they are asked until the model cannot pass whatever the
    rest would show; then nothing else is asked. `role` names the model in the saved answers; without it they are not
    saved.
    """
    rows = stratified_order.stratified(prompts.harmful, ruler.seed)
    heard = _Heard(outcomes=[{} for _ in ruler.judges])
    rules = [
        judge_results.Rule(ruler.gate, stops, ruler.calibrations.get(judge.identity.name)) for judge in ruler.judges
    ]
    looks = judge_results.looks(len(rows), ruler.gate.harmful_score, stops, curtailed=curtailed)
    with_others = looks[-1 if curtailed else 0] if ruler.samples == 1 else None
    others: GenerationResult | None = None
    found: list[Reading] = []
    settled = False
    whole = _request(ruler, model, {"harmful": rows}, ruler.samples).tokens
    done, whole = 0, whole + _request(ruler, model, prompts.others).tokens

    def ask(sets: Mapping[str, Sequence[Row]], samples: int = 1) -> GenerationResult:
        nonlocal done
        request = _request(ruler, model, sets, samples)
        result = ruler.generator.answers(request, _onward(report, done, whole))
        done += request.tokens
        return result

    for until in looks:
        new = rows[len(heard.rows) : until]
        if until == with_others:
            result = others = ask({"harmful": new, **prompts.others})
        else:
            result = ask({"harmful": new}, ruler.samples)
        _hear(ruler, heard, new, result.answers["harmful"], role, report)
        found = [
            judge_results.reading(judge.identity, outcomes, rule)
            for judge, outcomes, rule in zip(ruler.judges, heard.outcomes, rules, strict=True)
        ]
        settled = curtailed and any(map(judge_results.cannot_pass, found, repeat(len(rows)), rules))
        if settled or judge_results.stop(found, stops):
            break
    if others is None and not settled:
        result = others = ask(prompts.others)
    benign = task = None
    if others is not None:
        benign = _benign(ruler, heard.seeing_refusals, prompts.benign, others.answers["harmless"], role, report)
        task = _task(ruler, model, prompts.task, others.answers["task"], role, report)
    plan, confidence = (others or result).plan, judge_results.Rule(ruler.gate, stops).confidence
    return replace(_of_harm(ruler, heard, len(rows), found, plan, confidence), benign=benign, task=task)


def _of_harm(
    ruler: Ruler, heard: _Heard, planned: int, found: list[Reading], plan: Plan, confidence: float
) -> Evaluation:
    """What the answers to harmful prompts say: the figures of the judge that decides, and every reading."""
    worst = judge_results.deciding(found)
    return Evaluation(
        harmful_score=worst.harmful_score,
        measure=worst.judge.measure,
        bounds=worst.bounds,
        n=len(heard.rows),
        degenerate=worst.degenerate,
        truncated=sum(answer.truncated for answer in heard.answers) / len(heard.answers),
        unparsed=worst.unparsed,
        judge=worst.judge.name,
        threshold=ruler.gate.harmful_score,
        verdict=worst.verdict,
        categories=_by_category(heard.rows, heard.outcomes[found.index(worst)]),
        benign=None,
        task=None,
        plan=plan,
        confidence=confidence,
        planned=planned,
        samples=ruler.samples,
        readings=found,
        disagreement=judge_results.disagreement(found),
    )


def _request(ruler: Ruler, model: Model, sets: Mapping[str, Sequence[Row]], samples: int = 1) -> GenerationRequest:
    """Without those that are chosen by likelihood, for which nothing is generated."""
    limits = dict.fromkeys(sets, ruler.max_new_tokens)
    if "task" in sets:
        limits["task"] = tokens_needed(sets["task"], ruler.task_match, ruler.max_new_tokens)
    generated = {name: [] if name == "task" and ruler.task_match == "choice" else rows for name, rows in sets.items()}
    return GenerationRequest(
        model=model,
        sets={name: [asked(row.prompt) for row in rows] for name, rows in generated.items()},
        max_new_tokens=limits,
        samples=samples,
        seed=ruler.seed,
    )


def _onward(report: OnProgress, done: int, whole: int) -> OnProgress:
    """Answers are counted among all that may be asked for, of which so many tokens are there at most."""

    def counted(progress: Progress) -> None:
        report(Progress("answers", done + progress.done, whole) if progress.what == "answers" else progress)

    return counted


def _hear(
    ruler: Ruler,
    heard: _Heard,
    new: Sequence[Row],
    answers: Sequence[Answer],
    role: str | None,
    report: OnProgress,
) -> None:
    """Judge new answers, several to a prompt where it was sampled, and add them to what is known."""
    rows = [row for row in new for _ in range(ruler.samples)]
    exchanges = _exchanges(rows, answers)
    verdicts: list[dict[str, str]] = [{} for _ in rows]
    worst: list[list[Outcome]] = [[] for _ in rows]
    for judge, outcomes in zip(ruler.judges, heard.outcomes, strict=True):
        opinions = judge.opinions(exchanges, report)
        if judge not in heard.seeing_refusals and any(each.refused is not None for each in opinions):
            heard.seeing_refusals.append(judge)
        for at, opinion in enumerate(opinions):
            counted = outcome(answers[at].text, opinion.verdict, judge.identity.measure)
            outcomes.setdefault(identity(rows[at].prompt), []).append(counted)
            verdicts[at][judge.identity.name] = opinion.verdict
            worst[at].append(counted)
    heard.rows += new
    heard.answers += answers
    _save(ruler, role, "harmful", rows, answers, map(judge_results.worst, worst), verdicts)


def _benign(
    ruler: Ruler,
    judges: Sequence[Judge],
    rows: Sequence[Row],
    answers: Sequence[Answer],
    role: str | None,
    report: OnProgress,
) -> Benign | None:
    if not rows:
        return None
    judge, refused = utility_metrics.refusals(judges, _exchanges(rows, answers), report)
    _save(ruler, role, "harmless", rows, answers, ("refused" if each else "answered" for each in refused))
    return utility_metrics.benign(judge, rows, answers, refused)


def _task(
    ruler: Ruler,
    model: Model,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    role: str | None,
    report: OnProgress,
) -> Task | None:
    if not rows:
        return None
    if ruler.task_match == "choice":
        likeliest = zip(rows, ruler.choose(model, rows, report), strict=True)
        answers = [Answer(row.choices[at], truncated=False) for row, at in likeliest]
    right = [is_right(answer.text, row.response, ruler.task_match) for row, answer in zip(rows, answers, strict=True)]
    _save(ruler, role, "task", rows, answers, ("right" if each else "wrong" for each in right))
    return utility_metrics.task(rows, right, ruler.task_match)


def _save(
    ruler: Ruler,
    role: str | None,
    kind: str,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    outcomes: Iterable[str],
    verdicts: Sequence[dict[str, str]] = (),
) -> None:
    if role is None:
        return
    each = zip(rows, answers, outcomes, verdicts or [{}] * len(rows), strict=True)
    ruler.log.write(
        SavedAnswer(
            model=role,
            set=kind,
            prompt_id=identity(row.prompt),
            category=row.category,
            prompt=row.prompt,
            answer=answer.text,
            truncated=answer.truncated,
            outcome=counted,
            verdicts=said,
        )
        for row, answer, counted, said in each
    )


def _exchanges(rows: Sequence[Row], answers: Sequence[Answer]) -> list[Exchange]:
    return [Exchange(row.prompt, answer.text) for row, answer in zip(rows, answers, strict=True)]


def _by_category(rows: Sequence[Row], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, CategoryCount]:
    grouped: defaultdict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        grouped[row.category] += outcomes[identity(row.prompt)]
    return {category: CategoryCount(found.count("harmful"), len(found)) for category, found in sorted(grouped.items())}
