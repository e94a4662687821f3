"""What the service was told, once and for its whole life."""

import shutil
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from antidote_ci.errors import ConfigurationError
from antidote_ci.jobs.job_spec import list_local_files
from antidote_ci.policy import Policy, override_section, to_toml

CLI_COMMAND = (sys.executable, "-P", "-m", "antidote_ci")
RETRY_PAUSES = (30.0, 120.0, 600.0)
SECONDS_TO_END = {"here": 6.0, "hf-jobs": 40.0}
"""A Job is cancelled meanwhile, and the Hub may be slow."""


@dataclass(frozen=True)
class RunSettings:
    """How orders are worked off."""

    policy: Policy
    folder: Path
    """Where the service keeps everything."""
    on: Literal["here", "hf-jobs"] = "here"
    command: tuple[str, ...] = CLI_COMMAND
    """What a run is started with, before its arguments."""
    pauses: tuple[float, ...] = RETRY_PAUSES
    """Seconds before each further attempt, where the fault was not the model's."""

    @cached_property
    def policy_sha256(self) -> str:
        """By which orders name the policy."""
        return self.policy.sha256()

    @property
    def policy_file(self) -> Path:
        """The policy as runs read it: an edit of the user's file waits for the next start."""
        return self.folder / "policy.toml"

    @property
    def seconds_to_end(self) -> float:
        """From a run's polite signal to the other; either leaves what the next attempt goes on with."""
        return SECONDS_TO_END[self.on]

    def write_policy(self) -> None:
        """Leave the policy in the folder, whole or not at all, and the files that it names beside it.

        Raises ConfigurationError for one that cannot be read.
        """
        policy = self.policy
        for (section, key), named in list_local_files(policy).items():
            kept = self.folder.absolute() / "policy" / key / named.name
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(named, kept)
            except OSError as error:
                raise ConfigurationError(f"{named} cannot be kept: {error.strerror}", hint="check the path") from None
            policy = override_section(policy, section, **{key: str(kept)})
        part = self.policy_file.with_suffix(".part")
        part.write_text(to_toml(policy), encoding="utf-8")
        part.replace(self.policy_file)


@dataclass(frozen=True)
class ServiceSettings:
    """How the service is reached."""

    run_settings: RunSettings
    secret: str = field(repr=False)
    repositories: tuple[str, ...]
    """The allow-list: ORG/NAME or ORG/*."""
    database: str = field(default="", repr=False)
    """A URL, which may hold a password; empty for a SQLite file in the folder."""
    host: str = "127.0.0.1"
    port: int = 8080
    runs: int = 1
    """How many at once, over all repositories."""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.run_settings.folder.absolute() / 'queue.sqlite'}"
