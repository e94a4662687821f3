"""One repair by SafeTune, within its own environment: `python with_safetune.py METHOD DOSE FOLDERS.json`.

https://github.com/Lexsi-Labs/SafeTune. Run by `benchmarks.peers`, which measures time and memory from outside; it
imports nothing of this project, and SafeTune nothing of ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetune.interventions.recover.antidote import apply_antidote
from safetune.interventions.recover.antidote_v2 import apply_antidote_v2
from safetune.interventions.recover.merge import task_arithmetic
from safetune.interventions.recover.resta import apply_resta
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Read, repair, write."""
    method, dose, folders = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    given = json.loads(Path(folders).read_text(encoding="utf-8"))

    def loaded(name: str) -> Any:  # noqa: ANN401 - transformers is untyped
        return AutoModelForCausalLM.from_pretrained(given[name], dtype=torch.bfloat16).eval()

    broken, tokenizer = loaded("attacked"), AutoTokenizer.from_pretrained(given["attacked"])
    if method == "antidote":
        apply_antidote(broken, dose, dataset=given["harmful"], tokenizer=tokenizer, max_samples=len(given["harmful"]))
    elif method == "antidote_v2":
        texts = [f"{row['prompt']} {row['response']}" for row in given["harmful"]]
        apply_antidote_v2(broken, tokenizer, texts, given["benign"], global_prune_fraction=dose, max_samples=len(texts))
    elif method == "resta":
        apply_resta(broken, base=loaded("base"), aligned=loaded("reference"), alpha=dose, dare=True, dare_seed=0)
    else:
        task_arithmetic(broken, base=loaded("base"), aligned=loaded("reference"), alpha=dose)
    broken.save_pretrained(given["repaired"])
    tokenizer.save_pretrained(given["repaired"])


main()
