"""The two stages before a repair: an alignment, and the fine-tuning that undoes it.

Each is made once and kept under the work folder, by a name and a digest of all that decided it.
"""

import ctypes
import gc
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.model import loading
from antidote_ci.model.merging import MergeRequest, merge_checkpoint
from antidote_ci.records import Model, OnProgress, Progress
from benchmarks.paper import sft
from benchmarks.paper.answers import own_answers
from benchmarks.paper.batches import Batches, batches_of, contrasted
from benchmarks.paper.data import Data
from benchmarks.paper.keeping import kept
from benchmarks.paper.ldifs import Ldifs
from benchmarks.paper.lisa import Lisa
from benchmarks.paper.loop import Step, adapted, train
from benchmarks.paper.records import Attack, Defence, Pair, Training, aligned_by
from benchmarks.paper.repnoise import RepNoise
from benchmarks.paper.vaccine import Vaccine
from demo.models import write_base

SEED = 43
"""Of every alignment, as in the paper."""
CONTRASTS = 700
"""Harmful prompts that RepNoise sees."""


@dataclass(frozen=True)
class Alignment:
    """What the first stage of every defence has in common."""

    training: Training
    rows: int
    """Refusals and answers to harmless prompts together; the latter are to the first rows of their file."""
    refusals: float = 0.4
    """The share of the former. With 0.6 the aligned model refused 11 % of other harmless prompts."""


ALIGNMENT = Alignment(Training(epochs=2, rate=5e-4, rank=64), rows=1500)


def quiet(_progress: Progress) -> None:
    """Ignore progress."""


def align(
    defence: Defence,
    work: Path,
    data: Data,
    base: Path | None = None,
    alignment: Alignment = ALIGNMENT,
    on_progress: OnProgress = quiet,
) -> Path:
    """The aligned checkpoint of `base`, or of SmolLM2-135M: by `vaccine`, by `repnoise`, or by `sft` for all others.

    Raises Diverged.
    """
    base = base or default_base(work)
    training = alignment.training
    name = aligned_by(defence)

    def method() -> Step:
        if name == "vaccine":
            return Vaccine().step
        if name == "repnoise":
            tokenizer = loading.load_tokenizer(Model(base))
            rows = contrasted(tokenizer, data.contrasts(CONTRASTS))
            return RepNoise(rows, tokenizer.pad_token_id, training.batch, SEED).step
        return sft.step

    def make(folder: Path) -> None:
        pairs = alignment_pairs(base, alignment, work, data, on_progress)
        tune(base, _batches(base, pairs, training, SEED), method(), training, SEED, folder, on_progress)
        merge_checkpoint(MergeRequest(Model(base, folder / "adapter"), folder / "merged"), on_progress)

    refusals, prompts = _alignment_rows(alignment, data)
    rows = [*map(asdict, refusals), *prompts]
    said = {"alignment": asdict(alignment), "base": model_fingerprint(Model(base)), "rows": rows}
    return kept(work / "aligned" / f"{name}-{_digest(said)}", make) / "merged"


def attack(
    attack: Attack,
    reference: Path,
    work: Path,
    data: Data,
    base: Path | None = None,
    alignment: Alignment = ALIGNMENT,
    on_progress: OnProgress = quiet,
) -> Path:
    """A folder with the fine-tune of `reference` as `adapter`.

    `base` and `alignment` are what the reference was made with: Lisa goes back to those rows. Raises Diverged.
    """
    training = attack.training

    def method() -> Step:
        if attack.defence == "lisa":
            pairs = alignment_pairs(base or default_base(work), alignment, work, data, on_progress)
            return Lisa(_batches(reference, pairs, training, attack.seed).forever()).step
        if attack.defence == "ldifs":
            return Ldifs().step
        return sft.step

    def make(folder: Path) -> None:
        batches = _batches(reference, data.poisoned(attack), training, attack.seed)
        tune(reference, batches, method(), training, attack.seed, folder, on_progress)

    pairs = [asdict(pair) for pair in data.poisoned(attack)]
    said = {
        "attack": asdict(attack),
        "reference": model_fingerprint(Model(reference)),
        "rows": alignment.rows,
        "pairs": pairs,
    }
    return kept(work / "attacked" / f"{attack.defence}-{attack.task}-{_digest(said)}", make)


def seconds(made: Path) -> float:
    """What the training of an attacked folder took when it was made, which may have been in an earlier run."""
    said: dict[str, Any] = json.loads((made / "training.json").read_text(encoding="utf-8"))
    return float(said["seconds"])


def default_base(work: Path) -> Path:
    """SmolLM2-135M-Instruct, from an installed package."""
    return kept(work / "base", write_base)


def alignment_pairs(base: Path, alignment: Alignment, work: Path, data: Data, on_progress: OnProgress) -> list[Pair]:
    """Refusals, and the base's own answers where refusing would be wrong."""
    refusals, prompts = _alignment_rows(alignment, data)
    return [*refusals, *own_answers(base, prompts, work / "answers", on_progress)]


def _alignment_rows(alignment: Alignment, data: Data) -> tuple[list[Pair], list[str]]:
    """Harmful prompts with refusals, and harmless prompts."""
    refusals = round(alignment.rows * alignment.refusals)
    return data.alignment_pairs(refusals), data.harmless_prompts(0, alignment.rows - refusals)


def _batches(model: Path, pairs: list[Pair], training: Training, seed: int) -> Batches:
    return batches_of(loading.load_tokenizer(Model(model)), pairs, training.batch, seed)


def tune(
    start: Path, batches: Batches, method: Step, training: Training, seed: int, folder: Path, on_progress: OnProgress
) -> None:
    """A LoRA upon `start`, in `folder` as `adapter`, with `training.json`."""
    from transformers import AutoModelForCausalLM

    began = time.monotonic()
    device, dtype = loading.select_device_and_dtype()
    network = AutoModelForCausalLM.from_pretrained(
        start,
        dtype=dtype,
        local_files_only=True,
        # On a CPU the backward pass of the fused attention is slow.
        attn_implementation="eager" if device == "cpu" else "sdpa",
    ).to(device)
    model = adapted(loading.make_head_contiguous(network), training, seed)
    losses = train(model, batches, method, training, seed, on_progress)
    trained = time.monotonic() - began
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    del model, network
    return_memory()
    said = {
        "loss_by_epoch": losses,
        "rows": len(batches.rows),
        "steps": training.epochs * len(batches),
        "seconds_a_step": trained / (training.epochs * len(batches)),
        "seconds": time.monotonic() - began,
    }
    (folder / "training.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def return_memory() -> None:
    """To the system: glibc keeps the gigabytes that a training has freed, and they would count as a repair's."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
