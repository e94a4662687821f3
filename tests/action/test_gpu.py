"""The action for runners with a GPU: its script run by a real bash, and a `docker` that starts the entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from action import inputs
from tests.action.test_files import ACTION
from tests.action.test_main import Workspace
from tests.action.workflow_runner import parse_outputs

ROOT = Path(__file__).parents[2]
GPU: dict[str, Any] = yaml.safe_load((ROOT / "action" / "gpu" / "action.yml").read_text())
[STEP] = GPU["runs"]["steps"]
DOCKER = """#!{python}
import json, os, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
(here / "argv.json").write_text(json.dumps(sys.argv[1:]))
named, environ, mounts = [], {{"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["STAND_INS"]}}, {{}}
arguments = iter(sys.argv[1:])
for word in arguments:
    if word == "--env":
        name, equals, value = next(arguments).partition("=")
        environ |= {{name: value if equals else os.environ[name]}}
    elif word == "--volume":
        outside, _, inside = next(arguments).partition(":")
        mounts[inside] = outside
    elif word == "--workdir":
        workspace = mounts[next(arguments)]
# What lies at its own place in a container lies where it was mounted from here.
for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
    environ[name] = mounts[environ[name]]
sys.exit(subprocess.run([sys.executable, "-m", "action"], env=environ, cwd=workspace).returncode)
"""
HOSTILE = ['"; exit 9; "', "$(exit 9)", "`exit 9`", "a\nb --privileged", "--env=A=B", "'", "${PATH}", "a b", "\\"]


def test_inputs_and_outputs_are_those_of_the_action() -> None:
    assert GPU["inputs"] == ACTION["inputs"]
    described = {name: entry["description"] for name, entry in ACTION["outputs"].items()}
    assert GPU["outputs"] == {
        name: {"description": text, "value": f"${{{{ steps.{STEP['id']}.outputs.{name} }}}}"}
        for name, text in described.items()
    }


def test_every_input_is_handed_over_and_none_is_part_of_the_script() -> None:
    handed_over = {name: text for name, text in STEP["env"].items() if name.startswith("INPUT_")}
    assert handed_over == {
        f"INPUT_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}" for name in inputs.INPUTS
    }
    assert "${{" not in STEP["run"]


def start(tmp_path: Path, given: dict[str, str], code: int = 0, **host: str) -> tuple[int, list[str], dict[str, Any]]:
    """Exit code, what docker was given, and what the program in the container saw."""
    place, programs = Workspace(tmp_path), tmp_path / "bin"
    place.plan({}, code)
    programs.mkdir()
    for file in (place.output, place.summary):
        file.touch()
    (programs / "docker").write_text(DOCKER.format(python=sys.executable))
    (programs / "docker").chmod(0o755)
    runner = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STAND_INS": f"{place.package.parent}:{ROOT}",
        "GITHUB_ACTION_PATH": str(ROOT / "action" / "gpu"),
        "GITHUB_WORKSPACE": str(place.workspace),
        "GITHUB_OUTPUT": str(place.output),
        "GITHUB_STEP_SUMMARY": str(place.summary),
        "GITHUB_REPOSITORY": "org/name",
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "RUNNER_TOOL_CACHE": str(tmp_path / "tools"),
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }
    values = {f"INPUT_{name.upper().replace('-', '_')}": given.get(name, "") for name in inputs.INPUTS}
    step = {name: text for name, text in STEP["env"].items() if "${{" not in text}
    script = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEP["run"]]
    done = subprocess.run(
        script, env=runner | host | step | values, cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert done.stderr == b""
    return done.returncode, json.loads((programs / "argv.json").read_text()), place.seen()


def test_the_run_is_that_of_the_container_action(tmp_path: Path) -> None:
    given = {"model": "org/name", "threshold": "0.1", "hf-token": "hf_read", "frontier": "true"}
    code, argv, seen = start(tmp_path, given, code=7)
    assert code == 7
    assert seen["argv"] == ["run", "--threshold=0.1", "--frontier", "--", "org/name"]
    assert seen["environ"]["HF_TOKEN"] == "hf_read"
    assert seen["environ"]["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert seen["environ"]["HF_HOME"] == "/cache/huggingface"
    assert seen["environ"]["GITHUB_REPOSITORY"] == "org/name"
    assert argv[:4] == ["run", "--rm", "--gpus", "all"]
    assert argv[-1] == STEP["env"]["IMAGE"]
    assert f"{tmp_path / 'tools'}/antidote-ci/huggingface:/cache/huggingface" in argv
    assert dict(parse_outputs((tmp_path / "output").read_text()))["exit-code"] == "7"


def test_folders_of_the_host_do_not_name_any_in_the_container(tmp_path: Path) -> None:
    """What they name is mounted nowhere, and a container's own folders end with it."""
    names = ("HF_HUB_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "HF_TOKEN_PATH", "ANTIDOTE_CACHE")
    host = {name: f"/host/{name}" for name in names}
    _, argv, seen = start(tmp_path, {"model": "org/name"}, 0, **host)
    assert not set(host) & set(seen["environ"])
    assert not [each for each in argv if "/host/" in each]


def test_folders_that_inputs_can_name_have_the_same_paths_in_the_container(tmp_path: Path) -> None:
    """`${{ github.workspace }}` and `${{ runner.temp }}` are paths of the host, which nothing translates."""
    out = f"{tmp_path}/work space/out"
    _, argv, seen = start(tmp_path, {"model": "org/name", "out": out})
    for folder in (tmp_path / "work space", tmp_path / "temp"):
        assert f"{folder}:{folder}" in argv
    assert f"--out={out}" in seen["argv"]
    assert seen["environ"]["GITHUB_WORKSPACE"] == argv[argv.index("--workdir") + 1] == f"{tmp_path}/work space"


def test_a_cache_is_mounted_by_its_whole_path(tmp_path: Path) -> None:
    """docker takes anything else for the name of a volume."""
    _, argv, _ = start(tmp_path, {"model": "org/name"}, HF_HOME="models/../cache")
    assert f"{tmp_path / 'cache'}:/cache/huggingface" in argv
    assert (tmp_path / "cache").is_dir()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_becomes_an_option_or_shell_text(tmp_path: Path, text: str) -> None:
    code, argv, seen = start(tmp_path, {"model": text, "server": text, "hf-token": f"t{text}"})
    assert code == 0
    assert seen["argv"] == ["run", f"--server={text}", "--", text]
    assert seen["environ"]["HF_TOKEN"] == f"t{text}"
    assert not [each for each in argv if text in each and text not in ("'", "a b", "\\")]
