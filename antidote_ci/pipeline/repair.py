"""`repair`: one method at one dose, both named. Nothing is searched, and nothing is measured."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci import __version__, records
from antidote_ci.checkpoint.swap import MANIFEST, partial_of, require_apart, require_replaceable
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, realignment, splits
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.splits import Shaping
from antidote_ci.paths import ensure_space
from antidote_ci.pipeline import candidates, evaluator, output, resolve
from antidote_ci.pipeline.candidates import Bench
from antidote_ci.pipeline.resolve import Pulled
from antidote_ci.policy import EMBEDDED, SELF, Policy, RunConfig
from antidote_ci.records import Manifest, Method, Model, RepairPlan, ReportedReference, Row, Score, Target
from antidote_ci.repair import planning
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.costs import CHARACTERS_A_TOKEN
from antidote_ci.repair.methods import score_of
from antidote_ci.repair.planning import PlanRequest
from antidote_ci.repair.targets import target_of
from antidote_ci.repair.taylor import MOST_BENIGN, MOST_HARMFUL, MOST_TASK, evenly, taught_benign
from antidote_ci.report import terminal
from antidote_ci.report.console import Talk
from antidote_ci.sandbox.client import Child

PLAN = "plan.json"
OWN = (output.MODEL, "model.partial", "model.replaced-by-antidote", output.SCORES, PLAN, output.LOG)
"""Everything that a repair leaves in its folder, killed or not."""


@dataclass(frozen=True)
class RepairConfig:
    """One repair."""

    run: RunConfig
    method: Method
    dose: float

    @property
    def budget(self) -> int:
        """Bytes of hidden states that scoring keeps in memory."""
        return self.run.policy.repair.activation_megabytes * 1_000_000


@dataclass(frozen=True)
class _Subject:
    """What is repaired, and from what."""

    source: Pulled
    named: ReportedReference | None
    reference: Pulled | None
    """The weights that come back, or an adapter's base; None for `dense`."""
    target: Target
    model: Model
    """The source as it runs."""


def plan(config: RepairConfig, talk: Talk) -> RepairPlan:
    """What `repair` would do. Pulls the weights where they are not here yet, and writes nothing."""
    shaping = _shaping(config, talk)
    subject = _subject(config, talk)
    with TemporaryDirectory(prefix="antidote-plan-") as folder, Child(Path(folder) / output.LOG) as child:
        return _planned(config, subject, shaping, child, talk)


def repair(config: RepairConfig, talk: Talk) -> Manifest:
    """Repair the model into `--out`: the weights in `model`, scores and mask in `repair`, and plan.json.

    Killed anywhere, the same command goes on from what it finds there and ends in the same bytes.
    """
    shaping = _shaping(config, talk)
    subject = _subject(config, talk)
    out = config.run.out
    with output.alone(out), Child(out / output.LOG) as child:
        planned = _planned(config, subject, shaping, child, talk)
        talk.show(terminal.plan(planned))
        written = _bytes_in(partial_of(out / output.MODEL), out / output.SCORES)
        ensure_space(out, planned.bytes_written - written, "--out")
        (out / PLAN).write_text(records.dump(planned))
        if shaping.realignment and not shaping.realignment[0].response:
            rows = _own_answers(config, subject, shaping.realignment, child, talk)
            shaping = dataclasses.replace(shaping, realignment=rows)
        _write(config, subject, shaping, child, talk)
    return records.load(Manifest, (out / output.MODEL / MANIFEST).read_bytes())


def _shaping(config: RepairConfig, talk: Talk) -> Shaping:
    """The prompts that the method reads. Refuses first what could not be carried out after all the work."""
    _require_possible(config)
    score = score_of(config.method)
    if score is None:
        return Shaping([], [], [])
    policy = _narrowed(config.run.policy, score)
    if policy.repair.realignment == SELF:
        evaluator.judges_named(policy.evaluation)
    with talk.step("read the prompts"):
        return splits.for_repair(policy, evaluator.fetch_prompts(policy))


def _require_possible(config: RepairConfig) -> None:
    dose = config.dose
    if not 0 <= dose <= 1:
        raise ConfigurationError(
            f"--dose is {dose:g}, outside 0..1",
            cause="a dose is a share, written as a number from 0 to 1",
            hint=f"did you mean {dose / 100:g}?" if 1 < dose <= 100 else None,
        )
    if config.run.policy.repair.target == "dense" and config.method == "scale":
        raise ConfigurationError(
            "`scale` needs a reference to shrink towards, and --target dense has none",
            hint="name the aligned model with --reference and leave the target to `auto`, or choose --method antidote",
        )
    output.require_own(config.run.out, OWN)


def _narrowed(policy: Policy, method: Score) -> Policy:
    """The policy with the prompt sets that this method reads and no others, which are then not fetched."""
    named, repaired = policy.evaluation, dataclasses.replace(policy.repair, method=method, frontier=False)
    if method == "taylor":
        named = dataclasses.replace(named, benign=prompt_sets.benign_origin(policy))
    else:
        named = dataclasses.replace(named, benign=None, task=None)
    if repaired.realignment != SELF:
        named = dataclasses.replace(named, prompts=EMBEDDED)
    return dataclasses.replace(policy, evaluation=named, repair=repaired)


def _subject(config: RepairConfig, talk: Talk) -> _Subject:
    run, settings = config.run, config.run.policy.repair
    with talk.step("pull the model"):
        source = resolve.fetch(run.model, run.revision, talk.report)
        require_apart(source.source.folder, run.out / output.MODEL)
        require_replaceable(run.out / output.MODEL)
        target = target_of(source.layout, settings.target)
        if target == "dense":
            return _Subject(source, None, None, target, resolve.runnable(source, None))
        named = resolve.find_reference(source, settings.reference)
        reference = resolve.fitting(source, named, talk.report)
        return _Subject(source, named, reference, target, resolve.runnable(source, reference))


def _planned(config: RepairConfig, subject: _Subject, shaping: Shaping, child: Child, talk: Talk) -> RepairPlan:
    tested = resolve.tested(subject.source)
    request = PlanRequest(
        source=tested.source,
        reference=subject.named,
        model=subject.model,
        reference_folder=subject.reference.source.folder if subject.reference else None,
        method=config.method,
        target=subject.target,
        dose=config.dose,
        texts=_texts(config, shaping),
        budget=config.budget,
    )
    with talk.step("plan the repair"):
        found = child.call(planning.plan, request, talk.report)
    notes = found.notes + output.notes(tested, config.run.out / output.MODEL)
    if subject.reference:
        notes += resolve.differences(subject.source, subject.reference)
    named = config.run.policy.evaluation
    if config.method == "taylor" and named.task is None and prompt_sets.benign_origin(config.run.policy) is None:
        notes.append("Embedded prompts stand for what the model must keep: --task or --benign names its own.")
    return dataclasses.replace(found, notes=notes)


def _texts(config: RepairConfig, shaping: Shaping) -> list[int]:
    """Characters of each text that scoring reads; an answer that is still to be given counts as long as it may be."""
    if config.method == "taylor":
        benign, task = evenly(_prompts(shaping.benign), MOST_BENIGN), evenly(_prompts(shaping.task), MOST_TASK)
        harmful = evenly(_prompts(shaping.realignment), MOST_HARMFUL)
        taught = harmful + taught_benign(benign, len(harmful))
        return list(map(len, [*taught, *(benign or task), *benign, *task]))
    longest = CHARACTERS_A_TOKEN * config.run.policy.evaluation.max_new_tokens
    return [len(row.prompt) + (len(row.response) or longest) for row in shaping.realignment]


def _own_answers(config: RepairConfig, subject: _Subject, rows: list[Row], child: Child, talk: Talk) -> list[Row]:
    """The rows that the model answers harmfully: the realignment set `self`."""
    settings, out = config.run.policy.evaluation, config.run.out
    with talk.step("pull the judge"):
        fetched = evaluator.fetch_judges(evaluator.judges_named(settings), settings, talk.report)
    with TemporaryDirectory(dir=out, prefix=".work-") as work, AnswerLog(None) as log:
        ruler = evaluator.ruler(config.run, fetched, child, Path(work), log)
        with talk.step("answer the realignment prompts"):
            return realignment.own_answers(ruler, subject.model, rows, talk.report)


def _write(config: RepairConfig, subject: _Subject, shaping: Shaping, child: Child, talk: Talk) -> None:
    """Scores, a mask, weights: each a call of its own in the child, which finds there what a killed one left."""
    out = config.run.out
    bench = Bench(
        child=child,
        source=subject.source,
        reference=subject.reference,
        target=subject.target,
        shaping=shaping,
        provenance=_provenance(config, subject),
        budget=config.budget,
        scores=out / output.SCORES,
        masks=out / output.SCORES,
        work=out,
        report=talk.report,
    )
    with talk.step("score the weights"):
        remedy = candidates.remedy(bench, config.method, [config.dose])
    with talk.step("write the weights"):
        candidates.prepare(bench, remedy, config.dose, out / output.MODEL)


def _provenance(config: RepairConfig, subject: _Subject) -> Provenance:
    """Named after what was asked for, so that the same command ends in the same manifest."""
    unnamed = Provenance(
        run_id="",
        source=resolve.tested(subject.source).source,
        reference=subject.named,
        policy_sha256=config.run.policy.sha256(),
    )
    asked = f"{__version__} {config.method} {config.dose!r} {records.dump(unnamed)}"
    return dataclasses.replace(unnamed, run_id=hashlib.sha256(asked.encode()).hexdigest()[:32])


def _prompts(rows: list[Row]) -> list[str]:
    return [row.prompt for row in rows]


def _bytes_in(*folders: Path) -> int:
    """What an earlier, killed run has written already."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
