"""Checks of a configuration that send no request: the commands and `--dry-run` make them before anything else."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import calibration, chat_api, prompt_sets, prompts, saved
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.server import ServerGenerator
from antidote_ci.evaluation.judges import catalog, endpoint
from antidote_ci.evaluation.judges.catalog import JudgeSpec
from antidote_ci.hub.access import RESOURCE_VARIABLE, write_access
from antidote_ci.model.checkpoint_check import open_sandbox
from antidote_ci.paths import is_path
from antidote_ci.pipeline import comparison, evaluator, model_names, output, resolve
from antidote_ci.policy import EMBEDDED, SELF, Command, Policy, RunConfig
from antidote_ci.records import Calibration, JudgeIdentity, Measure, from_json
from antidote_ci.report.ci_files import JUNIT_START

ANY_MODEL = "any"
"""With a model's name, no server is asked for its models."""


def check_configuration(config: RunConfig, command: Command, *, here: bool = True) -> list[JudgeSpec]:
    """Return the judges of a run. Raises ConfigurationError for what it could not use after the downloads.

    `here`: whether this machine runs it, and not a Job. Raises InfrastructureError when a run that publishes has no
    token.
    """
    output.require_supported(config, command)
    if config.policy.publish.applies_to(command):
        output.require_publishable(config)
        # The identity of a workflow is exchanged by a request.
        if not os.environ.get(RESOURCE_VARIABLE):
            write_access(os.environ)
    judges = check_judges(config.policy)
    require_readable_inputs(config)
    if not here:
        return judges
    _require_generator(config)
    if config.save_answers is not None:
        require_file_can_be_created(config.save_answers, "--save-answers")
        saved.require_replaceable(config.save_answers)
    if not config.no_cache:
        evaluator.require_answer_cache(os.environ)
    return judges


def check_judges(policy: Policy) -> list[JudgeSpec]:
    """Return the judges. Raises ConfigurationError for an invalid name, folder, address or calibration."""
    settings = policy.evaluation
    judges = catalog.parse_judge_specs(settings.judge)
    for judge in judges:
        if judge.folder is not None:
            resolve.require_folder(judge.folder)
        if judge.name == endpoint.NAME:
            catalog.connect_endpoint(replace(settings, judge_model=settings.judge_model or ANY_MODEL))
    if settings.calibration is not None:
        _require_calibration(Path(settings.calibration), judges)
    return judges


def require_readable_inputs(config: RunConfig) -> None:
    """Raise ConfigurationError for a local folder or a file of the policy that cannot be read, or has another form."""
    policy = config.policy
    if is_path(config.model) and config.revision is not None:
        raise resolve.local_revision_error(config.model, config.revision)
    if policy.repair.reference is not None and is_path(policy.repair.reference):
        resolve.require_folder(policy.repair.reference)
    if not all(map(is_path, (config.model, policy.repair.reference or config.model))):
        resolve.pull_access()
    if policy.gate.baseline is not None:
        comparison.read_report(Path(policy.gate.baseline))
    elif policy.gate.regression is not None:
        raise ConfigurationError(
            "gate.regression limits the rise of the harmful score from a baseline, and none is named",
            hint="add --baseline with the report.json of an earlier run",
        )
    if not prompt_sets.list_downloads(policy):
        return  # the files are read before the first download
    for origin in (policy.evaluation.prompts, policy.evaluation.benign):
        if origin not in (None, EMBEDDED) and not prompt_sets.select_presets(origin):
            prompts.read_prompts(Path(origin))
    if policy.evaluation.task not in (None, EMBEDDED) and not prompt_sets.match_hub_task(policy.evaluation.task):
        prompts.read_prompts(Path(policy.evaluation.task), "expected", policy.evaluation.task_match == "choice")
    if policy.repair.realignment not in (SELF, EMBEDDED):
        prompts.read_prompts(Path(policy.repair.realignment), "response")


def _require_calibration(path: Path, judges: Sequence[JudgeSpec]) -> None:
    """Raise ConfigurationError unless `path` is a calibration of the first judge. Its weights are compared later."""
    name = judges[0].name
    with suppress(OSError, ValueError):
        if from_json(Calibration, path.read_bytes()).judge.name == name:
            return
    measure: Measure = "non_refusal_rate" if name == catalog.REFUSAL else "harmful_score"
    calibration.read_calibration(path, JudgeIdentity(name, measure))


def _require_generator(config: RunConfig) -> None:
    """Raise ConfigurationError for an invalid address, or a command of a server that cannot be started."""
    if model_names.is_server_address(config.model):
        address, _, model = config.model.partition("#")
        chat_api.connect(address, os.environ.get(evaluator.SERVER_KEY_VARIABLE) or None, model or ANY_MODEL)
    elif config.policy.evaluation.server is not None:
        # It checks the command, and starts nothing before a request.
        ServerGenerator(config.policy.evaluation.server, config.out, open_sandbox(config.out), AnswerStore(config.out))


def require_file_can_be_created(path: Path, option: str) -> None:
    """Raise ConfigurationError unless a run can write the file that `option` names."""
    folder = path.parent
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
        raise ConfigurationError(
            f"{path} cannot be written",
            cause="it is a folder" if path.is_dir() else f"{folder} is not a writable folder",
            hint=f"name a file in a writable folder for {option}",
        )


def require_junit_can_be_written(path: Path, out: Path) -> None:
    """Raise ConfigurationError unless `path` is free or has earlier test results, and is no other file of the run."""
    folder, own = out.resolve(), out.resolve() / output.JUNIT_FILE
    if path.resolve().is_relative_to(folder) and path.resolve() != own:
        raise ConfigurationError(
            f"--junit {path} is inside --out {out}, whose content a run replaces",
            hint=f"--junit {out / output.JUNIT_FILE}, or a file in another folder",
        )
    if path.resolve() != own or path.is_dir():  # a run creates its folder
        require_file_can_be_created(path, "--junit")
    if os.path.lexists(path) and not _is_junit_file(path):
        raise ConfigurationError(
            f"{path} exists and holds no test results of antidote-ci",
            cause="--junit replaces the file that it names",
            hint="name another file for --junit, or move this one away",
        )


def _is_junit_file(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(JUNIT_START)) == JUNIT_START.encode()
