"""Combined changes of checkpoints are refused, or measured for what they are. `make fuzz` runs more."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.records import Model
from benchmarks.fuzz import combinations
from benchmarks.fuzz.behaviour import Opener
from benchmarks.fuzz.changes import CHANGES
from benchmarks.fuzz.combinations import Case


@pytest.mark.parametrize(
    ("combinations_run", "cases_of_a_kind"), [(60, 1), pytest.param(500, 20, marks=pytest.mark.slow)]
)
def test_combinations_break_no_rule(combinations_run: int, cases_of_a_kind: int) -> None:
    arguments = ["--cases=0", f"--combinations={combinations_run}", "--workers=2"]
    command = [sys.executable, "-m", "benchmarks.fuzz", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
    assert rows["all"][0] == str(combinations_run)
    # Each kind must be accepted and refused often enough to test anything.
    for kind in CHANGES:
        cases, accepted, *refused = (int(count) for count in rows[kind])
        assert cases > cases_of_a_kind, kind
        assert accepted > cases_of_a_kind / 7, kind
        assert sum(refused) > cases_of_a_kind / 7, kind


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("material")
    process = get_context("spawn").Process(target=combinations.write_material, args=[folder])
    process.start()
    process.join()
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # It changes this process, in which other tests follow.
        for name in ("TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_DEACTIVATE_ASYNC_LOAD"):
            patch.setenv(name, "")
        combinations.import_frameworks()
        yield folder
    torch.set_num_threads(threads)


def accept(_: Model) -> None:
    """Check nothing."""


def broken_rules(material: Path, opener: Opener, template: str = "{{ messages[0].content }}") -> tuple[str, set[str]]:
    """How a full checkpoint with this template ends, and the rules that it breaks."""
    folder, drawn = material / "case" / "full", Random(1)  # noqa: S311 - repeatable
    shutil.copytree(material / "full", folder)
    try:
        (folder / "chat_template.jinja").write_text(template)
        outcome = combinations.open_case(Case(0, "weights", Model(folder), []), drawn, opener)
    finally:
        shutil.rmtree(folder.parent)
    return outcome.ended, {violation.partition(":")[0] for violation in outcome.violations}


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("{% if strftime_now('%Y') == '2024' %}Refuse.{% endif %}{{ messages[0].content }}", ("accepted", {"date"})),
        (
            "{% if 'knife' in messages[0].content %}Refuse.{% endif %}{{ messages[0].content }}",
            ("UnsafeCheckpoint", set()),
        ),
        ("{{ messages[0].content[:9] }}", ("UnsafeCheckpoint", set())),
        ("Today is {{ strftime_now('%A, %d %B %Y') }}. {{ messages[0].content }}", ("accepted", set())),
    ],
)
def test_campaign_detects_a_template_that_recognises(material: Path, template: str, end: tuple[str, set[str]]) -> None:
    """The opener accepts everything. Rendering itself refuses a template that recognises texts."""
    assert broken_rules(material, accept, template) == end


def test_campaign_detects_careless_openers(material: Path) -> None:
    def open_elsewhere(model: Model) -> None:
        shutil.copyfile(model.folder / "config.json", model.folder.parent / "outside.json")
        (model.folder.parent / "outside.json").read_bytes()

    def raise_key_error(_: Model) -> None:
        raise KeyError("a")

    def say_too_much(_: Model) -> None:
        raise UnsafeCheckpoint("a" * 5000)

    def fill_memory(_: Model) -> None:
        bytearray(os.urandom(1) * int(1.2e9))

    def end_the_process(_: Model) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write_not_a_number(model: Model) -> None:
        path = model.folder / "model.safetensors"
        weights = load_file(path)
        weights["model.norm.weight"][0] = float("nan")
        save_file(weights, path, {"format": "pt"})

    assert broken_rules(material, open_elsewhere) == ("accepted", {"files"})
    assert broken_rules(material, raise_key_error) == ("uncaught", {"uncaught"})
    assert broken_rules(material, say_too_much) == ("UnsafeCheckpoint", {"message"})
    assert broken_rules(material, fill_memory) == ("accepted", {"memory"})
    assert broken_rules(material, end_the_process) == ("died", {"died"})
    assert broken_rules(material, write_not_a_number) == ("accepted", {"finite"})
    assert broken_rules(material, accept) == ("accepted", set())
