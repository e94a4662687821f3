"""Settings of the service, fixed for the life of its process."""

import shutil
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from antidote_ci.errors import ConfigurationError
from antidote_ci.jobs.job_spec import list_local_files
from antidote_ci.paths import create_file, require_real_folder, write_file
from antidote_ci.policy import Policy, override_section, to_toml

CLI_COMMAND = (sys.executable, "-P", "-m", "antidote_ci")
RETRY_PAUSES = (30.0, 120.0, 600.0)
SECONDS_TO_END = {"here": 6.0, "hf-jobs": 40.0}
"""A child that runs a Job cancels it first, and the Hub may be slow."""
SECRET_VARIABLE = "ANTIDOTE_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - the name of the header
MIN_SECRET_LENGTH = 32


@dataclass(frozen=True)
class ServiceSettings:
    """How the service is reached, and how run requests are processed."""

    policy: Policy
    folder: Path
    """The service's folder: database, policy, runs and reports."""
    repositories: tuple[str, ...]
    """Allow list: ORG/NAME or ORG/*."""
    secret: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8080
    runs: int = 1
    """Number of concurrent runs, over all repositories."""
    on: Literal["here", "hf-jobs"] = "here"
    command: tuple[str, ...] = CLI_COMMAND
    """The command that starts a run, without its arguments."""
    retry_pauses: tuple[float, ...] = RETRY_PAUSES
    """Seconds before each further attempt when a run failed for a reason outside the model."""

    @cached_property
    def policy_sha256(self) -> str:
        return self.policy.sha256()

    @property
    def policy_file(self) -> Path:
        """The copy of the policy that runs read. Edits of the user's file take effect at the next start."""
        return self.folder / "policy.toml"

    @property
    def database(self) -> Path:
        return self.folder / "queue.sqlite"

    @property
    def seconds_to_end(self) -> float:
        """Seconds between SIGTERM and SIGKILL for a child. After either, the next attempt can continue its work."""
        return SECONDS_TO_END[self.on]

    def write_policy(self) -> None:
        """Copy the policy, and the files that it names, into the folder. The policy file is replaced atomically.

        Raises ConfigurationError for a file that cannot be read.
        """
        policy = self.policy
        for (section, key), source in list_local_files(policy).items():
            copy = self.folder.absolute() / "policy" / key / source.name
            try:
                for below in (copy.parent.parent, copy.parent):
                    require_real_folder(below, "use another --folder")
                with source.open("rb") as original, create_file(copy) as file:
                    shutil.copyfileobj(original, file)
            except OSError as error:
                raise ConfigurationError(
                    f"{source} cannot be copied: {error.strerror}", hint="check the path"
                ) from None
            policy = override_section(policy, section, **{key: str(copy)})
        part = self.policy_file.with_suffix(".part")
        write_file(part, to_toml(policy).encode())
        part.replace(self.policy_file)


def require_strong_secret(secret: str | None) -> str:
    """The secret without surrounding white space. Raises ConfigurationError when it is missing or can be guessed."""
    secret = (secret or "").strip()
    hint = f"create one: export {SECRET_VARIABLE}=$(openssl rand -hex 32)"
    if not secret:
        raise ConfigurationError(
            f"{SECRET_VARIABLE} is not set", cause="without a secret, anyone could request runs", hint=hint
        )
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{SECRET_VARIABLE} has {len(secret)} characters, fewer than {MIN_SECRET_LENGTH}",
            cause="a short secret can be guessed",
            hint=hint,
        )
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise ConfigurationError(
            f"{SECRET_VARIABLE} has characters that an HTTP header cannot contain",
            cause=f"the Hub sends the secret in the header {SECRET_HEADER}",
            hint=hint,
        )
    return secret
