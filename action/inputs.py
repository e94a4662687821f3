"""INPUT_* variables into the arguments and the environment of `antidote-ci`.

GitHub hands every input over as INPUT_<NAME>, upper case with its dashes kept, and an input left
out as the empty string: empty always means unset here. Values stay single items of an argument
list and never meet a shell.
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
    "realignment",
    "method",
    "target",
    "publish",
    "publish-to",
)
FLAGS = ("accept-licence", "frontier", "accept-repair", "dry-run")
TOKENS = {"hf-token": "HF_TOKEN", "hf-write-token": "HF_WRITE_TOKEN", "judge-key": "ANTIDOTE_JUDGE_KEY"}
INPUTS = ("command", "model", *OPTIONS, *FLAGS, *TOKENS)

# `evaluate` measures and gates: it neither repairs nor publishes.
RUN_ONLY = (
    *("realignment", "method", "target", "frontier", "publish", "publish-to"),
    *("accept-repair", "dry-run", "hf-write-token"),
)
COMMANDS = ("run", "evaluate")

DEFAULT_OUT = "antidote-out"

# What YAML 1.2 calls a boolean, and so what GitHub's own toolkit accepts.
BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def arguments(environ: Mapping[str, str]) -> list[str]:
    """The arguments of `antidote-ci`; raises ValueError naming the input that is missing or wrong.

    An option and its value are one item (`--name=value`) and the model stands behind `--`, so that
    no value is ever read as an option.
    """
    command = value(environ, "command") or "run"
    if command not in COMMANDS:
        raise ValueError(f"input command: {command!r} is neither run nor evaluate")
    model = value(environ, "model")
    if not model:
        raise ValueError("input model: missing, give a Hub id (org/name) or a folder")
    if command == "evaluate":
        _refuse_run_only(environ)
    options = [f"--{name}={text}" for name in OPTIONS if (text := value(environ, name))]
    flags = [f"--{name}" for name in FLAGS if flag(environ, name)]
    return [command, *options, *flags, "--", model]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of `antidote-ci`: no inputs, but the tokens under their usual names."""
    kept = {name: text for name, text in environ.items() if not name.startswith("INPUT_")}
    given = {TOKENS[name]: text for name in TOKENS if (text := value(environ, name))}
    return kept | given


def out(environ: Mapping[str, str]) -> str:
    """The folder the run writes to, as `antidote-ci` will understand it."""
    return value(environ, "out") or environ.get("ANTIDOTE_OUT") or DEFAULT_OUT


def value(environ: Mapping[str, str], name: str) -> str:
    """The input called `name`, without surrounding white space; empty when unset."""
    return environ.get(f"INPUT_{name.upper()}", "").strip()


def flag(environ: Mapping[str, str], name: str) -> bool:
    """The input called `name` as a boolean, false when unset; ValueError naming it otherwise."""
    text = value(environ, name)
    if text and text not in BOOLEANS:
        raise ValueError(f"input {name}: {text!r} is neither true nor false")
    return BOOLEANS.get(text, False)


def _refuse_run_only(environ: Mapping[str, str]) -> None:
    named = [name for name in RUN_ONLY if value(environ, name)]
    if named:
        raise ValueError(f"input {named[0]}: command evaluate takes no {', '.join(named)}; use command run")
