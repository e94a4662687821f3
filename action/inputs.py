"""INPUT_* variables into the arguments and the environment of `antidote-ci`.

GitHub hands every input over as INPUT_<NAME>, upper case with its dashes kept, and an input left out as the empty
string: empty always means unset here. A shell cannot pass on a name with dashes, so INPUT_HF_TOKEN is read too. Values
stay single items of an argument list and never meet a shell.
"""

from collections.abc import Mapping

OPTIONS = (
    "revision",
    "reference",
    "policy",
    "threshold",
    "prompts",
    "benign",
    "task",
    "judge",
    "calibration",
    "server",
    "save-answers",
    "out",
    "on",
    "realignment",
    "method",
    "publish",
    "publish-to",
)
FLAGS = ("accept-licence", "frontier", "accept-repair", "dry-run")
DECIDED_BY_POLICY = FLAGS[:3]
"""Where false is more than nothing: the policy may say otherwise."""
TOKENS = {
    "hf-token": "HF_TOKEN",
    "hf-write-token": "HF_WRITE_TOKEN",
    "hf-jobs-token": "HF_JOBS_TOKEN",
    "judge-key": "ANTIDOTE_JUDGE_KEY",
}
INPUTS = ("command", "model", *OPTIONS, *FLAGS, *TOKENS)

# `evaluate` measures and gates: it neither repairs nor publishes.
RUN_ONLY = (
    *("realignment", "method", "frontier", "publish", "publish-to"),
    *("accept-repair", "dry-run", "hf-write-token"),
)
COMMANDS = ("run", "evaluate")

DEFAULT_OUT = "antidote-out"

# What YAML 1.2 calls a boolean, and so what GitHub's own toolkit accepts.
BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

IDENTITY_VARIABLES = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
"""With these a step becomes the workflow, for whoever trusts it."""
WRITE_VARIABLES = ("HF_WRITE_TOKEN", "HF_OIDC_RESOURCE", "HF_OIDC_ID_TOKEN", *IDENTITY_VARIABLES)
"""What a run that publishes nothing never sees."""
FILE_COMMANDS = tuple(f"GITHUB_{name}" for name in ("OUTPUT", "STEP_SUMMARY", "ENV", "PATH", "STATE", "ARTIFACTS"))
"""Whoever can write to these speaks for the step."""


def cli_arguments(environ: Mapping[str, str]) -> list[str]:
    """The arguments of `antidote-ci`; raises ValueError naming the input that is missing or wrong.

    An option and its value are one item (`--name=value`) and the model stands behind `--`, so that
    no value is ever read as an option.
    """
    command = _read_command(environ)
    if command not in COMMANDS:
        raise ValueError(f"input command: {command!r} is neither run nor evaluate")
    model = read_input(environ, "model")
    if not model:
        raise ValueError("input model: missing, give a Hub id (org/name) or a folder")
    if command == "evaluate":
        _refuse_run_only(environ)
    options = [f"--{name}={text}" for name in OPTIONS if (text := read_input(environ, name))]
    flags = [item for name in FLAGS for item in _flag_arguments(environ, name)]
    return [command, *options, *flags, "--", model]


def cli_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of `antidote-ci`: no inputs, but the tokens under their usual names; nothing of the runner's.

    What can write to the Hub is there only for a run that may publish.
    """
    kept = {
        name: text
        for name, text in environ.items()
        if not name.startswith(("INPUT_", "ACTIONS_")) and name not in FILE_COMMANDS
    }
    found = kept | {name: environ[name] for name in IDENTITY_VARIABLES if name in environ} | read_tokens(environ)
    return (
        found if may_publish(environ) else {name: text for name, text in found.items() if name not in WRITE_VARIABLES}
    )


def visible_inputs(environ: Mapping[str, str]) -> dict[str, str]:
    """The inputs that are set and may be shown: no switch, no token."""
    return {name: text for name in ("model", *OPTIONS) if (text := read_input(environ, name))}


def read_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The tokens that are given as inputs, by the names that `antidote-ci` reads."""
    return {variable: text for name, variable in TOKENS.items() if (text := read_input(environ, name))}


def list_secrets(environ: Mapping[str, str]) -> set[str]:
    """Every token, wherever it comes from."""
    return {text for variable in TOKENS.values() if (text := environ.get(variable))} | set(
        read_tokens(environ).values()
    )


def may_publish(environ: Mapping[str, str]) -> bool:
    """Whether this run may be asked to publish: by the inputs, by the job's environment, or by a policy file."""
    if _read_command(environ) == "evaluate":
        return False
    mode = read_input(environ, "publish") or environ.get("ANTIDOTE_PUBLISH", "")
    policy = read_input(environ, "policy") or environ.get("ANTIDOTE_POLICY", "")
    return mode != "none" if mode else bool(policy)


def output_folder(environ: Mapping[str, str]) -> str:
    """The folder the run writes to, as `antidote-ci` will understand it."""
    return read_input(environ, "out") or environ.get("ANTIDOTE_OUT") or DEFAULT_OUT


def read_input(environ: Mapping[str, str], name: str) -> str:
    """The input called `name`, without surrounding white space; empty when unset."""
    variable = f"INPUT_{name.upper()}"
    return environ.get(variable, "").strip() or environ.get(variable.replace("-", "_"), "").strip()


def read_flag(environ: Mapping[str, str], name: str) -> bool | None:
    """The input called `name` as a boolean, None when unset; ValueError naming it otherwise."""
    text = read_input(environ, name)
    if text and text not in BOOLEANS:
        raise ValueError(f"input {name}: {text!r} is neither true nor false")
    return BOOLEANS.get(text)


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
    named = [name for name in RUN_ONLY if read_input(environ, name)]
    if named:
        raise ValueError(f"input {named[0]}: command evaluate takes no {', '.join(named)}; use command run")
