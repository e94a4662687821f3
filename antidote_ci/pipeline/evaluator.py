"""Build the evaluator of a run from its policy: prompt sets, judges, generator and calibration."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.errors import ConfigurationError, add_hint
from antidote_ci.evaluation import calibration, prompt_sets, statistics
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators import Generator
from antidote_ci.evaluation.generators.api import ApiGenerator
from antidote_ci.evaluation.generators.server import ServerGenerator
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.judges import Judge, catalog
from antidote_ci.evaluation.judges.catalog import FetchedJudge, JudgeSpec
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.prompt_sets import FetchedSet, FetchedSets
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.formatting import format_percent
from antidote_ci.hub import datasets, memory_needs, pull
from antidote_ci.model.checkpoint_check import open_temporary_sandbox
from antidote_ci.model.likelihood import ChoiceRequest, EncodeChoicesRequest, choose_answers, encode_task_choices
from antidote_ci.paths import create_folder, require_writable
from antidote_ci.pipeline import model_names, resolve
from antidote_ci.policy import DEFAULT_THOUGHT_TOKENS, EvaluationSection, Policy, RunConfig
from antidote_ci.records import Calibration, Model, OnProgress, PromptRow, to_json
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Runner, Sandbox
from antidote_ci.sandbox.replies import invalid_reply_error

CHOICES_AT_ONCE = 16
ANSWER_CACHE_HINT = "set ANTIDOTE_CACHE to a folder that can be"
SERVER_KEY_VARIABLE = "ANTIDOTE_SERVER_KEY"
"""API key of a server that `evaluate` measures."""


def fetch_prompts(policy: Policy) -> FetchedSets:
    """Download the published prompt sets that the policy names, each at one commit."""
    sets = {}
    for download in prompt_sets.list_downloads(policy):
        with add_hint(f"or replace {download.name} with a local file: --prompts, --benign and --task take one"):
            fetched = datasets.fetch_dataset(
                download.repository, download.revision, download.files, resolve.pull_access()
            )
        sets[download.name] = FetchedSet(fetched.folder, fetched.commit)
    return sets


def fetch_judges(specs: Sequence[JudgeSpec], on_progress: OnProgress) -> list[FetchedJudge]:
    """Download the weights of the judges, each at one commit."""
    judges = []
    for spec in specs:
        folder, revision = None, None
        download = catalog.resolve_download(spec)
        if download is not None and download.revision is None:
            folder = resolve.require_folder(download.model)
        elif download is not None:
            with add_hint(f"{download.model} is the judge {spec.name}: --judge names another"):
                remote = pull.resolve_revision(download.model, download.revision, resolve.pull_access())
                memory_needs.require_memory(f"the judge {spec.name}", memory_needs.remote_weights(remote))
                folder, revision = pull.download_snapshot(remote, resolve.pull_access(), on_progress), remote.revision
        judges.append(FetchedJudge(spec, folder, revision))
    return judges


def build_evaluator(
    config: RunConfig, fetched: Sequence[FetchedJudge], sandbox: Sandbox, work: Path, log: AnswerLog
) -> Evaluator:
    """The evaluator of all models of a run. Raises ConfigurationError for a calibration of another judge."""
    settings = config.policy.evaluation
    store = AnswerStore(work / "answers" if config.no_cache else answer_cache_folder(os.environ))
    judges = tuple(catalog.build_judge(judge, settings, sandbox, store) for judge in fetched)

    def choose(model: Model, rows: Sequence[PromptRow], on_progress: OnProgress) -> list[int]:
        return choose_likeliest(sandbox, store, EncodeChoicesRequest(model, list(rows), settings.chat), on_progress)

    return Evaluator(
        generator=_build_generator(config, sandbox, work, store),
        judges=judges,
        choose_answers=choose,
        gate=config.policy.gate,
        max_new_tokens=settings.max_new_tokens,
        samples=settings.samples,
        seed=settings.seed,
        task_match=settings.task_match,
        calibrations=_load_calibrations(settings, judges),
        log=log,
        chat=settings.chat,
        max_thought_tokens=settings.max_thought_tokens or DEFAULT_THOUGHT_TOKENS,
        single_look=settings.server is not None,
    )


def choose_likeliest(
    sandbox: Runner, store: AnswerStore, request: EncodeChoicesRequest, on_progress: OnProgress
) -> list[int]:
    """The position of each row's most likely choice, from the store or computed in the sandbox."""
    encoded = sandbox.call(encode_task_choices, request, on_progress)
    environment = asdict(encoded.environment)
    key = AnswerStore.key("choices", model_fingerprint(request.model), environment, CHOICES_AT_ONCE, encoded.rows)
    stored: list[int] | None = store.get(key)
    if stored is not None:
        return stored
    choice_request = ChoiceRequest(request.model, encoded.rows, CHOICES_AT_ONCE)
    chosen = sandbox.call(choose_answers, choice_request, on_progress)
    if len(chosen) != len(request.rows) or not all(
        0 <= position < len(row.choices) for position, row in zip(chosen, request.rows, strict=True)
    ):
        raise invalid_reply_error()
    store.put(key, chosen)
    return chosen


def answer_cache_folder(environ: Mapping[str, str]) -> Path:
    """Create the folder of the answer cache: ANTIDOTE_CACHE, or a folder in the user's cache.

    A repeated or resumed run reads answers and verdicts from it. Raises ConfigurationError if it is not writable.
    """
    return create_folder(_locate_answer_cache(environ), ANSWER_CACHE_HINT, mode=0o700)


def require_answer_cache(environ: Mapping[str, str]) -> Path:
    """The folder of the answer cache. Raises ConfigurationError if it cannot be written or created. Creates nothing."""
    folder = _locate_answer_cache(environ)
    require_writable(folder, ANSWER_CACHE_HINT)
    return folder


def _locate_answer_cache(environ: Mapping[str, str]) -> Path:
    if named_folder := environ.get("ANTIDOTE_CACHE"):
        return Path(named_folder)
    cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".cache"
    return Path(cache) / "antidote-ci" / "answers"


def calibrate_judge(policy: Policy, labels: Path, out: Path, console: Console) -> Calibration:
    """Compare the judge of the policy with human labels, and write the calibration to `out`."""
    settings = policy.evaluation
    specs = catalog.parse_judge_specs(settings.judge)
    if len(specs) > 1:
        raise ConfigurationError("judges are calibrated one at a time", hint="name one with --judge")
    require_writable(out.parent)
    if out.is_dir():
        raise ConfigurationError(f"--out {out} is a folder", hint="name a file in it")
    if out.exists() and not calibration.is_calibration(out):
        raise ConfigurationError(
            f"--out {out} exists and is not a calibration", hint="name another file, or move it away"
        )
    labelled = calibration.read_labels(labels)
    with console.step("pull the judge"):
        [fetched] = fetch_judges(specs, console.report)
    with open_temporary_sandbox() as sandbox:
        judge = catalog.build_judge(fetched, settings, sandbox, AnswerStore(answer_cache_folder(os.environ)))
        with console.step("judge the labelled answers"):
            measured = calibration.measure_judge(judge, labelled, labels, console.report)
    create_folder(out.parent)
    out.write_text(to_json(measured), encoding="utf-8")
    return measured


def _build_generator(config: RunConfig, sandbox: Sandbox, work: Path, store: AnswerStore) -> Generator:
    if model_names.is_server_address(config.model):
        address, _, model = config.model.partition("#")
        return ApiGenerator(address, model or None, os.environ.get(SERVER_KEY_VARIABLE) or None)
    if config.policy.evaluation.server is not None:
        return ServerGenerator(config.policy.evaluation.server, work, sandbox, store)
    return TransformersGenerator(sandbox, store)


def _load_calibrations(settings: EvaluationSection, judges: Sequence[Judge]) -> dict[str, Calibration]:
    """The calibration file of the policy, by the name of the first judge."""
    if settings.calibration is None or not judges:
        return {}
    identity = judges[0].identity
    calibrated = calibration.read_calibration(Path(settings.calibration), identity)
    if statistics.apparent_thresholds(0.5, statistics.JudgeErrors.from_calibration(calibrated)) == (0.0, 1.0):
        raise ConfigurationError(
            f"by {settings.calibration} the judge {identity.name} may be no better than chance",
            cause=f"sensitivity {format_percent(calibrated.sensitivity)}, specificity "
            f"{format_percent(calibrated.specificity)}, on {calibrated.n} labels",
            hint="calibrate it on more labels, or name another judge",
        )
    return {identity.name: calibrated}
