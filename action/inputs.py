"""Convert INPUT_* variables to the arguments and the environment of `antidote-ci`.

GitHub passes every input as INPUT_<NAME>, in upper case with its dashes, and an omitted input as the empty string.
A shell cannot set a name with dashes, so INPUT_HF_TOKEN is read too. No shell interprets the values.
"""

from collections.abc import Mapping

OPTIONS = (
    "revision",
    "reference",
    "policy",
    "threshold",
    "baseline",
    "prompts",
    "benign",
    "task",
    "judge",
    "calibration",
    "server",
    "save-answers",
    "junit",
    "out",
    "on",
    "realignment",
    "method",
    "publish",
    "publish-to",
)
FLAGS = ("frontier", "accept-repair", "keep-failed", "dry-run", "no-cache", "quick")
DECIDED_BY_POLICY = FLAGS[:3]
"""Flags that the policy may set: false is passed on as --no-FLAG."""
TOKENS = {
    "hf-token": "HF_TOKEN",
    "hf-write-token": "HF_WRITE_TOKEN",
    "hf-jobs-token": "HF_JOBS_TOKEN",
    "judge-key": "ANTIDOTE_JUDGE_KEY",
}
GITHUB_TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the name of the variable
COMMENT = "comment"
"""The flag that asks for a comment on the pull request. The Action writes it, not `antidote-ci`."""
INPUTS = ("command", "model", *OPTIONS, *FLAGS, COMMENT, *TOKENS)

# `evaluate` neither repairs nor publishes weights.
RUN_ONLY = ("realignment", "method", "frontier", "publish-to", "accept-repair", "keep-failed")
COMMANDS = ("run", "evaluate")

DEFAULT_OUT = "antidote-out"

# The booleans of YAML 1.2, which GitHub's toolkit accepts.
BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

IDENTITY_VARIABLES = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
"""With these a step can request an OIDC token of the workflow."""
WRITE_VARIABLES = ("HF_WRITE_TOKEN", "HF_OIDC_RESOURCE", "HF_OIDC_ID_TOKEN", *IDENTITY_VARIABLES)
"""Removed from the environment of a run that does not publish."""
FILE_COMMANDS = tuple(
    f"GITHUB_{name}" for name in ("OUTPUT", "STEP_SUMMARY", "ENV", "PATH", "STATE", "ARTIFACTS", "ARTIFACTS_LIST")
)
"""Files with which a process controls the step."""


def cli_arguments(environ: Mapping[str, str]) -> list[str]:
    """The arguments of `antidote-ci`. Raises ValueError when an input is missing or invalid.

    An option and its value are one item (`--name=value`) and the model follows `--`, so that no value is read as an
    option.
    """
    command = _read_command(environ)
    if command not in COMMANDS:
        raise ValueError(f"input command: {command!r} is not run or evaluate")
    model = read_input(environ, "model")
    if not model:
        raise ValueError("input model: missing, set a Hub id (org/name) or a folder (./folder)")
    if command == "evaluate":
        _refuse_run_only(environ)
    read_flag(environ, COMMENT)
    options = [f"--{name}={text}" for name in OPTIONS if (text := read_input(environ, name))]
    flags = [item for name in FLAGS for item in _flag_arguments(environ, name)]
    return [command, *options, *flags, "--", model]


def cli_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of `antidote-ci`: without inputs and the runner's variables, with tokens under their usual names.

    It has no token of GitHub.

    Variables that permit writing to the Hub are included only for a run that may publish.
    """
    kept = {
        name: text
        for name, text in environ.items()
        if not name.startswith(("INPUT_", "ACTIONS_")) and name not in (*FILE_COMMANDS, GITHUB_TOKEN)
    }
    environment = kept | {name: environ[name] for name in IDENTITY_VARIABLES if name in environ} | read_tokens(environ)
    if may_publish(environ):
        return environment
    return {name: text for name, text in environment.items() if name not in WRITE_VARIABLES}


def read_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The tokens that are set as inputs, by the names that `antidote-ci` reads."""
    return {variable: text for name, variable in TOKENS.items() if (text := read_input(environ, name))}


def list_secrets(environ: Mapping[str, str]) -> set[str]:
    """Every token, of inputs and of the environment."""
    return {text for variable in (*TOKENS.values(), GITHUB_TOKEN) if (text := environ.get(variable))} | set(
        read_tokens(environ).values()
    )


def may_publish(environ: Mapping[str, str]) -> bool:
    """Whether the inputs, the environment or a policy file may make this run publish.

    An evaluation publishes only its verdict, and ANTIDOTE_PUBLISH does not apply to it.
    """
    mode = read_input(environ, "publish")
    policy = read_input(environ, "policy") or environ.get("ANTIDOTE_POLICY", "")
    if _read_command(environ) == "evaluate":
        return mode == "report" if mode else bool(policy)
    mode = mode or environ.get("ANTIDOTE_PUBLISH", "")
    return mode != "none" if mode else bool(policy)


def output_folder(environ: Mapping[str, str]) -> str:
    """The output folder, as `antidote-ci` determines it."""
    return read_input(environ, "out") or environ.get("ANTIDOTE_OUT") or DEFAULT_OUT


def read_input(environ: Mapping[str, str], name: str) -> str:
    """The value of an input without surrounding white space; empty when unset."""
    variable = f"INPUT_{name.upper()}"
    return environ.get(variable, "").strip() or environ.get(variable.replace("-", "_"), "").strip()


def read_flag(environ: Mapping[str, str], name: str) -> bool | None:
    """The input called `name` as a boolean, None when unset; ValueError naming it otherwise."""
    text = read_input(environ, name)
    if text and text not in BOOLEANS:
        raise ValueError(f"input {name}: {text!r} is neither true nor false")
    return BOOLEANS.get(text)


def wants_comment(environ: Mapping[str, str]) -> bool:
    """Whether the input `comment` is true; an invalid one has ended the step already."""
    return BOOLEANS.get(read_input(environ, COMMENT), False)


def _flag_arguments(environ: Mapping[str, str], name: str) -> list[str]:
    match read_flag(environ, name):
        case True:
            return [f"--{name}"]
        case False if name in DECIDED_BY_POLICY:
            return [f"--no-{name}"]
    return []


def _read_command(environ: Mapping[str, str]) -> str:
    return read_input(environ, "command") or "run"


def _refuse_run_only(environ: Mapping[str, str]) -> None:
    names = [name for name in RUN_ONLY if read_input(environ, name)]
    if names:
        raise ValueError(f"input {names[0]}: command evaluate does not support {', '.join(names)}; use command run")
