"""`doctor`: what this machine can do, a line each, and what to do about what it lacks. Nothing is downloaded."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.json_api import without_secrets
from antidote_ci.evaluation.judges import endpoint, named
from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.hub import access, identity, memory_needs, pull
from antidote_ci.hub.access import Access
from antidote_ci.hub.client import address
from antidote_ci.hub.retry import Patience
from antidote_ci.model import loading, memory
from antidote_ci.paths import free_space
from antidote_ci.pipeline import evaluator, resolve
from antidote_ci.policy import Policy
from antidote_ci.report.text import counted

LIBRARIES = ("torch", "transformers", "peft", "huggingface_hub")
SMALLEST_MODEL = 100_000_000
"""Weights, fewer than which hardly a chat model has."""
LEAST_SPACE = 2_000_000_000
"""Bytes that a small model, its reference, its scores and its repair take."""
SECONDS_OF_SERVER = 15.0
ONCE = Patience(seconds=0)


@dataclass(frozen=True)
class Finding:
    """One line."""

    what: str
    found: str
    advice: str | None = None
    """What to do about a lack; None where nothing is lacking."""
    needed: bool = False
    """No run of a model of the Hub works without it."""


def examine(policy: Policy, out: Path) -> Iterator[Finding]:
    """What a run under `policy` with results in `out` finds here, one after the other: some ask the Hub."""
    yield _versions()
    yield _processor()
    yield _gpu()
    yield _memory()
    yield _space("downloads", pull.cache_folder(), "set HF_HOME to a folder on a larger disk")
    yield _space("results", out, "name a folder on a larger disk with --out")
    yield _token("Hub", lambda: access.reading(os.environ), needed=True)
    yield _token("publishing", lambda: access.writing(os.environ))
    yield _token("Jobs", lambda: access.submitting(os.environ))
    try:
        specs = evaluator.judges_named(policy.evaluation)
    except AntidoteError as error:
        yield _lacking("judge", error, needed=True)
        return
    for spec in specs:
        yield _judge(spec, policy)


def _versions() -> Finding:
    found = [f"antidote-ci {_version('antidote-ci')}", f"Python {platform.python_version()}"]
    return Finding("versions", ", ".join([*found, *(f"{name} {_version(name)}" for name in LIBRARIES)]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a folder"


def _processor() -> Finding:
    threads = counted(loading.threads(), "thread")
    return Finding("processor", f"{platform.machine()}, {threads}, {loading.instruction_set()}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Finding("GPU", f"{torch.cuda.get_device_name()}, {_gigabytes(free)} of {_gigabytes(total)} free")
    if memory_needs.has_accelerator():
        advice = "install the torch that fits its driver: https://pytorch.org/get-started/locally"
        return Finding("GPU", "there is a driver of one, and torch does not see it", advice)
    return Finding("GPU", "none: fine for small models; --on hf-jobs borrows one (docs/hf-jobs.md)")


def _memory() -> Finding:
    free = memory.available()
    if free == memory.UNLIMITED:
        return Finding("memory", "this system does not say: what does not fit is found out by trying")
    most = memory_needs.most_weights(free)
    found = f"{_gigabytes(free)} free: models of up to {most / 1e9:.1f} billion weights answer here"
    advice = None if most >= SMALLEST_MODEL else "end other programs, or use --on hf-jobs (docs/hf-jobs.md)"
    return Finding("memory", found, advice, needed=True)


def _space(what: str, folder: Path, advice: str) -> Finding:
    free = free_space(folder)
    found = f"{_gigabytes(free)} free on the disk of {folder}"
    return Finding(what, found, advice if free < LEAST_SPACE else None, needed=True)


def _token(what: str, right: Callable[[], Access], *, needed: bool = False) -> Finding:
    """Whether the Hub answers to the token of that right, and to whom. Of fine-grained rights it does not tell all."""
    try:
        found = right()
        if found.token is None:
            _once(found).ask("the Hub", identity.require_hub)
            return Finding(what, f"{address()} answers; without HF_TOKEN only to what is public")
        if found.purpose == "publishing":
            who = _once(found).ask("this token", identity.identity).name
        else:
            who = _once(found).ask("this token", identity.name_of)
    except AntidoteError as error:
        return _lacking(what, error, needed=needed)
    return Finding(what, f"{address()} knows the token: {who}")


def _judge(spec: JudgeSpec, policy: Policy) -> Finding:
    if spec.name == named.REFUSAL:
        return Finding("judge", "refusal: rules, which need nothing")
    try:
        if spec.name == endpoint.NAME:
            api = named.endpoint_api(policy.evaluation)
            count = len(chat_api.models(api.address, api.key, timeout=SECONDS_OF_SERVER, attempts=1))
            return Finding("judge", f"{spec.name}: {without_secrets(api.address)} answers, with {count} models")
        return _weights(spec, policy)
    except AntidoteError as error:
        return _lacking("judge", error, needed=True)


def _weights(spec: JudgeSpec, policy: Policy) -> Finding:
    """Of a judge: here, or there to be pulled."""
    wanted = named.wanted(spec, policy.evaluation)
    if wanted is None:
        return Finding("judge", f"{spec.name}: nothing to pull")
    if wanted.revision is None:
        if not Path(wanted.model).expanduser().is_dir():
            raise ConfigurationError(
                f"the judge {spec.name} is not in {wanted.model}", hint="name its folder: docs/judges.md"
            )
        return Finding("judge", f"{spec.name}: in {wanted.model}")
    remote = pull.resolve(wanted.model, wanted.revision, _once(resolve.access()))
    missing = pull.missing_bytes(remote)
    memory_needs.require_memory(f"the judge {spec.name}", memory_needs.memory_needed(remote))
    return Finding("judge", f"{spec.name}: {f'{_gigabytes(missing)} to download' if missing else 'downloaded'}")


def _once(given: Access) -> Access:
    """A question for a person who waits: an outage is an answer too."""
    return replace(given, patience=ONCE)


def _lacking(what: str, error: AntidoteError, *, needed: bool) -> Finding:
    found = error.what if error.cause is None else f"{error.what}: {error.cause}"
    return Finding(what, found, error.hint or "see the message", needed)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
