"""INPUT_* variables into arguments and environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action import inputs

VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(str.strip)
HOSTILE = st.one_of(VALUES, st.sampled_from(["--json", "-h", "--out=/", "$(id)", "a b", "; true"]))


def as_variables(values: dict[str, str]) -> dict[str, str]:
    return {f"INPUT_{name.upper()}": text for name, text in values.items()}


def test_only_the_model_is_needed() -> None:
    empty = as_variables(dict.fromkeys(inputs.INPUTS, ""))
    assert inputs.cli_arguments(empty | {"INPUT_MODEL": "org/name"}) == ["run", "--", "org/name"]
    assert inputs.cli_arguments({"INPUT_MODEL": " org/name\n"}) == ["run", "--", "org/name"]


def test_the_folder_is_the_one_that_the_command_line_will_choose() -> None:
    job = {"ANTIDOTE_OUT": "of-the-job"}
    assert inputs.output_folder({}) == inputs.output_folder({"INPUT_OUT": "", "ANTIDOTE_OUT": ""}) == "antidote-out"
    assert inputs.output_folder(job) == "of-the-job"
    assert inputs.output_folder(job | {"INPUT_OUT": "of-the-step"}) == "of-the-step"


def test_every_option_and_flag_is_passed_on() -> None:
    values = {name: f"v-{name}" for name in inputs.OPTIONS} | dict.fromkeys(inputs.FLAGS, "true")
    arguments = inputs.cli_arguments(as_variables(values | {"model": "m"}))
    assert arguments[0] == "run"
    assert arguments[-2:] == ["--", "m"]
    assert sorted(arguments[1:-2]) == sorted(
        [f"--{name}=v-{name}" for name in inputs.OPTIONS] + [f"--{name}" for name in inputs.FLAGS]
    )


@given(values=st.dictionaries(st.sampled_from(inputs.OPTIONS), HOSTILE), model=HOSTILE)
def test_values_stay_single_arguments(values: dict[str, str], model: str) -> None:
    model = model or "m"
    arguments = inputs.cli_arguments(as_variables(values | {"model": model}))
    expected = {name: text for name, text in values.items() if text}
    assert arguments[0] == "run"
    assert arguments[-2:] == ["--", model]
    assert {item.partition("=")[::2] for item in arguments[1:-2]} == {
        (f"--{name}", text) for name, text in expected.items()
    }


@pytest.mark.parametrize("name", inputs.FLAGS)
@pytest.mark.parametrize("text", ["yes", "1", "on", "tRue", "--json"])
def test_invalid_boolean_names_its_input(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"input {name}: "):
        inputs.cli_arguments(as_variables({"model": "m", name: text}))


@pytest.mark.parametrize("text", ["false", "False", "FALSE", ""])
def test_false_flag_is_absent(text: str) -> None:
    assert inputs.cli_arguments(as_variables({"model": "m", "dry-run": text})) == ["run", "--", "m"]


@pytest.mark.parametrize("name", inputs.DECIDED_BY_POLICY)
def test_false_overrides_the_policy(name: str) -> None:
    assert inputs.cli_arguments(as_variables({"model": "m", name: "false"})) == ["run", f"--no-{name}", "--", "m"]
    assert inputs.cli_arguments(as_variables({"model": "m", name: ""})) == ["run", "--", "m"]


@pytest.mark.parametrize("name", inputs.RUN_ONLY)
def test_evaluate_refuses_inputs_of_run(name: str) -> None:
    values = {"model": "m", "command": "evaluate", name: "false"}
    with pytest.raises(ValueError, match=f"input {name}: command evaluate does not support {name}"):
        inputs.cli_arguments(as_variables(values))


def test_evaluate_accepts_the_other_inputs() -> None:
    names = [name for name in inputs.OPTIONS if name not in inputs.RUN_ONLY]
    values = dict.fromkeys(names, "x") | {"model": "m", "command": "evaluate"}
    arguments = inputs.cli_arguments(as_variables(values))
    assert arguments == ["evaluate", *(f"--{name}=x" for name in names), "--", "m"]


def test_command_and_model_are_checked() -> None:
    with pytest.raises(ValueError, match="input command: 'publish'"):
        inputs.cli_arguments({"INPUT_COMMAND": "publish", "INPUT_MODEL": "m"})
    with pytest.raises(ValueError, match="input model: missing"):
        inputs.cli_arguments({"INPUT_MODEL": " "})


@given(read=VALUES, write=VALUES)
def test_tokens_are_passed_in_the_environment_only(read: str, write: str) -> None:
    read, write = f"r-{read}", f"w-{write}"
    environ = {"PATH": "/bin", "HF_TOKEN": "old", "INPUT_MODEL": "m", "INPUT_HF-TOKEN": read}
    environ["INPUT_PUBLISH"] = "pull-request"
    environ["INPUT_HF-WRITE-TOKEN"] = write
    assert inputs.cli_environment(environ) == {
        "PATH": "/bin",
        "HF_TOKEN": read.strip(),
        "HF_WRITE_TOKEN": write.strip(),
    }
    assert inputs.cli_arguments(environ) == ["run", "--publish=pull-request", "--", "m"]
    assert inputs.list_secrets(environ) == {read.strip(), write.strip(), "old"}


def test_empty_token_input_keeps_the_job_token() -> None:
    assert inputs.cli_environment({"HF_TOKEN": "job", "INPUT_HF-TOKEN": ""}) == {"HF_TOKEN": "job"}


WRITE = {
    "HF_WRITE_TOKEN": "w",
    "HF_OIDC_RESOURCE": "org/name",
    "HF_OIDC_ID_TOKEN": "t",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://x",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t",
}


@pytest.mark.parametrize(
    ("given", "publishes"),
    [
        ({}, False),
        ({"publish": "none"}, False),
        ({"publish": "none", "policy": "antidote.toml"}, False),
        ({"publish": "pull-request"}, True),
        ({"policy": "antidote.toml"}, True),
        ({"command": "evaluate", "policy": "antidote.toml"}, True),
        ({"command": "evaluate", "publish": "none", "policy": "antidote.toml"}, False),
        ({"command": "evaluate", "ANTIDOTE_PUBLISH": "repo"}, False),
        ({"command": "evaluate", "publish": "report"}, True),
        ({"command": "evaluate", "ANTIDOTE_PUBLISH": "report"}, False),
        ({"ANTIDOTE_PUBLISH": "repo"}, True),
        ({"ANTIDOTE_PUBLISH": "none", "ANTIDOTE_POLICY": "antidote.toml"}, False),
        ({"ANTIDOTE_POLICY": "antidote.toml"}, True),
        ({"publish": "none", "ANTIDOTE_PUBLISH": "repo"}, False),
    ],
)
def test_write_variables_only_for_a_run_that_may_publish(given: dict[str, str], publishes: bool) -> None:
    named = as_variables({name: text for name, text in given.items() if name.islower()})
    job = {name: text for name, text in given.items() if name.isupper()}
    seen = inputs.cli_environment(WRITE | named | job | {"PATH": "/bin"})
    assert seen == {"PATH": "/bin"} | job | (WRITE if publishes else {})


def test_runner_variables_are_removed() -> None:
    of_the_runner = dict.fromkeys(inputs.FILE_COMMANDS, "x") | {"ACTIONS_RUNTIME_TOKEN": "t"}
    assert inputs.cli_environment(of_the_runner | {"GITHUB_REPOSITORY": "org/name"}) == {
        "GITHUB_REPOSITORY": "org/name"
    }


@given(values=st.dictionaries(st.sampled_from(inputs.INPUTS), HOSTILE))
def test_names_with_underscores_are_equal(values: dict[str, str]) -> None:
    dashed = as_variables(values)
    under = {name.replace("-", "_"): text for name, text in dashed.items()}
    for name in inputs.INPUTS:
        assert inputs.read_input(under, name) == inputs.read_input(dashed, name)
    assert inputs.cli_environment(under) == inputs.cli_environment(dashed)
