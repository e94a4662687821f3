"""Builds the `docker run` with which a GitHub runner starts a container action. Pure: nothing is started or read.

Follows actions/runner 2.336.0 (commit 258d6c8), src/Runner.Worker: Handlers/ContainerActionHandler.cs,
Container/DockerCommandManager.cs, Container/ContainerInfo.cs, Handlers/Handler.cs, ActionRunner.cs, StepsRunner.cs,
GitHubContext.cs. Not followed: jobs in a container, proxies of a self-hosted runner, `pre-` and `post-entrypoint`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.image_check.expressions import Contexts, fill

GITHUB_VARIABLES = frozenset(
    [
        *("action", "action_path", "action_ref", "action_repository", "actor", "actor_id", "api_url", "artifacts"),
        *("artifacts_list", "base_ref", "env", "event_name", "event_path", "graphql_url", "head_ref", "job", "output"),
        *("path", "ref", "ref_name", "ref_protected", "ref_type", "repository", "repository_id", "repository_owner"),
        *("repository_owner_id", "retention_days", "run_attempt", "run_id", "run_number", "server_url", "sha"),
        *("state", "step_summary", "triggering_actor", "workflow", "workflow_ref", "workflow_sha", "workspace"),
    ]
)
"""Members of the context `github` that become variables (GitHubContext.cs). The token is not among them."""

FILE_COMMANDS = {
    "path": "add_path_",
    "env": "set_env_",
    "step_summary": "step_summary_",
    "state": "save_state_",
    "output": "set_output_",
    "artifacts": "artifacts_",
    "artifacts_list": "artifacts_list_",
}
"""Member of the context `github` -> prefix of the file, in the order of ExtensionManager.cs."""


@dataclass(frozen=True)
class RunnerFolders:
    """Paths on the runner's machine. On those of GitHub, `temp` is /home/runner/work/_temp, and the `workspace` of a
    repository org/name is /home/runner/work/name/name.
    """

    temp: str
    workspace: str
    docker_socket: str = "/var/run/docker.sock"

    @property
    def file_commands(self) -> str:
        return f"{self.temp}/_runner_file_commands"

    @property
    def mounts(self) -> dict[str, str]:
        """Path on the machine -> path in the container, in the order of ContainerActionHandler.cs."""
        return {
            self.docker_socket: "/var/run/docker.sock",
            self.temp: "/github/runner_temp",
            f"{self.temp}/_github_home": "/github/home",
            f"{self.temp}/_github_workflow": "/github/workflow",
            self.file_commands: "/github/file_commands",
            self.workspace: "/github/workspace",
        }

    def translate(self, value: str) -> str:
        """Translate a variable whose whole value is a path into the path in the container.

        A path within another value stays as it is. The last mount counts first (AddPathTranslateMapping), so the
        temporary folder does not hide the folders in it. The socket has no mapping.
        """
        for outside, inside in list(self.mounts.items())[:0:-1]:
            if value == outside or value.startswith(f"{outside}/"):
                return inside + value.removeprefix(outside)
        return value


@dataclass(frozen=True)
class DockerRun:
    """A `docker run`: the text after these words, and the variables that the runner adds to the docker client's."""

    options: str
    environment: Mapping[str, str]

    @property
    def arguments(self) -> list[str]:
        return split_arguments(self.options)


def build_docker_run(
    step: Mapping[str, Any],
    action: Mapping[str, Any],
    contexts: Contexts,
    service: Mapping[str, str],
    folders: RunnerFolders,
    image: str,
    label: str,
    suffix: str,
) -> DockerRun:
    """Build the `docker run` of a step that uses a container action.

    `step` and `action` are parsed from the workflow and from action.yml. `contexts` are those of the step: `env` holds
    the variables of the workflow, the job and the step, and `github` and `runner` hold paths of the machine.
    `service` are the variables ACTIONS_*. `label` are six digits that identify the runner, `suffix` six random ones.
    """
    inputs = read_inputs(step, action, contexts)
    runs = action["runs"]
    filled = {**contexts, "inputs": inputs}
    environment: dict[str, str | None] = dict(contexts["env"])
    environment |= {f"INPUT_{name.replace(' ', '_').upper()}": text for name, text in inputs.items()}
    # The step's variables win over those of action.yml, also if they are empty.
    environment |= {name: fill(text, filled) for name, text in runs.get("env", {}).items() if name not in environment}
    # HOME is set last of all that a workflow can set: neither `env` nor the image can change it.
    environment["HOME"] = f"{folders.temp}/_github_home"
    environment |= read_variables(contexts)
    environment |= service
    # `-e NAME` without a value: docker copies the variable from its own environment, so no value is in the log.
    options = [
        f"--name {sanitize(image)}_{suffix}",
        f"--label {label}",
        "--workdir /github/workspace",
        "--rm",
        *(f"-e {escape(name)}" for name in environment),
        "-e GITHUB_ACTIONS=true",
        *(["-e CI=true"] if "CI" not in environment else []),
    ]
    # The image's entry point stays if neither action.yml nor the step names one. There is no --user: root, unless the
    # image has another user.
    folded = {name.casefold(): text for name, text in inputs.items()}
    if entrypoint := runs.get("entrypoint") or folded.get("entrypoint"):
        options.append(f'--entrypoint "{entrypoint}"')
    if network := contexts["job"].get("container", {}).get("network"):
        options.append(f"--network {network}")
    options += [f"-v {_quote(outside)}:{_quote(inside)}" for outside, inside in folders.mounts.items()]
    options += [image, _arguments(runs.get("args"), folded.get("args", ""), filled)]
    translated = {name: folders.translate(text) for name, text in environment.items() if text is not None}
    client = {"CI": "true", **translated, "GITHUB_ACTIONS": "true"}
    return DockerRun(" ".join(options).strip(), client)


def read_inputs(step: Mapping[str, Any], action: Mapping[str, Any], contexts: Contexts) -> dict[str, str]:
    """Return all inputs: those of the step, then the defaults of the others; empty without a default (ActionRunner.cs).

    `required` is not enforced. An input that action.yml does not have is passed on, with a warning in the log.
    """
    inputs = {name: fill(text, contexts) for name, text in step.get("with", {}).items()}
    given = {name.casefold() for name in inputs}
    defaults = {name: entry.get("default") for name, entry in action.get("inputs", {}).items()}
    return inputs | {name: fill(text, contexts) for name, text in defaults.items() if name.casefold() not in given}


def read_variables(contexts: Contexts) -> dict[str, str | None]:
    """Return the variables GITHUB_* and RUNNER_*. A member without a value has no variable in the container."""
    github = {
        f"GITHUB_{name.upper()}": fill(value, {}) if value is not None else None
        for name, value in contexts["github"].items()
        if name in GITHUB_VARIABLES and not isinstance(value, Mapping)
    }
    return github | {f"RUNNER_{name.upper()}": value for name, value in contexts["runner"].items()}


def sanitize(name: str) -> str:
    """Keep letters, `_`, and digits that are not at the start (NameValidation.cs)."""
    return re.sub(r"[^A-Za-z0-9_]", "", name).lstrip("0123456789")


def escape(text: str) -> str:
    """Quote like DockerUtil.cs: a backslash is doubled before a double quote and at the end only."""
    return '"' + re.sub(r"(\\+)$", r"\1\1", re.sub(r'(\\*)"', r"\1\1\\" + '"', text)) + '"'


def split_arguments(text: str) -> list[str]:
    """Split like .NET on Linux (ParseArgumentsIntoList of System.Diagnostics.Process)."""
    arguments: list[str] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at] in " \t":
            at += 1
        if at == end:
            return arguments
        argument, quoted = "", False
        while at < end and (quoted or text[at] not in " \t"):
            slashes = len(text[at:]) - len(text[at:].lstrip("\\"))
            at += slashes
            before_quote = text[at : at + 1] == '"'
            argument += "\\" * (slashes // 2 if before_quote else slashes)
            if before_quote and slashes % 2:
                argument, at = argument + '"', at + 1
            elif slashes:
                continue
            elif before_quote and quoted and text[at + 1 : at + 2] == '"':  # two in a quoted part are one
                argument, at = argument + '"', at + 2
            elif before_quote:
                quoted, at = not quoted, at + 1
            else:
                argument, at = argument + text[at], at + 1
        arguments.append(argument)


def _arguments(args: Sequence[Any] | None, given: str, contexts: Contexts) -> str:
    """Return the text after the image. Without `args` in action.yml it is the text of the input `args`, as it is."""
    if args is None:
        return given
    return "".join(f" {_quote(fill(argument, contexts))}" for argument in args)


def _quote(text: str) -> str:
    """Quote without regard to backslashes, as the runner quotes paths and arguments."""
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
