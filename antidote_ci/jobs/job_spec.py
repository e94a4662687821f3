"""Specification of a Job: the command with its policy, and the files that the policy names."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from antidote_ci import __version__
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import prompt_sets
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.evaluation.judges import catalog, endpoint
from antidote_ci.hub.jobs_api import JobRequest
from antidote_ci.jobs import transfer
from antidote_ci.jobs.entrypoint import OUT
from antidote_ci.jobs.transfer import FILES_VARIABLE
from antidote_ci.paths import is_path
from antidote_ci.pipeline import model_names, output
from antidote_ci.policy import EMBEDDED, SELF, Command, JobsSection, Policy, RunConfig, override_section, to_toml

IMAGE_VARIABLE = "ANTIDOTE_IMAGE"
"""Set in an image to its own name."""
POLICY_FILE = "policy/antidote.toml"
POLICY_OPTION = f"--policy={POLICY_FILE}"
TOOL_LABEL = "antidote-ci"
NAME_CHARACTERS = 60


def require_job_supported(config: RunConfig, command: Command) -> None:
    """Raise ConfigurationError for options that a Job does not support, and for an unwritable output folder."""
    output.require_supported(config, command)
    if command == "run" and config.policy.repair.keep_failed:
        raise ConfigurationError(
            "--keep-failed is not supported on HF Jobs",
            cause="the weights are lost when the Job ends",
            hint="add --no-keep-failed, or run --on here",
        )
    if config.save_answers is not None:
        raise ConfigurationError(
            "--save-answers is not supported on HF Jobs",
            cause="the answers would pass through the Job's log, which others may read",
            hint="remove it, or run --on here",
        )
    if model_names.is_server_address(config.model):
        raise ConfigurationError(
            f"{redact_address(config.model)} is a model server, which a Job does not start",
            cause="the server generates the answers, so a Job has no benefit",
            hint="run --on here",
        )
    folders = [config.model, config.policy.repair.reference]
    folders += [spec.folder for spec in catalog.parse_judge_specs(config.policy.evaluation.judge)]
    for folder in folders:
        if folder is not None and is_path(folder):
            raise ConfigurationError(
                f"{folder} is a local folder, which a Job cannot read",
                hint="upload it to the Hub first (it may be private) and use ORG/NAME, or run --on here",
            )
    resolve_image(config.policy, os.environ)


def build_job_request(
    command: Command, config: RunConfig, namespace: str, flavor: str, environ: Mapping[str, str]
) -> JobRequest:
    """The Job for one commit, `config.revision`. Reads the files that the policy names.

    Its label `order` is equal for equal work, so that a running Job can be found. Raises ConfigurationError when no
    image is set, and for files that are missing or too large, and as `collect_secrets`.
    """
    policy, revision = config.policy, config.revision
    image, files = resolve_image(policy, environ), pack_policy(policy)
    # Most options are part of the policy.
    arguments = [TOOL_LABEL, command, POLICY_OPTION, f"--revision={revision}", f"--out={OUT}", "--", config.model]
    work = json.dumps([__version__, image, arguments, policy.sha256(), files])
    return JobRequest(
        namespace=namespace,
        image=image,
        command=arguments,
        environment={FILES_VARIABLE: files},
        secrets=collect_secrets(command, policy, environ),
        flavor=flavor,
        seconds=policy.jobs.timeout_seconds,
        name=re.sub(r"[^A-Za-z0-9_-]", "-", f"{TOOL_LABEL}-{command}-{config.model}")[:NAME_CHARACTERS],
        labels={"tool": TOOL_LABEL, "order": hashlib.sha256(work.encode()).hexdigest()[:32]},
    )


def resolve_image(policy: Policy, environ: Mapping[str, str]) -> str:
    """The image of a Job. Raises ConfigurationError when none is set."""
    image = policy.jobs.image or environ.get(IMAGE_VARIABLE)
    if not image:
        raise ConfigurationError(
            "a Job needs an image, and none is set",
            cause=f"neither jobs.image nor {IMAGE_VARIABLE} is set",
            hint='set image = "ghcr.io/ORG/antidote-ci:VERSION-cuda" in [jobs] of antidote.toml',
        )
    return image


def pack_policy(policy: Policy, jobs: JobsSection | None = None) -> str:
    """The policy and the files that it names, packed. `POLICY_OPTION` reads the policy inside the Job.

    `jobs` is for a Job that starts other Jobs.
    """
    files = list_local_files(policy)
    text = to_toml(replace(_relocate_files(policy, files), jobs=jobs or JobsSection()))
    contents = {f"{key}/{path.name}": _read_file(path) for (_, key), path in files.items()}
    return transfer.pack_files({POLICY_FILE: text.encode(), **contents})


def list_local_files(policy: Policy) -> dict[tuple[str, str], Path]:
    """Section and key of the policy -> the local file that is set there."""
    evaluation = policy.evaluation
    files = {
        ("evaluation", key): Path(origin)
        for key, origin in (("prompts", evaluation.prompts), ("benign", evaluation.benign))
        if origin not in (None, EMBEDDED) and not prompt_sets.select_presets(origin)
    }
    if evaluation.task not in (None, EMBEDDED) and not prompt_sets.match_hub_task(evaluation.task):
        files["evaluation", "task"] = Path(evaluation.task)
    if evaluation.calibration is not None:
        files["evaluation", "calibration"] = Path(evaluation.calibration)
    if policy.gate.baseline is not None:
        files["gate", "baseline"] = Path(policy.gate.baseline)
    if policy.repair.realignment not in (SELF, EMBEDDED):
        files["repair", "realignment"] = Path(policy.repair.realignment)
    return files


def collect_secrets(command: Command, policy: Policy, environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets that the command needs inside the Job. The token that starts Jobs is never one of them.

    Raises InfrastructureError when the command publishes and no token is set.
    """
    wanted = ["HF_TOKEN"]
    if any(spec.name == endpoint.NAME for spec in catalog.parse_judge_specs(policy.evaluation.judge)):
        wanted.append(endpoint.KEY_VARIABLE)
    if policy.publish.applies_to(command):
        wanted.append("HF_WRITE_TOKEN")
    secrets = {name: value for name in wanted if (value := environ.get(name, "").strip())}
    if "HF_WRITE_TOKEN" in wanted and not secrets.keys() & {"HF_TOKEN", "HF_WRITE_TOKEN"}:
        raise InfrastructureError(
            "publishing from a Job needs a write token",
            cause="neither HF_WRITE_TOKEN nor HF_TOKEN is set, and a Job has no OIDC identity",
            hint="set HF_WRITE_TOKEN to a token with write access, or use --publish none",
        )
    return secrets


def _relocate_files(policy: Policy, files: Mapping[tuple[str, str], Path]) -> Policy:
    """The policy with the paths of its files inside the Job. File names, and so the policy's hash, do not change."""
    for (section, key), path in files.items():
        policy = override_section(policy, section, **{key: f"{key}/{path.name}"})
    return policy


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > transfer.MAX_UNPACKED:
            raise ConfigurationError(f"{path} is too large for a Job", hint="publish it, or run --on here")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint="check the path") from None
