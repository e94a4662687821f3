"""`doctor`: what this machine can do, a line each, and what to do about what it lacks. Nothing is downloaded."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.json_api import redact_address
from antidote_ci.evaluation.judges import endpoint, named
from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.hub import access, memory_needs, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.model import loading, memory
from antidote_ci.paths import free_space
from antidote_ci.pipeline import evaluator, resolve
from antidote_ci.policy import Policy
from antidote_ci.report.text import pluralize

LIBRARIES = ("torch", "transformers", "peft", "huggingface_hub")
MIN_MODEL_WEIGHTS = 100_000_000
"""Weights, fewer than which hardly a chat model has."""
MIN_SPACE = 2_000_000_000
"""Bytes that a small model, its reference, its scores and its repair take."""
SERVER_TIMEOUT = 15.0
NO_RETRY = RetryPolicy(seconds=0)


@dataclass(frozen=True)
class CheckResult:
    """One line."""

    name: str
    value: str
    advice: str | None = None
    """What to do about a lack; None where nothing is lacking."""
    needed: bool = False
    """No run of a model of the Hub works without it."""


def run_checks(policy: Policy, out: Path) -> Iterator[CheckResult]:
    """What a run under `policy` with results in `out` finds here, one after the other: some ask the Hub."""
    yield _check_versions()
    yield _check_processor()
    yield _check_gpu()
    yield _check_memory()
    yield _check_space("downloads", pull.client_cache_folder(), "set HF_HOME to a folder on a larger disk")
    yield _check_space("results", out, "name a folder on a larger disk with --out")
    yield _check_token("Hub", lambda: access.read_access(os.environ), needed=True)
    yield _check_token("publishing", lambda: access.write_access(os.environ))
    yield _check_token("Jobs", lambda: access.jobs_access(os.environ))
    try:
        specs = evaluator.select_judges(policy.evaluation)
    except AntidoteError as error:
        yield _failed_check("judge", error, needed=True)
        return
    for spec in specs:
        yield _check_judge(spec, policy)


def _check_versions() -> CheckResult:
    found = [f"antidote-ci {_package_version('antidote-ci')}", f"Python {platform.python_version()}"]
    return CheckResult("versions", ", ".join([*found, *(f"{name} {_package_version(name)}" for name in LIBRARIES)]))


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a folder"


def _check_processor() -> CheckResult:
    threads = pluralize(loading.get_threads(), "thread")
    return CheckResult("processor", f"{platform.machine()}, {threads}, {loading.detect_instruction_set()}")


def _check_gpu() -> CheckResult:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return CheckResult(
            "GPU", f"{torch.cuda.get_device_name()}, {_format_gigabytes(free)} of {_format_gigabytes(total)} free"
        )
    if memory_needs.has_accelerator():
        advice = "install the torch that fits its driver: https://pytorch.org/get-started/locally"
        return CheckResult("GPU", "there is a driver of one, and torch does not see it", advice)
    return CheckResult("GPU", "none: fine for small models; --on hf-jobs borrows one (docs/hf-jobs.md)")


def _check_memory() -> CheckResult:
    free = memory.available_bytes()
    if free == memory.UNLIMITED:
        return CheckResult("memory", "this system does not say: what does not fit is found out by trying")
    most = memory_needs.max_weights(free)
    found = f"{_format_gigabytes(free)} free: models of up to {most / 1e9:.1f} billion weights answer here"
    advice = None if most >= MIN_MODEL_WEIGHTS else "end other programs, or use --on hf-jobs (docs/hf-jobs.md)"
    return CheckResult("memory", found, advice, needed=True)


def _check_space(what: str, folder: Path, advice: str) -> CheckResult:
    free = free_space(folder)
    found = f"{_format_gigabytes(free)} free on the disk of {folder}"
    return CheckResult(what, found, advice if free < MIN_SPACE else None, needed=True)


def _check_token(what: str, right: Callable[[], HubAccess], *, needed: bool = False) -> CheckResult:
    """Whether the Hub answers to the token of that right, and to whom. Of fine-grained rights it does not tell all."""
    try:
        found = right()
        if found.token is None:
            _without_retry(found).request("the Hub", access.require_hub)
            return CheckResult(what, f"{printable_endpoint()} answers; without HF_TOKEN only to what is public")
        if found.purpose == "publishing":
            who = _without_retry(found).request("this token", access.read_account).name
        else:
            who = _without_retry(found).request("this token", access.read_name)
    except AntidoteError as error:
        return _failed_check(what, error, needed=needed)
    return CheckResult(what, f"{printable_endpoint()} knows the token: {who}")


def _check_judge(spec: JudgeSpec, policy: Policy) -> CheckResult:
    if spec.name == named.REFUSAL:
        return CheckResult("judge", "refusal: rules, which need nothing")
    try:
        if spec.name == endpoint.NAME:
            api = named.connect_endpoint(policy.evaluation)
            count = len(chat_api.list_models(api.address, api.key, timeout=SERVER_TIMEOUT, attempts=1))
            return CheckResult("judge", f"{spec.name}: {redact_address(api.address)} answers, with {count} models")
        return _check_weights(spec, policy)
    except AntidoteError as error:
        return _failed_check("judge", error, needed=True)


def _check_weights(spec: JudgeSpec, policy: Policy) -> CheckResult:
    """Of a judge: here, or there to be pulled."""
    wanted = named.judge_download(spec, policy.evaluation)
    if wanted is None:
        return CheckResult("judge", f"{spec.name}: nothing to pull")
    if wanted.revision is None:
        if not Path(wanted.model).expanduser().is_dir():
            raise ConfigurationError(
                f"the judge {spec.name} is not in {wanted.model}", hint="name its folder: docs/judges.md"
            )
        return CheckResult("judge", f"{spec.name}: in {wanted.model}")
    remote = pull.resolve_revision(wanted.model, wanted.revision, _without_retry(resolve.pull_access()))
    missing = pull.count_missing_bytes(remote)
    memory_needs.require_memory(f"the judge {spec.name}", memory_needs.remote_memory(remote))
    return CheckResult(
        "judge", f"{spec.name}: {f'{_format_gigabytes(missing)} to download' if missing else 'downloaded'}"
    )


def _without_retry(given: HubAccess) -> HubAccess:
    """A question for a person who waits: an outage is an answer too."""
    return replace(given, retry_policy=NO_RETRY)


def _failed_check(what: str, error: AntidoteError, *, needed: bool) -> CheckResult:
    found = error.what if error.cause is None else f"{error.what}: {error.cause}"
    return CheckResult(what, found, error.hint or "see the message", needed)


def _format_gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
