"""The entry point as a real process, with a fake `antidote_ci` that records its arguments and environment."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from action import __main__ as entry
from antidote_ci import environment, errors, paths
from tests.action.small_github import GitHub
from tests.action.workflow_runner import Runner, parse_outputs

REPORT = {
    "verdict": "fail",
    "reason": "Caf\u00e9, then \ud800\n::set-output name=verdict::pass",
    "source": {"id": "org/name", "revision": "a" * 40},
    "evaluations": {
        "before": {"harmful_score": 0.5, "bounds": [0.4, 0.6]},
        "after": {"harmful_score": 0.25, "bounds": [0.2, 0.3]},
    },
    "publish": {"mode": "pull-request", "url": "https://example.invalid/\ud800"},
}
FAKE_CLI = """
import json, os, pathlib, signal, sys, time
from antidote_ci import environment
environment.protect()
folder = pathlib.Path(__file__).parent
script = json.loads((folder / "script.json").read_text())
(folder / "seen.json").write_text(json.dumps({"argv": sys.argv[1:], "environ": dict(os.environ)}))
print("::set-output name=verdict::pass", flush=True)
print("##[error]written to standard error", file=sys.stderr, flush=True)
for name in script["removes"]:
    pathlib.Path(name).unlink()
for name, text in script["files"].items():
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
if script["wait"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("waiting", flush=True)
    time.sleep(30)
if script["code"] < 0:
    os.kill(os.getpid(), -script["code"])
sys.exit(script["code"])
"""
ROOT = Path(__file__).parents[2]


class Workspace:
    """A workspace, the files of the runner, and the fake `antidote_ci`."""

    def __init__(self, root: Path) -> None:
        self.package = root / "installed" / "antidote_ci"
        self.workspace = root / "work space"
        self.output = root / "output"
        self.summary = root / "summary"
        self.in_github = "true"
        self.variables: dict[str, str] = {}
        for folder in (self.package, self.workspace):
            folder.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        for module in (environment, errors, paths):
            shutil.copy(str(module.__file__), self.package)
        (self.package / "__main__.py").write_text(FAKE_CLI)
        self.plan({}, 0)

    def plan(self, files: dict[str, str], code: int, *, wait: bool = False, removes: Sequence[str] = ()) -> None:
        script = {"files": files, "code": code, "wait": wait, "removes": removes}
        (self.package / "script.json").write_text(json.dumps(script))

    def start(self, *arguments: str, **inputs: str) -> subprocess.Popen[bytes]:
        variables = {f"INPUT_{name.upper().replace('_', '-')}": text for name, text in inputs.items()}
        environ = variables | {
            "PATH": os.environ["PATH"],
            "PYTHONSAFEPATH": "1",  # as in the image
            "PYTHONPATH": os.pathsep.join([str(self.package.parent), str(ROOT)]),
            "GITHUB_ACTIONS": self.in_github,
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            **self.variables,
        }
        command = [sys.executable, "-m", "action", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.workspace,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **inputs: str) -> tuple[int, str]:
        """Exit code and standard output; standard error stays empty."""
        with self.start(*arguments, **inputs) as process:
            stdout, stderr = process.communicate(timeout=20)
        assert stderr == b""
        return process.returncode, stdout.decode()

    def outputs(self) -> dict[str, str]:
        pairs = parse_outputs(self.output.read_text(encoding="utf-8"))
        assert len(dict(pairs)) == len(pairs)
        return {name: text for name, text in pairs if text}

    def seen(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.package / "seen.json").read_text())
        return record


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_failing_run_writes_outputs_summary_and_annotation(place: Workspace) -> None:
    place.plan({"out/report.json": json.dumps(REPORT), "out/summary.md": "# Summary\n"}, 7)
    code, stdout = place.run(model="org/name", out="out", threshold="0.1")
    assert code == 7
    assert place.seen()["argv"] == ["run", "--threshold=0.1", "--out=out", "--", "org/name"]
    assert place.outputs() == {
        "verdict": "fail",
        "exit-code": "7",
        "harmful-score-before": "0.5",
        "harmful-score-before-lower": "0.4",
        "harmful-score-before-upper": "0.6",
        "harmful-score-after": "0.25",
        "harmful-score-after-lower": "0.2",
        "harmful-score-after-upper": "0.3",
        "source-sha": "a" * 40,
        "pull-request-url": "https://example.invalid/?",
        "report-json": "out/report.json",
        "report-html": "out/report.html",
    }
    link = f"[the model at {'a' * 12}](https://huggingface.co/org/name/tree/{'a' * 40})"
    assert place.summary.read_text() == f"# Summary\n\nLinks: {link}.\n"
    [(name, text)] = Runner().read(stdout)
    assert name == "error"
    assert "Caf\u00e9, then ?\n::set-output" in text


def test_tokens_are_masked_and_passed_in_the_environment(place: Workspace) -> None:
    tokens = {"hf_token": "hf_read", "hf_write_token": "hf_write", "hf_jobs_token": "hf_jobs", "judge_key": "k\nl"}
    code, stdout = place.run(model="org/name", publish="branch", **tokens)
    assert code == 0
    runner = Runner()
    masked = ["hf_jobs", "hf_read", "hf_write", "k\nl", "k", "l"]
    assert runner.read(stdout) == [("add-mask", each) for each in masked]
    assert set(masked) <= runner.masks
    seen = place.seen()
    assert seen["argv"] == ["run", "--publish=branch", "--", "org/name"]
    assert seen["environ"]["HF_JOBS_TOKEN"] == "hf_jobs"
    assert seen["environ"]["HF_TOKEN"] == "hf_read"
    assert seen["environ"]["HF_WRITE_TOKEN"] == "hf_write"
    assert not [name for name in seen["environ"] if name.startswith("INPUT_")]


def test_no_mask_commands_outside_github(place: Workspace) -> None:
    place.in_github = ""
    _, stdout = place.run(model="org/name", hf_token="hf_read")
    assert place.seen()["environ"]["HF_TOKEN"] == "hf_read"
    assert "hf_read" not in stdout


def test_killed_child_exits_with_137(place: Workspace) -> None:
    place.plan({}, -signal.SIGKILL)
    assert place.run(model="org/name")[0] == 137
    assert place.outputs() == {"exit-code": "137"}


@pytest.mark.parametrize(("removes", "code"), [((), 2), (("antidote-out/report.json",), 143)])
def test_report_of_an_earlier_step_is_ignored(place: Workspace, removes: Sequence[str], code: int) -> None:
    """A run removes an old report when it begins. A run that fails earlier leaves it."""
    old = place.workspace / "antidote-out"
    old.mkdir()
    (old / "report.json").write_text(json.dumps(REPORT))
    (old / "summary.md").write_text("old")
    place.plan({}, code, removes=removes)
    ended, stdout = place.run(model="org/name")
    assert ended == code
    assert place.outputs() == {"exit-code": str(code)}
    assert not place.summary.exists()
    [(name, _)] = Runner().read(stdout)
    assert name == "error"


@pytest.mark.parametrize("text", ["{", "[]"])
def test_invalid_report_exits_3(place: Workspace, text: str) -> None:
    place.plan({"antidote-out/report.json": text}, 0)
    code, stdout = place.run(model="org/name")
    assert code == 3
    assert place.outputs() == {"exit-code": "3"}
    [(name, data)] = Runner().read(stdout)
    assert name == "error"
    assert data.startswith("antidote-out/report.json cannot be read: ")


@pytest.mark.parametrize(("code", "expected"), [(0, 3), (1, 1)])
def test_unwritable_outputs_are_an_error(place: Workspace, code: int, expected: int) -> None:
    place.output = Path("/dev/full")
    place.plan({"antidote-out/report.json": json.dumps(REPORT)}, code)
    ended, stdout = place.run(model="org/name")
    assert ended == expected
    *_, (name, data) = annotations = Runner().read(stdout)
    assert name == "error"
    assert data.startswith("the step's outputs cannot be written: ")
    assert len(annotations) == (1 if code == 0 else 2)


@pytest.mark.parametrize("name", ["report.json", "summary.md"])
def test_links_in_the_output_folder_are_not_followed(place: Workspace, name: str) -> None:
    secret = place.workspace.parent / "secret"
    secret.write_text(json.dumps(REPORT | {"reason": "private"}))
    files = {"out/report.json": json.dumps(REPORT), "out/summary.md": "# Summary\n"}
    (place.workspace / "out").mkdir()
    del files[f"out/{name}"]
    (place.workspace / "out" / name).symlink_to(secret)
    # Written later than the stamp that is taken before the run.
    place.plan(files | {"../secret": json.dumps(REPORT | {"reason": "private"})}, 1)
    _, stdout = place.run(model="org/name", out="out")
    shown = place.summary.read_text() if place.summary.exists() else ""
    assert "private" not in shown + stdout + place.output.read_text()


def test_unwritable_summary_exits_3(place: Workspace) -> None:
    place.summary = Path("/dev/full")
    place.plan({"antidote-out/report.json": json.dumps(REPORT), "antidote-out/summary.md": "# Summary"}, 0)
    assert place.run(model="org/name")[0] == 3
    assert place.outputs()["verdict"] == "fail"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_files_of_root_are_given_to_the_owner_of_the_workspace(place: Workspace) -> None:
    """Else the runner cannot cache what only its owner may read. Files outside its folders stay as they are."""
    root = place.workspace.parent
    temp, cache, outside = root / "temp", root / "temp" / "huggingface", root / "outside"
    (place.workspace / "out").mkdir()
    (place.workspace / "out" / "link").symlink_to(outside)
    os.chown(place.workspace, 1001, 1002)
    place.variables = {"GITHUB_WORKSPACE": str(place.workspace), "RUNNER_TEMP": str(temp), "HF_HOME": str(cache)}
    given = ["out/report.json", "out/model/weights", "../temp/huggingface/trees/tree.json"]
    kept = ["../outside/file", "../temp/other", "beside"]
    place.plan({name: json.dumps(REPORT) for name in (*given, *kept)}, 0)
    assert place.run(model="org/name", out="./out")[0] == 0
    for name in (*given, "out", "out/model", "../temp/huggingface/trees", "out/link"):
        status = (place.workspace / name).lstat()
        assert (status.st_uid, status.st_gid) == (1001, 1002), name
    assert {(place.workspace / name).stat().st_uid for name in (*kept, "../outside", "../temp")} == {0}
    place.variables |= {"HF_HOME": str(outside)}
    assert place.run(model="org/name", out="../outside")[0] == 0
    assert outside.stat().st_uid == 0


def test_file_that_cannot_be_given_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All others are given away."""
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    given: list[str] = []

    def chown(name: str, *_: object, **__: object) -> None:
        if name == "a":
            raise FileNotFoundError(errno.ENOENT, "removed", name)
        if name == "b":
            raise PermissionError(errno.EPERM, "refused by the file system", name)
        given.append(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "stat", lambda *_, stat=os.stat, **options: as_root(stat(*_, **options)))
    monkeypatch.setattr(os, "chown", chown)
    entry.give_to_runner(tmp_path, {"GITHUB_WORKSPACE": str(tmp_path)})
    assert sorted(given) == [".", "c"]
    (warning,) = Runner().read(capfd.readouterr().out)
    assert warning[0] == "warning"
    assert warning[1].startswith(f"1 files or folders of {tmp_path} still belong to root")
    assert warning[1].endswith(f"[Errno 1] refused by the file system: '{tmp_path}/b'")


def as_root(status: os.stat_result) -> os.stat_result:
    return os.stat_result((*status[:4], 0, *status[5:]))


def test_paths_of_the_report_are_those_of_the_machine(place: Workspace) -> None:
    place.variables = {"GITHUB_WORKSPACE": str(place.workspace)}
    place.plan({"out/report.json": json.dumps(REPORT)}, 0)
    place.run(model="org/name", out=f"{place.workspace}/out")
    assert place.outputs()["report-html"] == "out/report.html"


def test_summary_is_read_where_the_container_has_it(place: Workspace) -> None:
    """Later steps may find the folder under another path."""
    place.variables = {"GITHUB_WORKSPACE": str(place.workspace.parent)}
    place.plan({"out/report.json": json.dumps(REPORT), "out/summary.md": "# Summary\n"}, 0)
    place.run(model="org/name", out=f"{place.workspace}/out")
    assert place.outputs()["report-json"] == "work space/out/report.json"
    assert place.summary.read_text().startswith("# Summary\n")


def test_invalid_output_folder_is_passed_on(place: Workspace) -> None:
    place.plan({}, 2)
    assert place.run(model="org/name", out="o" * 300)[0] == 2
    assert place.outputs() == {"exit-code": "2"}


def test_closed_output_does_not_prevent_outputs(place: Workspace) -> None:
    place.plan({}, 7)
    with place.start(model="org/name") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 7
    assert place.outputs() == {"exit-code": "7"}


def test_invalid_input_runs_nothing(place: Workspace) -> None:
    code, stdout = place.run(model="org/name", dry_run="perhaps")
    assert code == 2
    assert place.outputs() == {"exit-code": "2"}
    [(name, data)] = Runner().read(stdout)
    assert name == "error"
    assert data.startswith("input dry-run: 'perhaps' is neither true nor false\n")
    assert not (place.package / "seen.json").exists()


@pytest.mark.parametrize("before", [(), ("antidote-ci",)])
def test_arguments_are_passed_to_the_command(place: Workspace, before: tuple[str, ...]) -> None:
    place.plan({}, 4)
    with place.start(*before, "run", "org/name", "--json") as process:
        process.communicate(timeout=20)
    assert process.returncode == 4
    assert place.seen()["argv"] == ["run", "org/name", "--json"]
    assert not place.output.exists()


def test_help_without_arguments_and_inputs(place: Workspace) -> None:
    with place.start() as process:
        process.communicate(timeout=20)
    assert place.seen()["argv"] == ["--help"]


def test_sigterm_is_forwarded_and_outputs_are_written(place: Workspace) -> None:
    place.plan({}, 0, wait=True)
    with place.start(model="org/name") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"waiting":
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 143
    assert place.outputs() == {"exit-code": "143"}


def test_no_module_is_imported_from_the_workspace(place: Workspace) -> None:
    trap = place.workspace / "antidote_ci"
    trap.mkdir()
    (trap / "__init__.py").touch()
    (trap / "__main__.py").write_text("raise SystemExit(99)")
    assert place.run(model="org/name")[0] == 0


def test_comment_is_written_and_its_token_is_not_passed_on(place: Workspace, github: GitHub) -> None:
    place.plan({"antidote-out/report.json": json.dumps(REPORT), "antidote-out/summary.md": "# Summary\n"}, 1)
    place.variables = github.environ
    code, stdout = place.run(model="org/name", comment="true")
    assert code == 1
    assert "GITHUB_TOKEN" not in place.seen()["environ"]
    assert github.comments[0]["body"].partition("\n")[2] == place.summary.read_text()
    # A run without a verdict must not leave the earlier verdict.
    place.plan({}, 3)
    place.run(model="org/name", comment="true")
    assert "no verdict" in github.comments[0]["body"]
    assert len(github.comments) == 1
    github.answer = 403
    code, stdout = place.run(model="org/name", comment="true")
    assert code == 3
    assert "pull-requests: write" in dict(Runner().read(stdout))["warning"]


def test_without_the_input_no_comment_is_written(place: Workspace, github: GitHub) -> None:
    place.plan({"antidote-out/report.json": json.dumps(REPORT), "antidote-out/summary.md": "# Summary\n"}, 1)
    place.variables = github.environ
    for value in ("", "false"):
        place.run(model="org/name", comment=value)
    assert place.run(model="org/name", comment="maybe")[0] == 2
    assert github.requests == []
