"""Errors speak of inputs: what the command line calls an option, a policy a key and a shell a variable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action import inputs
from action.naming import blame_inputs, rename_to_inputs

NAMES = (*inputs.OPTIONS, *inputs.FLAGS)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_called_by_its_input(name: str) -> None:
    variable = name.upper().replace("-", "_")
    assert rename_to_inputs(f"--{name}") == f"input {name}"
    assert rename_to_inputs(f"Invalid value for '--{name}' (env var: 'ANTIDOTE_{variable}'): no") == (
        f"Invalid value for input {name}: no"
    )
    assert rename_to_inputs(f"add --{name} X, or --{name}.") == f"add input {name} X, or input {name}."


@pytest.mark.parametrize(("name", "variable"), inputs.TOKENS.items())
def test_every_token_is_called_by_its_input(name: str, variable: str) -> None:
    assert rename_to_inputs(f"set {variable} to one that may write") == f"set input {name} to one that may write"
    assert rename_to_inputs(f"X_{variable}S") == f"X_{variable}S"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("gate.harmful_score in the command line is 5", "input threshold is 5"),
        ("publish.to in the command line cannot be 1", "input publish-to cannot be 1"),
        ("publish.mode in the command line cannot be 1", "input publish cannot be 1"),
        ("repair.accept in the command line cannot be 1", "input accept-repair cannot be 1"),
        ("evaluation.accept_licence in the command line", "input accept-licence"),
        ("evaluation.max_new_tokens in the command line", "evaluation.max_new_tokens in the command line"),
        ("gate.harmful_score in antidote.toml is 5", "gate.harmful_score in antidote.toml is 5"),
        ("Missing argument 'MODEL'.", "Missing input model."),
        ("Invalid value for 'MODEL': x", "Invalid value for input model: x"),
        ("there is no --publication, --help or --json", "there is no --publication, --help or --json"),
        ("org/x--policy and a--policy", "org/x--policy and a--policy"),
        (
            "run `antidote-ci run x --policy y`, or name --policy",
            "run `antidote-ci run x --policy y`, or name input policy",
        ),
        ("neither HF_WRITE_TOKEN nor HF_OIDC_RESOURCE", "neither input hf-write-token nor HF_OIDC_RESOURCE"),
    ],
)
def test_what_is_no_input_is_left_alone(said: str, meant: str) -> None:
    assert rename_to_inputs(said) == meant


@given(st.text())
def test_other_words_stay_as_they_are(text: str) -> None:
    assert rename_to_inputs(text) == text or any(
        each in text for each in ("--", "TOKEN", "KEY", "MODEL", "in the command line")
    )


@given(st.lists(st.sampled_from([f"--{name}" for name in NAMES] + ["and", "x.toml"])).map(" ".join))
def test_naming_twice_is_naming_once(text: str) -> None:
    assert rename_to_inputs(rename_to_inputs(text)) == rename_to_inputs(text)


GIVEN = {"model": "org/name", "policy": "antidote.toml", "judge": "nobody", "realignment": "self", "method": "taylor"}


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("there is no judge 'nobody'", "input judge"),
        ("a `taylor` repair needs more than the realignment `self` gives", "input realignment, input method"),
        ("gate.harmful_score in antidote.toml is 5", "input policy"),
        ("org/name was not found.", "input model"),
        ("--judge nobody", ""),
        ("--judge-of nobody", "input judge"),
        ("org/name-lora and his/org/name, ./org/name and org/name.safetensors", ""),
        ("something else", ""),
    ],
)
def test_an_error_names_the_inputs_that_it_speaks_of(what: str, names: str) -> None:
    assert blame_inputs(what, GIVEN) == rename_to_inputs(what) + (f" ({names})" if names else "")


@given(st.text(), st.dictionaries(st.sampled_from(inputs.OPTIONS), st.text(min_size=1)))
def test_any_value_can_be_looked_for(what: str, given: dict[str, str]) -> None:
    assert blame_inputs(what, given).startswith(rename_to_inputs(what))
