"""The `docker run` of a container action, against logs of GitHub's runners and the tests of actions/runner."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from action import inputs as action_inputs
from antidote_ci.cli.init import ACTION, render_workflow
from scripts.image_check import acting
from scripts.image_check.container_action import (
    FILE_COMMANDS,
    DockerRun,
    RunnerFolders,
    build_docker_run,
    escape,
    sanitize,
    split_arguments,
)
from scripts.image_check.expressions import fill

ROOT = Path(__file__).parents[2]
OURS: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
FOLDERS = RunnerFolders("/home/runner/work/_temp", "/home/runner/work/name/name")

# The parts of `docker run` lines in public logs of GitHub's runners, from February to August 2026. Only the name of the
# repository is changed.
START = "--name {name} --label {label} --workdir /github/workspace --rm "
GITHUB = " ".join(
    f'-e "GITHUB_{name}"'
    for name in (
        *("JOB", "REF", "SHA", "REPOSITORY", "REPOSITORY_OWNER", "REPOSITORY_OWNER_ID", "RUN_ID", "RUN_NUMBER"),
        *("RETENTION_DAYS", "RUN_ATTEMPT", "ACTOR_ID", "ACTOR", "WORKFLOW", "HEAD_REF", "BASE_REF", "EVENT_NAME"),
        *("SERVER_URL", "API_URL", "GRAPHQL_URL", "REF_NAME", "REF_PROTECTED", "REF_TYPE", "WORKFLOW_REF"),
        *("WORKFLOW_SHA", "REPOSITORY_ID", "TRIGGERING_ACTOR", "WORKSPACE", "ACTION", "EVENT_PATH"),
        *("ACTION_REPOSITORY", "ACTION_REF", "PATH", "ENV", "STEP_SUMMARY", "STATE", "OUTPUT"),
    )
)
ARTIFACTS = ' -e "GITHUB_ARTIFACTS" -e "GITHUB_ARTIFACTS_LIST"'
RUNNER = " ".join(
    f'-e "RUNNER_{name}"' for name in ("OS", "ARCH", "NAME", "ENVIRONMENT", "TOOL_CACHE", "TEMP", "WORKSPACE")
)
SERVICE = (
    '-e "ACTIONS_RUNTIME_URL" -e "ACTIONS_RUNTIME_TOKEN" -e "ACTIONS_CACHE_URL" -e "ACTIONS_RESULTS_URL" '
    '-e "ACTIONS_ORCHESTRATION_ID" -e GITHUB_ACTIONS=true -e CI=true '
)
MOUNTS = (
    '-v "/var/run/docker.sock":"/var/run/docker.sock" -v "/home/runner/work/_temp":"/github/runner_temp" '
    '-v "/home/runner/work/_temp/_github_home":"/github/home" '
    '-v "/home/runner/work/_temp/_github_workflow":"/github/workflow" '
    '-v "/home/runner/work/_temp/_runner_file_commands":"/github/file_commands" '
    '-v "/home/runner/work/name/name":"/github/workspace" '
)


def build(
    step: Mapping[str, Any],
    action: Mapping[str, Any],
    *,
    image: str = "0a1b2c:ff00",
    label: str = "0a1b2c",
    env: Mapping[str, str] | None = None,
    runner: Mapping[str, str] | None = None,
    folders: RunnerFolders = FOLDERS,
    network: str | None = None,
) -> DockerRun:
    contexts = acting.create_contexts(folders, network, env or {})
    files = {name: f"{folders.file_commands}/{prefix}1" for name, prefix in FILE_COMMANDS.items()}
    contexts["github"] |= files
    contexts["runner"] = {**(runner or {}), **contexts["runner"]}
    contexts["env"] |= {name: fill(text, contexts) for name, text in step.get("env", {}).items()}
    return build_docker_run(step, action, contexts, acting.SERVICE, folders, image, label, "5af5b7")


def test_a_recorded_action_without_inputs() -> None:
    run = build({}, {"runs": {}}, image="a8d000:3067ca3cb1c84eba976d46e253c7ce7d", label="a8d000")
    name = "a8d0003067ca3cb1c84eba976d46e253c7ce7d_5af5b7"
    assert run.options == (
        START.format(name=name, label="a8d000")
        + f'-e "HOME" {GITHUB}{ARTIFACTS} {RUNNER} {SERVICE}{MOUNTS}a8d000:3067ca3cb1c84eba976d46e253c7ce7d'
    )


def test_a_recorded_action_with_arguments_and_a_variable_of_the_workflow() -> None:
    defaults = {"use-quiet-mode": "no", "config-file": "mlc_config.json", "max-depth": -1, "file-path": None}
    action = {
        "inputs": {name: {"default": text} if text is not None else {} for name, text in defaults.items()},
        "runs": {"args": [f"${{{{ inputs.{name} }}}}" for name in defaults]},
    }
    step = {"with": {"use-quiet-mode": "yes", "config-file": ".github/mlc_config.json"}}
    image = "d2489c:74c5a34332c047f08d6daf78c2edba59"
    run = build(step, action, image=image, label="d2489c", env={"TEXLIVE_VERSION": "2025"})
    assert run.options == (
        START.format(name="d2489c74c5a34332c047f08d6daf78c2edba59_5af5b7", label="d2489c")
        + '-e "TEXLIVE_VERSION" -e "INPUT_USE-QUIET-MODE" -e "INPUT_CONFIG-FILE" -e "INPUT_MAX-DEPTH" '
        + f'-e "INPUT_FILE-PATH" -e "HOME" {GITHUB}{ARTIFACTS} {RUNNER} {SERVICE}{MOUNTS}{image}'
        + '  "yes" ".github/mlc_config.json" "-1" ""'
    )
    assert run.arguments[-5:] == [image, "yes", ".github/mlc_config.json", "-1", ""]
    assert run.environment["INPUT_FILE-PATH"] == ""


def test_a_recorded_action_with_a_published_image_and_an_entry_point() -> None:
    action = {
        "inputs": {"scan-args": {}},
        "runs": {"entrypoint": "/root/osv-reporter", "args": ["${{ inputs.scan-args }}"]},
    }
    lines = "--output=results.sarif\n--new=results.json\n--fail-on-vuln=true"
    image = "ghcr.io/google/osv-scanner-action:v2.3.1"
    run = build({"with": {"scan-args": lines}}, action, image=image, label="885ddd")
    assert run.options == (
        START.format(name="ghcriogoogleosvscanneractionv231_5af5b7", label="885ddd")
        + f'-e "INPUT_SCAN-ARGS" -e "HOME" {GITHUB}{ARTIFACTS} {RUNNER} {SERVICE}--entrypoint "/root/osv-reporter" '
        + f'{MOUNTS}{image}  "{lines}"'
    )
    assert run.arguments[-1] == lines


def test_a_recorded_log_with_debugging_has_a_variable_more() -> None:
    run = build({}, {"runs": {}}, runner={"debug": "1"})
    assert f'{ARTIFACTS} -e "RUNNER_DEBUG" {RUNNER} ' in run.options


def test_our_action_is_started_as_root_with_the_image_s_entry_point_and_no_command() -> None:
    """And with every input, though the step sets two."""
    run = build({"uses": ACTION, "with": {"model": "org/name", "accept-repair": True}}, OURS)
    options, _, after = run.options.partition(" 0a1b2c:ff00")
    assert after == ""
    assert not {"--user", "-u", "--entrypoint", "--gpus"} & set(split_arguments(options))
    named = [name.removeprefix("INPUT_") for name in run.arguments if name.startswith("INPUT_")]
    assert sorted(named) == sorted(name.upper() for name in action_inputs.INPUTS)
    assert run.environment["INPUT_ACCEPT-REPAIR"] == "true"
    assert {run.environment[f"INPUT_{name}"] for name in named} == {"org/name", "true", ""}
    assert action_inputs.cli_arguments(run.environment) == ["run", "--accept-repair", "--", "org/name"]


def test_no_value_is_in_the_command_line() -> None:
    """The runner prints it to the log."""
    secret = 'hf_"secret" \\'
    step = {"with": {"hf-token": secret}, "env": {"HF_WRITE_TOKEN": secret}}
    run = build(step, OURS)
    assert not [word for word in run.arguments if "secret" in word]
    assert run.environment["INPUT_HF-TOKEN"] == run.environment["HF_WRITE_TOKEN"] == secret


@pytest.mark.parametrize(
    ("value", "translated"),
    [
        ("/home/runner/work/_temp", "/github/runner_temp"),
        ("/home/runner/work/_temp/huggingface", "/github/runner_temp/huggingface"),
        ("/home/runner/work/_temp/_github_home/.cache", "/github/home/.cache"),
        ("/home/runner/work/_temp/_runner_file_commands/set_env_1", "/github/file_commands/set_env_1"),
        ("/home/runner/work/name/name/models", "/github/workspace/models"),
        ("/home/runner/work/name", "/home/runner/work/name"),
        ("/home/runner/work/_tempest", "/home/runner/work/_tempest"),
        ("--out=/home/runner/work/_temp", "--out=/home/runner/work/_temp"),
        ("/home/runner/work/_temp:/other", "/home/runner/work/_temp:/other"),
        ("/var/run/docker.sock", "/var/run/docker.sock"),
        ("", ""),
    ],
)
def test_a_value_that_is_a_path_of_the_machine_is_translated(value: str, translated: str) -> None:
    """In inputs as well as in variables, and only a value that is nothing but a path."""
    run = build({"with": {"out": value}, "env": {"HF_HOME": value}}, OURS)
    assert run.environment["INPUT_OUT"] == run.environment["HF_HOME"] == translated


def test_variables_of_the_runner_name_paths_in_the_container() -> None:
    environment = build({}, OURS).environment
    assert environment["HOME"] == "/github/home"
    assert environment["GITHUB_WORKSPACE"] == "/github/workspace"
    assert environment["GITHUB_EVENT_PATH"] == "/github/workflow/event.json"
    assert environment["GITHUB_OUTPUT"] == "/github/file_commands/set_output_1"
    assert environment["RUNNER_TEMP"] == "/github/runner_temp"
    assert environment["RUNNER_WORKSPACE"] == "/home/runner/work/name"
    assert not {"GITHUB_TOKEN", "GITHUB_EVENT"} & set(environment)


def test_only_home_and_the_runner_s_variables_cannot_be_set_by_a_workflow() -> None:
    step = {"env": {"HOME": "/x", "GITHUB_SHA": "x", "INPUT_MODEL": "x", "CI": "x", "PATH": "/x"}}
    run = build(step, OURS)
    assert run.environment["HOME"] == "/github/home"
    assert run.environment["GITHUB_SHA"] == "0" * 40
    assert run.environment["INPUT_MODEL"] == ""
    assert run.environment["PATH"] == "/x"
    assert run.environment["CI"] == "x"
    assert "CI=true" not in run.arguments


def test_variables_of_action_yml_do_not_replace_those_of_the_step() -> None:
    """As in dockerfileaction_arg_env_expression.yml of actions/runner."""
    action = {
        "inputs": {"greeting": {"default": "Hello"}, "entryPoint": {}},
        "runs": {
            "args": ["${{ inputs.greeting }}"],
            "entrypoint": "main.sh",
            "env": {"Token": "foo", "Url": "${{ inputs.entryPoint }}", "Empty": "full"},
        },
    }
    run = build({"with": {"entryPoint": "other.sh"}, "env": {"Empty": ""}}, action)
    assert {name: run.environment[name] for name in ("Token", "Url", "Empty")} == {
        "Token": "foo",
        "Url": "other.sh",
        "Empty": "",
    }
    assert run.arguments[run.arguments.index("--entrypoint") + 1] == "main.sh"
    assert run.arguments[-1] == "Hello"


@pytest.mark.parametrize("name", ["entryPoint", "entrypoint"])
def test_a_step_may_set_entry_point_and_arguments_of_an_action_that_does_not(name: str) -> None:
    run = build({"with": {name: "/bin/sh", "args": '-c "echo a b"'}}, OURS)
    assert run.arguments[run.arguments.index("--entrypoint") + 1] == "/bin/sh"
    assert run.arguments[-2:] == ["-c", "echo a b"]


def test_names_of_inputs_are_compared_without_case() -> None:
    run = build({"with": {"Model": "org/name", "a b": "c"}}, OURS)
    assert run.environment["INPUT_MODEL"] == "org/name"
    assert run.environment["INPUT_A_B"] == "c"
    assert run.arguments.count("INPUT_MODEL") == 1


def test_a_member_without_a_value_is_named_and_has_no_variable() -> None:
    """docker then omits it. So it is for a local action (`uses: ./`), which has no repository."""
    contexts = acting.create_contexts(FOLDERS, None, {})
    contexts["github"]["action_repository"] = None
    run = build_docker_run({}, OURS, contexts, {}, FOLDERS, "image", "0a1b2c", "5af5b7")
    assert "GITHUB_ACTION_REPOSITORY" in run.arguments
    assert "GITHUB_ACTION_REPOSITORY" not in run.environment


def test_the_network_of_a_job_s_services_is_used() -> None:
    assert "--network" not in build({}, OURS).arguments
    arguments = build({}, OURS, network="github_network_1").arguments
    assert arguments[arguments.index("--network") + 1] == "github_network_1"


def test_paths_with_spaces_and_quotes_stay_whole() -> None:
    folders = RunnerFolders("/a b/_temp", '/a b/"n/"n')
    arguments = build({}, OURS, folders=folders).arguments
    assert "/a b/_temp:/github/runner_temp" in arguments
    assert '/a b/"n/"n:/github/workspace' in arguments


@pytest.mark.parametrize(
    ("text", "escaped"),
    [  # CreateEscapedOption_keyOnly and _keyValue in DockerUtilL0.cs
        ("foo", "foo"),
        ("foo \\ bar", "foo \\ bar"),
        ("foo \\", "foo \\\\"),
        ("foo \\\\", "foo \\\\\\\\"),
        ('foo \\" bar', 'foo \\\\\\" bar'),
        ('foo \\\\" bar', 'foo \\\\\\\\\\" bar'),
        ("foo\\=bar", "foo\\=bar"),
        ("foo \\=bar \\", "foo \\=bar \\\\"),
    ],
)
def test_names_are_escaped_as_in_the_tests_of_the_runner(text: str, escaped: str) -> None:
    assert escape(text) == f'"{escaped}"'
    assert split_arguments(escape(text)) == [text]


@given(st.lists(st.text(st.sampled_from('ab \t"\\'), min_size=1)))
def test_what_is_escaped_is_one_argument(texts: list[str]) -> None:
    assert split_arguments(" ".join(map(escape, texts))) == texts


@given(st.lists(st.text(st.sampled_from("ab -_/")).map(shlex.quote)))
def test_words_without_quotes_are_split_as_in_a_shell(words: list[str]) -> None:
    line = " ".join(words).replace("'", '"')
    assert split_arguments(line) == shlex.split(line)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [  # as documented for .NET: a doubled quote in a quoted part is one quote
        ('a"b c"d', ["ab cd"]),
        ('"a""b"', ['a"b']),
        ('a\\\\"b"', ["a\\b"]),
        ('a\\"b', ['a"b']),
        ("a\\b", ["a\\b"]),
        ('""', [""]),
        ("", []),
    ],
)
def test_lines_are_split_as_in_net(line: str, arguments: list[str]) -> None:
    assert split_arguments(line) == arguments


@pytest.mark.parametrize(
    ("image", "name"),
    [("9ff5de:1a7e", "ff5de1a7e"), ("33b1c2:d0f3", "b1c2d0f3"), ("ghcr.io/a/b-c@sha256:1", "ghcrioabcsha2561")],
)
def test_the_container_s_name_begins_with_a_letter(image: str, name: str) -> None:
    assert sanitize(image) == name


def test_the_template_s_steps_pass_their_event_and_secrets_on() -> None:
    """From the text of the workflow to the arguments of `antidote-ci`: the job that evaluates has no write token."""
    workflow = yaml.safe_load(render_workflow("acme/assistant"))
    contexts = acting.create_contexts(FOLDERS, None, {})
    contexts |= {
        "inputs": {"model": "acme/other", "revision": "v1"},
        "needs": {"head": {"result": "skipped"}, "evaluate": {"outputs": {"source-sha": "c" * 40}}},
    }
    contexts["env"] = {name: fill(text, contexts) for name, text in workflow["env"].items()}
    arguments, environments = {}, {}
    for name in ("evaluate", "repair"):
        (step,) = (step for step in workflow["jobs"][name]["steps"] if step.get("uses") == ACTION)
        own = {**contexts, "env": contexts["env"] | {key: fill(text, contexts) for key, text in step["env"].items()}}
        environments[name] = build_docker_run(step, OURS, own, {}, FOLDERS, "image", "0a1b2c", "5af5b7").environment
        arguments[name] = action_inputs.cli_arguments(environments[name])
    assert arguments == {
        "evaluate": ["evaluate", "--revision=v1", "--policy=antidote.toml", "--", "acme/other"],
        "repair": [
            "run",
            f"--revision={'c' * 40}",
            "--policy=antidote.toml",
            "--publish=pull-request",
            "--",
            "acme/other",
        ],
    }
    assert {environment["HF_HOME"] for environment in environments.values()} == {"/github/runner_temp/huggingface"}
    assert acting.WRITE_TOKEN not in environments["evaluate"].values()
    assert action_inputs.cli_environment(environments["repair"])["HF_WRITE_TOKEN"] == acting.WRITE_TOKEN
