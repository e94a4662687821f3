"""What a Job is asked to do: the command of this machine, with everything that it names folded in."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci import __version__
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import prompt_sets
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.evaluation.judges import endpoint
from antidote_ci.hub import pull
from antidote_ci.jobs import input_bundle
from antidote_ci.jobs.entrypoint import OUT, TOKEN_VARIABLE
from antidote_ci.jobs.input_bundle import BundleFile
from antidote_ci.pipeline import evaluator, output, resolve
from antidote_ci.policy import EMBEDDED, SELF, Command, JobsSection, Policy, RunConfig, override_section, to_toml

IMAGE_VARIABLE = "ANTIDOTE_IMAGE"
"""Set in an image: its own name."""
POLICY_FILE = BundleFile("policy", "antidote.toml", b"")
POLICY_OPTION = f"--policy={POLICY_FILE.folder}/{POLICY_FILE.name}"
TOOL_LABEL = "antidote-ci"
NAME_CHARACTERS = 60


@dataclass(frozen=True)
class JobSpec:
    """One command on one commit under one policy, with its files."""

    command: Command
    model: str
    revision: str
    policy_sha256: str
    image: str
    input_bundle: str

    @property
    def arguments(self) -> list[str]:
        """What the Job runs. Options are values of the policy, so there are few."""
        return [
            TOOL_LABEL,
            self.command,
            POLICY_OPTION,
            f"--revision={self.revision}",
            f"--out={OUT}",
            "--",
            self.model,
        ]

    @property
    def id(self) -> str:
        """Equal for equal work."""
        said = [__version__, self.image, self.arguments, self.policy_sha256, self.input_bundle]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    @property
    def labels(self) -> dict[str, str]:
        return {"tool": TOOL_LABEL, "order": self.id}

    @property
    def name(self) -> str:
        """For people who look at their Jobs."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", f"{TOOL_LABEL}-{self.command}-{self.model}")[:NAME_CHARACTERS]

    def environment(self, token: str) -> dict[str, str]:
        return {TOKEN_VARIABLE: token, input_bundle.VARIABLE: self.input_bundle}


def require_job_supported(config: RunConfig, command: Command) -> None:
    """Raise ConfigurationError for what a Job cannot do, or what could not be written after it."""
    output.require_supported(config, command)
    if config.save_answers is not None:
        raise ConfigurationError(
            "--save-answers cannot be had from a Job",
            cause="what a model wrote would have to travel through the Job's log, which others may read",
            hint="drop it, or run --on here",
        )
    if resolve.is_server_address(config.model):
        raise ConfigurationError(
            f"{redact_address(config.model)} is a server: it answers from where it is",
            cause="a Job would only add a way to it",
            hint="run --on here",
        )
    folders = [config.model, config.policy.repair.reference]
    folders += [spec.folder for spec in evaluator.select_judges(config.policy.evaluation)]
    for each in folders:
        if each is not None and pull.is_local(each):
            raise ConfigurationError(
                f"{each} is a folder of this machine, which a Job does not see",
                hint="publish it to the Hub first (it may be private) and name it ORG/NAME, or run --on here",
            )


def build_job_spec(command: Command, config: RunConfig, revision: str, environ: Mapping[str, str]) -> JobSpec:
    """The order for one commit. Reads the files that the policy names.

    Raises ConfigurationError without an image, for files that are not there and for more than fits.
    """
    policy = config.policy
    return JobSpec(
        command, config.model, revision, policy.sha256(), resolve_image(policy, environ), pack_policy(policy)
    )


def resolve_image(policy: Policy, environ: Mapping[str, str]) -> str:
    """The image that a Job runs. Raises ConfigurationError where none is named."""
    named = policy.jobs.image or environ.get(IMAGE_VARIABLE)
    if not named:
        raise ConfigurationError(
            "a Job needs an image, and none is named",
            cause=f"neither jobs.image nor {IMAGE_VARIABLE} is set",
            hint='write image = "ghcr.io/ORG/antidote-ci:VERSION-cuda" into [jobs] of antidote.toml',
        )
    return named


def pack_policy(policy: Policy) -> str:
    """The policy and the files that it names, as luggage: inside, `POLICY_OPTION` reads it back."""
    files = list_local_files(policy)
    text = to_toml(replace(_relocate_files(policy, files), jobs=JobsSection()))
    items = [replace(POLICY_FILE, content=text.encode())]
    items += [BundleFile(key, path.name, _read_file(path)) for (_, key), path in files.items()]
    return input_bundle.pack_bundle(items)


def list_local_files(policy: Policy) -> dict[tuple[str, str], Path]:
    """Section and key -> the file of this machine that the policy names there."""
    named = policy.evaluation
    found = {
        ("evaluation", key): Path(origin)
        for key, origin in (("prompts", named.prompts), ("benign", named.benign))
        if origin not in (None, EMBEDDED) and not prompt_sets.select_presets(origin)
    }
    if named.task not in (None, EMBEDDED):
        found["evaluation", "task"] = Path(named.task)
    if named.calibration is not None:
        found["evaluation", "calibration"] = Path(named.calibration)
    if policy.repair.realignment not in (SELF, EMBEDDED):
        found["repair", "realignment"] = Path(policy.repair.realignment)
    return found


def collect_secrets(command: Command, policy: Policy, environ: Mapping[str, str]) -> dict[str, str]:
    """What the command may need to know, and nothing more; the token that starts Jobs is never among it.

    Raises InfrastructureError where it is to publish and has nothing to publish with.
    """
    wanted = ["HF_TOKEN"]
    if any(spec.name == endpoint.NAME for spec in evaluator.select_judges(policy.evaluation)):
        wanted.append(endpoint.KEY_VARIABLE)
    if command == "run" and policy.publish.mode != "none":
        wanted.append("HF_WRITE_TOKEN")
    found = {name: value for name in wanted if (value := environ.get(name, "").strip())}
    if "HF_WRITE_TOKEN" in wanted and not found.keys() & {"HF_TOKEN", "HF_WRITE_TOKEN"}:
        raise InfrastructureError(
            "publishing from a Job needs a token that may write",
            cause="neither HF_WRITE_TOKEN nor HF_TOKEN is set, and a Job has no identity of a workflow",
            hint="set HF_WRITE_TOKEN to a token that may write there, or use --publish none",
        )
    return found


def _relocate_files(policy: Policy, files: Mapping[tuple[str, str], Path]) -> Policy:
    """The policy with its files where the Job unpacks them; their names, and so its hash, stay."""
    for (section, key), path in files.items():
        policy = override_section(policy, section, **{key: f"{key}/{path.name}"})
    return policy


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > input_bundle.MAX_UNPACKED:
            raise ConfigurationError(f"{path} is larger than a Job can be given", hint="publish it, or run --on here")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint="check the path") from None
