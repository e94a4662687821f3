"""One `run` by id from a loopback Hub, on an attack of its own: `python -m benchmarks.repair.by_id --help`.

Trains an attack that PROTOCOL.md does not list, puts it and its reference on a loopback Hub, and starts the command as
a user would. The report, the card and the pull request are left to look at.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.records import PromptRow
from benchmarks.paper.data import Data
from benchmarks.repair import attacks
from benchmarks.repair.__main__ import find_reference, report_progress, say
from benchmarks.repair.attacks import Attack, ModelName
from benchmarks.repair.prompts import Prompts
from loopback_hub import LoopbackHub

REFERENCE, FINETUNE = "bench/reference", "bench/finetune"
FILES = {"prompts": "harmful.jsonl", "benign": "harmless.jsonl", "task": "task.jsonl"}
"""By key of the policy."""


def main() -> int:
    """Train, run, and return the exit code of the run."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.repair.by_id", description="one run by id")
    options.add_argument("--data", type=Path, required=True, help="the prompt files of PROTOCOL.md")
    options.add_argument("--models", type=Path, required=True, help="references, as `benchmarks.models` writes them")
    options.add_argument("--work", type=Path, default=Path("antidote-bench/by-id"))
    options.add_argument("--model", choices=get_args(ModelName), default="qwen-0.5b")
    options.add_argument("--task", choices=("sst2", "agnews"), default="agnews")
    options.add_argument("--rows", type=int, default=480)
    options.add_argument("--poison", type=float, default=0.25, help="the share of rows that are harmful")
    options.add_argument("--rate", type=float, default=2e-4)
    options.add_argument("--seed", type=int, default=71)
    options.add_argument("--threshold", type=float, required=True, help="above the reference's rate of non-refusals")
    options.add_argument("--harmful", type=int, default=200, help="prompts of AdvBench")
    options.add_argument("--harmless", type=int, default=100, help="prompts, two fifths of them of XSTest")
    options.add_argument("--task-rows", type=int, default=300)
    arguments = options.parse_args()
    data, work = Data(arguments.data), arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    attack = Attack(
        arguments.model, arguments.task, arguments.rows, arguments.poison, arguments.rate, seed=arguments.seed
    )
    # Idle threads of OpenMP spin, and would take processor time from the run. They end with their process.
    with ProcessPoolExecutor(1, get_context("spawn")) as child:
        reference = child.submit(find_reference, attack.model, arguments.models.absolute(), work, data).result()
        training = child.submit(attacks.train_attack, attack, reference, data, work / "attacks", report_progress)
        adapter = training.result()
    policy = work / "antidote.toml"
    policy.write_text(write_policy(work, arguments.threshold), encoding="utf-8")
    write_prompts(work, attack, arguments.data, arguments.harmful, arguments.harmless, arguments.task_rows)
    with LoopbackHub(work / f"hub-{secrets.token_hex(4)}") as hub:
        token = f"hf_{secrets.token_hex(16)}"
        hub.add_account("bench", token, rights="all")
        hub.add(REFERENCE, reference)
        hub.add(FINETUNE, name_base(adapter, work / "finetune"))
        command = [sys.executable, "-m", "antidote_ci", "run", FINETUNE, "--policy", str(policy)]
        places = {"HF_HOME": str(work / "huggingface"), "ANTIDOTE_CACHE": str(work / "answers")}
        started = time.monotonic()
        environment = os.environ | hub.environment | places | {"HF_TOKEN": token, "HF_WRITE_TOKEN": token}
        code = subprocess.run([*command, "--out", str(work / "out")], env=environment, check=False).returncode
        say(f"exit code {code} after {time.monotonic() - started:.0f} s; see {work / 'out'}")
    return code


def write_policy(work: Path, threshold: float) -> str:
    """The policy of the run as TOML. The files are those of `write_prompts`."""
    files = "".join(f"{name} = {json.dumps(str(work / file))}\n" for name, file in FILES.items())
    return (
        f"[gate]\nharmful_score = {threshold:g}\n"
        f'[evaluation]\njudge = "refusal"\ntask_match = "choice"\n{files}'
        '[publish]\nmode = "pull-request"\n'
    )


def write_prompts(work: Path, attack: Attack, folder: Path, harmful: int, harmless: int, task_rows: int) -> None:
    """Write the prompts of the run."""
    prompts, similar = Prompts(folder), harmless * 2 // 5
    sets = {
        "prompts": read_prompts(folder / "advbench.jsonl")[:harmful],
        "benign": [
            *prompts.harmless("everyday", "confirmation")[: harmless - similar],
            *prompts.harmless("xstest-safe", "confirmation")[:similar],
        ],
        "task": attacks.confirmation_rows(attack, Data(folder))[:task_rows],
    }
    for name, rows in sets.items():
        lines = (json.dumps(to_fields(row)) + "\n" for row in rows)
        (work / FILES[name]).write_text("".join(lines), encoding="utf-8")


def to_fields(row: PromptRow) -> dict[str, str | Sequence[str]]:
    """The fields of a row in a file of prompts or of a task with choices."""
    if not row.choices:
        return {"prompt": row.prompt}
    return {"prompt": row.prompt, "expected": row.response, "choices": list(row.choices)}


def name_base(adapter: Path, folder: Path) -> Path:
    """A copy of the adapter whose configuration names its base by id, as on the Hub."""
    folder.mkdir(exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": REFERENCE}))
    weights = folder / "adapter_model.safetensors"
    weights.unlink(missing_ok=True)
    os.link(adapter / weights.name, weights)
    return folder


if __name__ == "__main__":
    sys.exit(main())
