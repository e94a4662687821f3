"""`evaluate` of several models: one after the other, each in its own folder, and one page that sorts them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation.comparison import list_history
from antidote_ci.hub import commits, pull
from antidote_ci.paths import is_path
from antidote_ci.pipeline import comparison, model_names, resolve
from antidote_ci.policy import RunConfig
from antidote_ci.records import COMMIT, History, Report, from_json
from antidote_ci.report.console import Console
from antidote_ci.report.history import render_history_page
from antidote_ci.report.text import flatten

MODELS_PAGE = "models.html"
ALL_OF_ACCOUNT = "/*"

EvaluateModel = Callable[[RunConfig, Console], Report]


def is_many(names: Sequence[str]) -> bool:
    """Whether these names stand for more than one model."""
    return len(names) > 1 or _is_account(names[0])


def list_models(
    names: Sequence[str], revision: str | None, base: RunConfig, junit: Path | None = None
) -> list[RunConfig]:
    """The configuration of each model, with a folder of its own in the output folder of `base`.

    ORG/* stands for all models of the account. Raises ConfigurationError for options that are for one model, and for
    two models whose folders have the same name.
    """
    for option, value in (("--revision", revision), ("--save-answers", base.save_answers), ("--junit", junit)):
        if value is not None:
            raise ConfigurationError(f"{option} is for one model", hint=f"drop {option}, or name one model")
    if (base.out / comparison.REPORT_FILE).exists():
        raise ConfigurationError(f"--out {base.out} holds the report of one model", hint="name another --out")
    configs: dict[str, RunConfig] = {}
    models: list[tuple[str, str | None]]
    for name in names:
        if _is_account(name):
            models = [(model, None) for model in sorted(commits.list_main_heads(resolve.pull_access(), name))]
        else:
            models = [model_names.parse_model_name(name)]
        for model, named in models:
            folder = name_folder(model_names.display_name(model) if named is None else f"{model}@{named}")
            config = replace(base, model=model, revision=named, out=base.out / folder)
            if configs.setdefault(folder, config) != config:
                other = model_names.display_name(configs[folder].model)
                raise ConfigurationError(
                    f"{other} and {model_names.display_name(model)} have the same folder: {config.out}",
                    hint="evaluate them with one command each, and different --out",
                )
    if not configs:
        raise ConfigurationError(f"{names[0]} has no model", hint="check the name of the account, and HF_TOKEN")
    return list(configs.values())


def evaluate_models(configs: Sequence[RunConfig], evaluate: EvaluateModel, console: Console) -> tuple[History, int]:
    """Evaluate each model, and write the page after each. Returns the reports, and the exit code.

    A report of the same commit and policy is not made again, unless its verdict is still to be published. A model that
    cannot be evaluated is listed with the reason, and the next one is evaluated. The exit code is 1 if a model fails,
    otherwise that of the first error, 4 if a verdict is inconclusive, and 0.
    """
    page = configs[0].out.parent / MODELS_PAGE
    comparison.require_page(page)
    reports: dict[Path, Report] = {}
    failures: dict[str, str] = {}
    codes: list[int] = []
    history = History([])
    for number, config in enumerate(configs, 1):
        name = model_names.display_name(config.model)
        console.print(f"model {number} of {len(configs)}: {name}")
        console.seconds = {}
        try:
            config = _pin_commit(config)
            report = _read_finished(config)
            if report is None:
                report = evaluate(config, console)
            else:
                console.print(f"{config.out / comparison.REPORT_FILE} has the result of this commit and policy")
            reports[config.out] = report
            codes.append(report.exit_code)
        except AntidoteError as error:
            console.print_error(error)
            failures[name] = flatten(error.what)
            codes.append(error.exit_code)
        history = _list_reports(reports, failures)
        comparison.write_page(page, render_history_page(history.entries, history.failures))
    console.print(f"page: {page}")
    errors = [code for code in codes if code not in (0, 1, 4)]
    return history, next((code for code in (1, *errors, 4) if code in codes), 0)


def name_folder(model: str) -> str:
    """The name of a model's folder, such as ORG--MODEL."""
    return re.sub(r"[^\w.@-]+", "--", model).strip(".-")[:200]


def _is_account(name: str) -> bool:
    return name.endswith(ALL_OF_ACCOUNT) and not is_path(name)


def _pin_commit(config: RunConfig) -> RunConfig:
    """The configuration with the commit id of a model on the Hub."""
    if is_path(config.model) or model_names.is_server_address(config.model):
        return config
    if config.revision is not None and COMMIT.fullmatch(config.revision):
        return config
    remote = pull.resolve_revision(config.model, config.revision, resolve.pull_access())
    return replace(config, revision=remote.revision)


def _read_finished(config: RunConfig) -> Report | None:
    """The report of this commit and policy in the output folder, if there is one. A local folder has no commit.

    A verdict that is still to be published is measured again, from stored answers.
    """
    try:
        report = from_json(Report, (config.out / comparison.REPORT_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    finished = (report.source.id, report.source.revision, report.policy_sha256)
    is_same = config.revision is not None and finished == (config.model, config.revision, config.policy.sha256())
    is_published = report.publish.mode == "report" or not config.policy.publish.applies_to("evaluate")
    return report if is_same and is_published else None


def _list_reports(reports: dict[Path, Report], failures: dict[str, str]) -> History:
    pages = [f"{folder.name}/{comparison.PAGE_FILE}" for folder in reports]
    entries = list_history(list(reports.values()))
    return History([replace(entry, page=page) for entry, page in zip(entries, pages, strict=True)], dict(failures))
