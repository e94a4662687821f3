"""What a run measures with, as its policy names it: prompt sets and judges fetched, and who answers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, statistics
from antidote_ci.evaluation.calibration import read_calibration
from antidote_ci.evaluation.generators import Generator
from antidote_ci.evaluation.generators.api import ApiGenerator
from antidote_ci.evaluation.generators.server import ServerGenerator
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.judges import Judge, catalog
from antidote_ci.evaluation.judges.catalog import FetchedJudge, JudgeSpec
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.prompt_sets import FetchedSet, FetchedSets
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.hub import datasets, pull
from antidote_ci.model.likelihood import ChoiceRequest, choose_answers
from antidote_ci.paths import create_folder
from antidote_ci.pipeline import resolve
from antidote_ci.policy import EvaluationSection, Policy, RunConfig
from antidote_ci.records import Calibration, Model, OnProgress, PromptRow
from antidote_ci.sandbox.client import Sandbox

CHOICES_AT_ONCE = 16
SERVER_KEY_VARIABLE = "ANTIDOTE_SERVER_KEY"
"""Of a server that `evaluate` measures."""


def fetch_prompts(policy: Policy) -> FetchedSets:
    """The published sets that the policy names, each at one commit."""
    found = {}
    for each in prompt_sets.list_downloads(policy):
        fetched = datasets.fetch_dataset(each.repository, each.revision, each.files, resolve.pull_access())
        found[each.name] = FetchedSet(fetched.folder, fetched.commit)
    return found


def select_judges(settings: EvaluationSection) -> list[JudgeSpec]:
    """The judges of the policy, known to exist and to be allowed; nothing is pulled yet."""
    specs = catalog.parse_judge_specs(settings.judge)
    for spec in specs:
        catalog.resolve_download(spec, settings)
    return specs


def fetch_judges(specs: Sequence[JudgeSpec], settings: EvaluationSection, report: OnProgress) -> list[FetchedJudge]:
    """The judges' weights, each at one commit."""
    return [_fetch_judge(spec, settings, report) for spec in specs]


def build_judges(
    fetched: Sequence[FetchedJudge], settings: EvaluationSection, sandbox: Sandbox, store: Path
) -> tuple[Judge, ...]:
    """The judges, ready to judge."""
    return tuple(catalog.build_judge(each, settings, sandbox, store) for each in fetched)


def build_evaluator(
    config: RunConfig, fetched: Sequence[FetchedJudge], sandbox: Sandbox, work: Path, log: AnswerLog
) -> Evaluator:
    """What every model of the run is measured with. Raises ConfigurationError for a calibration of another judge."""
    settings, store = config.policy.evaluation, answer_cache_folder(os.environ)
    made = build_judges(fetched, settings, sandbox, store)

    def likeliest(model: Model, rows: Sequence[PromptRow], report: OnProgress) -> list[int]:
        return sandbox.call(choose_answers, ChoiceRequest(model, list(rows), CHOICES_AT_ONCE, store), report)

    return Evaluator(
        generator=_build_generator(config, sandbox, work, store),
        judges=made,
        choose_answers=likeliest,
        gate=config.policy.gate,
        max_new_tokens=settings.max_new_tokens,
        samples=settings.samples,
        seed=settings.seed,
        task_match=settings.task_match,
        calibrations=_load_calibrations(settings, made),
        log=log,
    )


def answer_cache_folder(environ: Mapping[str, str]) -> Path:
    """Where answers and verdicts are kept, so that a repeated or resumed run asks for nothing twice; made if need be.

    ANTIDOTE_CACHE, or a folder in the user's cache. Raises ConfigurationError for one that cannot be written.
    """
    if named_folder := environ.get("ANTIDOTE_CACHE"):
        folder = Path(named_folder)
    else:
        cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".cache"
        folder = Path(cache) / "antidote-ci" / "answers"
    return create_folder(folder, "set ANTIDOTE_CACHE to a folder that can be", mode=0o700)


def _fetch_judge(spec: JudgeSpec, settings: EvaluationSection, report: OnProgress) -> FetchedJudge:
    wanted = catalog.resolve_download(spec, settings)
    if wanted is None:
        return FetchedJudge(spec)
    if wanted.revision is None:
        return FetchedJudge(spec, Path(wanted.model).expanduser().resolve())
    remote = pull.resolve_revision(wanted.model, wanted.revision, resolve.pull_access())
    return FetchedJudge(spec, pull.download_snapshot(remote, resolve.pull_access(), report), remote.revision)


def _build_generator(config: RunConfig, sandbox: Sandbox, work: Path, store: Path) -> Generator:
    if resolve.is_server_address(config.model):
        address, _, model = config.model.partition("#")
        return ApiGenerator(address, model or None, os.environ.get(SERVER_KEY_VARIABLE) or None)
    if config.policy.evaluation.server is not None:
        return ServerGenerator(config.policy.evaluation.server, work, sandbox, store)
    return TransformersGenerator(sandbox, store)


def _load_calibrations(settings: EvaluationSection, made: Sequence[Judge]) -> dict[str, Calibration]:
    """Of the first judge, which is the one that a single file can speak of."""
    if settings.calibration is None:
        return {}
    identity = made[0].identity
    found = read_calibration(Path(settings.calibration), identity)
    if statistics.apparent_thresholds(0.5, statistics.JudgeErrors.from_calibration(found)) == (0.0, 1.0):
        raise ConfigurationError(
            f"by {settings.calibration} the judge {identity.name} may be no better than chance",
            cause=f"sensitivity {found.sensitivity:.2f}, specificity {found.specificity:.2f}, on {found.n} labels",
            hint="calibrate it on more labels, or name another judge",
        )
    return {identity.name: found}
