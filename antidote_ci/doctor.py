"""The command `doctor`: check hardware, disk space, tokens and judges. Nothing is downloaded."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.evaluation.judges import catalog, endpoint
from antidote_ci.evaluation.judges.catalog import JudgeSpec
from antidote_ci.hub import access, memory_needs, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.model import loading, memory
from antidote_ci.paths import find_folder, free_space, require_writable
from antidote_ci.pipeline import evaluator, resolve
from antidote_ci.policy import Policy
from antidote_ci.report.text import pluralize
from antidote_ci.resource_limits import run_limited
from antidote_ci.sandbox.confinement import Confinement, confine, missing_protections

LIBRARIES = ("torch", "transformers", "peft", "huggingface_hub")
MIN_MODEL_WEIGHTS = 100_000_000
"""Number of weights of the smallest usual chat models."""
MIN_SPACE = 2_000_000_000
"""Bytes for a small model, its reference, its scores and its repair."""
SERVER_TIMEOUT = 15.0
SANDBOX_SECONDS, SANDBOX_MEMORY = 10, 1 << 30
NO_RETRY = RetryPolicy(seconds=0)


@dataclass(frozen=True)
class CheckResult:
    """One line of the output."""

    name: str
    value: str
    advice: str | None = None
    """What to do, or None if the check passes."""
    needed: bool = False
    """Whether a run of a Hub model fails without it."""
    unreachable: bool = False
    """Whether the Hub, or the server of a judge, did not answer. The next run may reach it."""
    skipped: bool = False
    """Whether it was not checked, because the Hub cannot be reached."""


def run_checks(policy: Policy, out: Path) -> Iterator[CheckResult]:
    """Check this machine for a run under `policy` with output folder `out`. Some checks send requests to the Hub."""
    yield _check_versions()
    yield _check_processor()
    yield _check_gpu()
    yield _check_memory()
    yield _check_sandbox()
    yield _check_space("downloads", pull.client_cache_folder(), "set HF_HOME to a folder on a larger disk")
    yield _check_space("results", out, "name a folder on a larger disk with --out")
    yield _check_answer_cache()
    hub = _check_token("Hub", lambda: access.read_access(os.environ), needed=True)
    yield hub
    yield _check_token("publishing", lambda: access.write_access(os.environ), skip=hub.unreachable)
    yield _check_token("Jobs", lambda: access.jobs_access(os.environ), skip=hub.unreachable)
    try:
        specs = catalog.parse_judge_specs(policy.evaluation.judge)
    except AntidoteError as error:
        yield _failed_check("judge", error, needed=True)
        return
    for spec in specs:
        check = _check_judge(spec, policy)
        is_repeated = hub.unreachable and check.unreachable and spec.name != endpoint.NAME
        yield _skipped_check("judge", f"the weights of {spec.name}") if is_repeated else check


def _check_versions() -> CheckResult:
    packages = [f"{name} {_package_version(name)}" for name in ("antidote-ci", *LIBRARIES)]
    return CheckResult("versions", ", ".join([*packages, f"Python {platform.python_version()}"]))


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _check_processor() -> CheckResult:
    threads = pluralize(loading.get_threads(), "thread")
    return CheckResult("processor", f"{platform.machine()}, {threads}, {loading.detect_instruction_set()}")


def _check_gpu() -> CheckResult:
    import torch

    if torch.cuda.is_available():
        dtype = str(loading.select_device_and_dtype()[1]).removeprefix("torch.")
        free = _format_gigabytes(memory.free_gpu_bytes())
        return CheckResult("GPU", f"{loading.describe_gpu()}, {free} free, computes in {dtype}")
    if memory_needs.has_accelerator():
        advice = "install the torch that fits its driver: https://pytorch.org/get-started/locally"
        return CheckResult("GPU", "a driver is installed, but torch does not find a GPU", advice)
    return CheckResult("GPU", "none, which is enough for small models; --on hf-jobs runs on a GPU (docs/hf-jobs.md)")


def _check_memory() -> CheckResult:
    free = memory.available_bytes()
    if free == memory.UNLIMITED:
        return CheckResult("memory", "unknown on this system")
    most = memory_needs.max_weights(free)
    value = f"{_format_gigabytes(free)} free, enough for models of up to {most / 1e9:.1f} billion weights"
    merged = memory_needs.max_merged_weights(free)
    if merged < most:
        value += f", or {merged / 1e9:.1f} billion for an adapter of a base in float32"
    advice = None if most >= MIN_MODEL_WEIGHTS else "end other programs, or use --on hf-jobs (docs/hf-jobs.md)"
    return CheckResult("memory", value, advice, needed=True)


def _check_sandbox() -> CheckResult:
    """Check what confines the processes that run models, by confining a fork of this one."""
    protections: list[str] = run_limited(lambda: confine(Confinement([], [])), SANDBOX_SECONDS, SANDBOX_MEMORY)
    missing = missing_protections(protections)
    advice = f"use Linux 5.13 or later on x86-64 or ARM: without {' and '.join(missing)} see docs/threat-model.md"
    return CheckResult("sandbox", ", ".join(protections) or "none", advice if missing else None)


def _check_answer_cache() -> CheckResult:
    try:
        folder = evaluator.require_answer_cache(os.environ)
    except AntidoteError as error:
        return _failed_check("answers", error, needed=True)
    return CheckResult("answers", f"{folder} keeps the answers of models for the next run")


def _check_space(name: str, folder: Path, advice: str) -> CheckResult:
    try:
        require_writable(folder, advice)
    except AntidoteError as error:
        return _failed_check(name, error, needed=True)
    free = free_space(folder)
    value = f"{_format_gigabytes(free)} free on the disk of {folder}"
    return CheckResult(name, value, advice if free < MIN_SPACE else None, needed=True)


def _check_token(name: str, read: Callable[[], HubAccess], *, needed: bool = False, skip: bool = False) -> CheckResult:
    """Check that the Hub accepts a token, and name its account. The Hub does not list all fine-grained permissions.

    `skip` only checks that a token is set.
    """
    try:
        access_used = _without_retry(read())
        if skip:
            return _skipped_check(name, "the token")
        if access_used.token is None:
            access_used.request("the Hub", access.require_hub)
            return CheckResult(name, f"{printable_endpoint()} answers; without HF_TOKEN only public models can be read")
        if access_used.is_workflow:
            return CheckResult(name, "the token of a workflow, which may write to one repository")
        if access_used.purpose == "publishing":
            account = access.read_account(access_used, "this token").name
        else:
            account = access.read_name(access_used, "this token")
    except AntidoteError as error:
        return _failed_check(name, error, needed=needed)
    return CheckResult(name, f"{printable_endpoint()} accepts the token of {account}")


def _check_judge(spec: JudgeSpec, policy: Policy) -> CheckResult:
    if spec.name == catalog.REFUSAL:
        return CheckResult("judge", "refusal: rules, no model needed")
    try:
        if spec.name == endpoint.NAME:
            api = catalog.connect_endpoint(policy.evaluation)
            count = len(chat_api.list_models(api.address, api.key, timeout=SERVER_TIMEOUT, attempts=1))
            return CheckResult("judge", f"{spec.name}: {redact_address(api.address)} answers and serves {count} models")
        return _check_weights(spec)
    except AntidoteError as error:
        return _failed_check("judge", error, needed=True)


def _check_weights(spec: JudgeSpec) -> CheckResult:
    """Check that the weights of a judge are on this machine or can be downloaded."""
    download = catalog.resolve_download(spec)
    if download is None:
        return CheckResult("judge", f"{spec.name}: nothing to download")
    if download.revision is None:
        if find_folder(download.model) is None:
            raise ConfigurationError(
                f"there is no folder {download.model} for the judge {spec.name}", hint="check its name: docs/judges.md"
            )
        return CheckResult("judge", f"{spec.name}: in {download.model}")
    remote = pull.resolve_revision(download.model, download.revision, _without_retry(resolve.pull_access()))
    missing = pull.count_missing_bytes(remote)
    memory_needs.require_memory(f"the judge {spec.name}", memory_needs.remote_weights(remote))
    return CheckResult(
        "judge", f"{spec.name}: {f'{_format_gigabytes(missing)} to download' if missing else 'downloaded'}"
    )


def _without_retry(hub_access: HubAccess) -> HubAccess:
    """Access that reports an outage at once, because a person is waiting."""
    return replace(hub_access, retry_policy=NO_RETRY)


def _failed_check(name: str, error: AntidoteError, *, needed: bool) -> CheckResult:
    value = error.what if error.cause is None else f"{error.what}: {error.cause}"
    return CheckResult(name, value, error.hint or "see the message", needed, unreachable=error.passing)


def _skipped_check(name: str, what: str) -> CheckResult:
    return CheckResult(name, f"{what}: not checked, because the Hub cannot be reached", skipped=True)


def _format_gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
