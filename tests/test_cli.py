"""The command line: fast help, errors with causes and hints, exit codes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from antidote_ci import DOCUMENTATION, __version__, embedded
from antidote_ci.evaluation import prompts
from antidote_ci.records import Method
from tests.command_line import FinishedCommand, run_command


def cli(*arguments: str, **environment: str) -> FinishedCommand:
    own = {"COLUMNS": "200", "TERM": "dumb", "HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "0"}
    return run_command(*arguments, **own | environment)


COMMANDS = (
    *("", "run", "evaluate", "repair", "verify", "compare", "init", "doctor", "serve", "handle-event"),
    *("judge calibrate", "webhook register", "webhook list", "webhook remove"),
)
ENTRY = str(Path(sys.executable).with_name("antidote-ci"))
BASH = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""Name the shell in the command, instead of detecting it from the parent process."""
HEAVY = {"torch", "transformers", "huggingface_hub", "scipy", "peft", "fastapi", "uvicorn"}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from antidote_ci.cli import app\n"
        f"for command in {COMMANDS!r}:\n"
        "    app([*command.split(), '--help'], standalone_mode=False)\n"
        f"    heavy = {HEAVY!r} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{command} imported {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == len(COMMANDS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ev", {"evaluate"}), ("repair a/b --meth", {"--method"}), ("repair a/b --method ", {*get_args(Method)})],
)
def test_shell_completion(typed: str, offered: set[str]) -> None:
    """In a real bash, with the script that `--show-completion` prints."""
    script = subprocess.run(
        [ENTRY, "--show-completion", "bash"], capture_output=True, text=True, check=True, env=os.environ | BASH
    ).stdout
    words = f"antidote-ci {typed}".split(" ")
    asked = f"{script}\nCOMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\n_antidote_ci_completion {ENTRY}\n"
    done = subprocess.run(
        ["/bin/bash", "-c", f'{asked}printf "%s\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | BASH,
    )
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 2, "Missing argument"),
        (["run", "a/b", "--threshold", "1.5"], 2, "did you mean 0.015?"),
        (["run", "a/b", "--judge", "guess"], 2, "guess"),
        (["run", "a/b", "--judge", "qwen3gard"], 2, "did you mean qwen3guard?"),
        (["run", "a/b", "--judge", "refusal,llama-guard,qwen3guard"], 2, "at most 2"),
        (["run", "a/b"], 3, "cannot be reached"),
        (["run", "a/b", "--prompts", "jailbreak"], 2, "did you mean jailbreakbench?"),
        (["evaluate", "http://127.0.0.1:9/v1", "--server", "x {model} {port}"], 2, "drop --server"),
        (["run", "a/b", "--judge", "refusal", "--prompts", "nowhere.jsonl"], 2, "nowhere.jsonl"),
        (["run", "a/b", "--judge", "refusal", "--prompts", "embedded"], 2, "--realignment embedded"),
        (
            ["run", "./nowhere", "--judge", "refusal", "--prompts", "embedded", "--realignment", "embedded"],
            2,
            "nowhere",
        ),
        (["evaluate", "", "--judge", "refusal", "--prompts", "embedded"], 2, "'' is not a model name"),
        (["run", ".", "--publish", "pull-request"], 2, "is a local folder, so its repair cannot be published"),
        (["evaluate", "./nowhere"], 2, "there is no folder ./nowhere"),
        (["run", "http://127.0.0.1:9/v1"], 2, "antidote-ci evaluate http://127.0.0.1:9/v1"),
        (["evaluate", "a/b", "--judge", "refusal", "--prompts", "embedded"], 3, "cannot be reached"),
        (["run", "a/b", "--policy", "nowhere.toml"], 2, "no policy file"),
        (["run", "a/b", "--keep-failed", "--on", "hf-jobs"], 2, "--keep-failed is not supported on HF Jobs"),
    ],
)
def test_invalid_input_is_named_and_writes_nothing(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = cli(*arguments, *(["--out", str(tmp_path / "out")] if len(arguments) > 1 else []))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused_and_not_opened(tmp_path: Path) -> None:
    folder, opened = tmp_path / "model", tmp_path / "opened"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch {opened}'\ntR.".encode())
    done = cli("evaluate", str(folder), "--judge=refusal", "--prompts=embedded", f"--out={tmp_path / 'out'}")
    assert done.returncode == 6, done.stderr
    assert "only pickled weights: pytorch_model.bin" in done.stderr
    assert not opened.exists()


def test_an_output_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    done = cli("evaluate", "a/b", "--judge=refusal", "--prompts=embedded", f"--out={tmp_path}")
    assert done.returncode == 2
    assert "README.md" in done.stderr
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_dry_run_writes_nothing(trained_pair: Path, tmp_path: Path) -> None:
    arguments = ["--judge=refusal", "--prompts=embedded", "--realignment=embedded", f"--out={tmp_path / 'out'}"]
    pair = [str(trained_pair / "adapter"), f"--reference={trained_pair / 'reference'}"]
    done = cli("run", *pair, *arguments, "--threshold=0.35", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reference"] == str(trained_pair / "reference")
    assert found["bytes_to_pull"] == 0
    assert found["bytes_to_write"] > (trained_pair / "adapter" / "adapter_model.safetensors").stat().st_size
    assert found["answers"] > 140
    # Without a harmless set of the user, only the varied prompts calibrate.
    sets = {"selection": "selection_prompts", "confirmation": "evaluation_prompts", "calibration": "varied_harmless"}
    for role, name in sets.items():
        assert found["prompts"][role] == len(prompts.read_prompts(embedded.prompt_file(name)))
    assert not (tmp_path / "out").exists()


def test_an_evaluation_has_a_dry_run(tiny_llama: Path, tmp_path: Path) -> None:
    arguments = [str(tiny_llama), *("--judge=refusal", "--prompts=embedded", "--threshold=0.35", "--dry-run")]
    arguments.append(f"--out={tmp_path / 'out'}")
    # A full checkpoint needs no reference, so none is looked up.
    forecast = json.loads(cli("evaluate", *arguments, "--reference=org/unneeded", "--json").stdout)
    assert (forecast["method"], forecast["reference"], forecast["bytes_to_write"]) == (None, None, 0)
    assert forecast["answers"] == len(prompts.read_prompts(embedded.prompt_file("evaluation_prompts")))
    lines = cli("evaluate", *arguments).stderr
    assert "answers    about" in lines
    assert not re.search("^(reference|method|write|publish) ", lines, re.MULTILINE)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_several_models_is_one_document(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, other := tmp_path / "other")
    options = ["--judge=refusal", "--prompts=embedded", "--threshold=0.35", f"--out={tmp_path / 'out'}", "--dry-run"]
    done = cli("evaluate", str(tiny_llama), str(other), *options, "--json")
    assert [forecast["model"] for forecast in json.loads(done.stdout)] == [str(tiny_llama), str(other)]
    assert cli("evaluate", str(tiny_llama), str(other), *options).stderr.count("answers    about") == 2


def test_what_cannot_be_downloaded_names_the_option_that_replaces_it(trained_pair: Path, tmp_path: Path) -> None:
    options = ["--judge=refusal", f"--out={tmp_path / 'out'}"]
    offline = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "ANTIDOTE_HUB_RETRY_SECONDS": "0",
        "HF_HOME": str(tmp_path / "home"),
    }
    done = run_command("evaluate", str(trained_pair / "merged"), *options, **offline)
    assert "or replace jailbreakbench with a local file: --prompts, --benign and --task take one" in done.stderr
    options = [f"--prompts={trained_pair / 'evaluation.jsonl'}", f"--out={tmp_path / 'out'}"]
    done = run_command("evaluate", str(trained_pair / "adapter"), "--judge=refusal", *options, **offline)
    assert "adapter names this base: --reference takes another name or a folder" in done.stderr
    done = run_command("evaluate", str(trained_pair / "merged"), *options, **offline)
    assert "is the judge qwen3guard: --judge names another" in done.stderr


def test_the_evaluation_of_a_server_has_a_dry_run_and_a_time(tmp_path: Path) -> None:
    options = ["--judge=refusal", "--prompts=embedded", f"--out={tmp_path / 'out'}"]
    done = cli("evaluate", "http://127.0.0.1:9/v1#served", *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("model      http://127.0.0.1:9/v1#served\njudge ")
    assert "pull       0 kB" in done.stderr
    done = cli("evaluate", "http://127.0.0.1:9/v1", *options, "--quick")
    assert done.stderr.startswith("time       less than a minute on two cores, and the time of the server\n")
    assert done.returncode == 3


def test_a_quick_evaluation_says_its_time_first(tiny_llama: Path, tmp_path: Path) -> None:
    done = cli("evaluate", str(tiny_llama), "--quick", "--prompts=embedded", f"--out={tmp_path / 'out'}")
    assert done.stderr.splitlines()[0] == "time       less than a minute on two cores"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["policy"]["evaluation.judge"] == "refusal"


@pytest.mark.parametrize(("option", "options"), [("--task", []), ("--benign", ["--dry-run"])], ids=["run", "dry-run"])
def test_too_few_rows_to_compare_are_refused(
    trained_pair: Path, tmp_path: Path, option: str, options: list[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "Is 7 odd? Yes or no.", "expected": "yes"}))
    pair = [str(trained_pair / "adapter"), f"--reference={trained_pair / 'reference'}", f"{option}={rows}"]
    sets = ["--judge=refusal", "--prompts=embedded", "--realignment=embedded", "--threshold=0.35"]
    done = cli("run", *pair, *sets, f"--out={tmp_path / 'out'}", *options)
    assert done.returncode == 2, done.stderr
    assert re.search(r"the confirmation split holds [01] (task|harmless) prompts, .* needs at least \d+", done.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_repeated_signals_end_a_command_once(number: signal.Signals, code: int) -> None:
    """Exit code 1 would be a verdict about the model."""
    away = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "60"}
    command = [sys.executable, "-m", "antidote_ci", "evaluate", "a/b", "--judge=refusal", "--prompts=embedded"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=away) as process:
        said = ""
        for line in process.stderr or ():
            said += line
            if "retrying in" in line:
                process.send_signal(number)
            if "no partial results are left" in line:
                while process.poll() is None:
                    process.send_signal(number)
                    time.sleep(0.001)
    # While Python exits, it resets its signal handlers.
    assert process.returncode in (code, -number), said
    assert "no partial results are left, and the same command uses the answers that are stored" in said
    assert "Traceback" not in said


def test_environment_variables_set_options() -> None:
    assert "gate.harmful_score in the command line cannot be 2.0" in cli("run", "a/b", ANTIDOTE_THRESHOLD="2").stderr


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_written_to_stdout(option: str) -> None:
    assert cli(option).stdout == f"antidote-ci {__version__}\n"


def shown_options(command: str) -> list[str]:
    """The options in the help of a command, in a terminal of 100 columns."""
    done = cli(*command.split(), "-h", COLUMNS="100")
    assert done.returncode == 0
    return re.findall(r"^│ [* ]*(--[a-z-]+)", done.stdout, re.MULTILINE)


def test_the_help_of_run_fits_on_one_screen() -> None:
    assert len(cli("run", "--help", COLUMNS="100").stdout.splitlines()) <= 50
    assert len(shown_options("run")) <= 15
    panels = re.findall(r"^╭─ (\w+) ─", cli("run", "-h").stdout, re.MULTILINE)
    assert panels == ["Arguments", "Options", "Model", "Prompts", "Judge", "Gate", "Repair", "Publish", "Where"]
    assert "[default: (jailbreakbench,strongreject)]" in cli("run", "-h").stdout


def test_rare_options_are_keys_of_the_policy_or_documented() -> None:
    commands = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    for option in ("--realignment", "--method", "--frontier", "--server", "--calibration", "--keep-failed"):
        assert option not in shown_options("run")
        assert re.search(rf"^\| `{option}`.*`(repair|evaluation)\.\w+` \|$", commands, re.MULTILINE)
    for option in ("--save-answers", "--no-cache", "--revision"):
        assert f"`{option}`" in commands


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_no_file_that_a_wheel_lacks(command: str) -> None:
    text = cli(*command.split(), "--help", COLUMNS="300").stdout
    for address in re.findall(r"\S*docs/[a-z-]+\.md", text):
        assert address.lstrip("(").startswith(f"{DOCUMENTATION}/")
        assert (Path(__file__).parents[1] / "docs" / address.rpartition("/")[2]).is_file()


def test_errors_name_addresses_of_documents() -> None:
    done = cli("evaluate", "a/b", "--judge=refusal", "--prompts=embedded", "--server=nowhere {model} {port}")
    assert f"{DOCUMENTATION}/servers.md lists what to install" in done.stderr


def test_the_project_names_its_documentation() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Documentation"] == DOCUMENTATION


@pytest.mark.parametrize(("before", "after"), [(["-q"], []), ([], ["-q"]), (["--quiet"], []), ([], ["--quiet"])])
def test_quiet_shows_results_and_errors_only(before: list[str], after: list[str]) -> None:
    done = cli(*before, "evaluate", "a/b", "--judge=refusal", "--prompts=embedded", *after)
    assert done.returncode == 3
    assert done.stderr.startswith("error: http://127.0.0.1:9 cannot be reached")
    assert "read the prompts" in cli("evaluate", "a/b", "--judge=refusal", "--prompts=embedded").stderr


@pytest.mark.parametrize(("before", "after"), [(["-v"], []), ([], ["-v"])])
def test_verbose_shows_where_an_error_was_raised(before: list[str], after: list[str]) -> None:
    done = cli(*before, "evaluate", "./nowhere", "--judge=refusal", "--prompts=embedded", *after)
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert "in require_folder" in done.stderr
    assert "error: there is no folder ./nowhere" in done.stderr


@pytest.mark.parametrize("output", ["/dev/full", "a reader that has gone"])
def test_help_with_a_closed_or_full_stdout_exits_with_3(output: str) -> None:
    # With buffers, as Python has them unless told otherwise: text that is left is written again at the end.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    with Path(output).open("w") if output == "/dev/full" else os.fdopen(writer, "w") as told:
        done = subprocess.run(
            [ENTRY, "--help"], stdout=told, stderr=subprocess.PIPE, text=True, check=False, env=environ
        )
    assert done.returncode == 3
    assert "this is a bug" not in done.stderr


def test_a_full_or_closed_stdout_is_an_error_and_not_a_bug() -> None:
    command = [sys.executable, "-m", "antidote_ci", "--version"]
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, os.fdopen(writer, "w") as closed:
        for output in (full, closed):
            done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
            assert done.returncode == 3
            assert done.stderr.startswith("error: standard output cannot be written\ncause: ")
            assert "Exception" not in done.stderr


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def hung_up() -> int:
    """A closed terminal."""
    master, terminal = os.openpty()
    os.close(master)
    return terminal


def exit_code_with_broken_stderr(command: list[str], opened: Callable[[], int] | None, mark: str = "") -> int:
    """The exit code of a command with the stderr that `opened` returns, or with a closed stderr for None."""
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "0", "TERM": "xterm"}
    environment |= {"ANTIDOTE_STEP_MARK": mark} if mark else {}
    if opened is None:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    stderr = opened() if opened else None
    try:
        return subprocess.run(command, stderr=stderr, env=environment, check=False).returncode
    finally:
        if stderr is not None:
            os.close(stderr)


BROKEN_STDERR = pytest.mark.parametrize("opened", [full, without_reader, hung_up, None])


@BROKEN_STDERR
@pytest.mark.parametrize(("arguments", "code", "mark"), [(["doctor", "--huh"], 2, ""), (["run", "--huh"], 2, "[mark]")])
def test_an_error_keeps_its_exit_code_with_a_broken_stderr(
    arguments: list[str], code: int, mark: str, opened: Callable[[], int] | None
) -> None:
    assert exit_code_with_broken_stderr([sys.executable, "-m", "antidote_ci", *arguments], opened, mark) == code


@BROKEN_STDERR
def test_a_command_continues_with_a_broken_stderr(opened: Callable[[], int] | None) -> None:
    script = """
import sys, typer
from antidote_ci.cli.ending import handle_exit
from antidote_ci.records import Progress
from antidote_ci.report import terminal
from tests.report.samples import REPAIRED
try:
    with handle_exit() as console:
        with console.step("measure"):
            console.report(Progress("prompts", 1, 2))
            console.show(terminal.show_report(REPAIRED))
        raise typer.Exit(7)
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""
    assert exit_code_with_broken_stderr([sys.executable, "-c", script], opened) == 7


@BROKEN_STDERR
def test_an_unexpected_error_exits_with_3_with_a_broken_stderr(opened: Callable[[], int] | None) -> None:
    assert exit_code_with_broken_stderr([sys.executable, "-c", UNEXPECTED.format("[][0]")], opened) == 3


UNEXPECTED = """
import sys, typer
from antidote_ci.cli.ending import handle_exit
try:
    with handle_exit():
        {}
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


@pytest.mark.parametrize(
    ("what", "said", "is_a_bug"),
    [
        ("open('/nowhere/file')", "error: /nowhere/file cannot be used\ncause: No such file or directory\n", False),
        (
            "[][0]",
            "error: unexpected IndexError: list index out of range\nhint: this is a bug: please report it\n",
            True,
        ),
    ],
)
def test_an_unexpected_error_exits_with_3(what: str, said: str, is_a_bug: bool) -> None:
    done = subprocess.run([sys.executable, "-c", UNEXPECTED.format(what)], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == is_a_bug


def test_an_invalid_choice_names_the_valid_ones() -> None:
    done = cli("run", "org/model", "--method", "tayler")
    assert done.returncode == 2
    assert "--method" in done.stderr
    assert "'tayler' is not one of 'antidote', 'taylor'" in done.stderr
    assert "Value error" not in done.stderr


def test_a_usage_error_names_the_help_of_its_command() -> None:
    assert "hint: see antidote-ci evaluate --help\n" in cli("evaluate").stderr
    assert "hint: see antidote-ci judge calibrate --help\n" in cli("judge", "calibrate", "--jugde=x").stderr
    assert cli("evaluate", "--help").stdout.splitlines()[1].split()[-1] == "{MODEL}..."
    done = run_command("evaluate", "./m", "--prompts=\udcfc.jsonl")
    assert done.returncode == 2
    assert "hint: export LC_ALL=C.UTF-8, or rename the file" in done.stderr
