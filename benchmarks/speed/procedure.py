"""The product's own repair of a folder, as the benchmarks call it: score, masks, apply."""

import json
from pathlib import Path

from antidote_ci import embedded
from antidote_ci.records import Manifest, MaskFile, Model, Progress, PromptRow, ReportedSource, Scores
from antidote_ci.repair.apply import ApplyRequest, Provenance, apply_mask
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.scoring import ScoreRequest, score_weights

DOSE = 0.05
BUDGET = 1 << 30


def realignment(count: int) -> list[PromptRow]:
    """Rows of the embedded set, turn and turn about when more are asked for than it has."""
    lines = embedded.prompt_file("realignment").read_text().splitlines()
    rows = [json.loads(lines[number % len(lines)]) for number in range(count)]
    return [PromptRow(prompt=row["prompt"], response=row["response"]) for row in rows]


def scored(source: Path, reference: Path, folder: Path, rows: int, budget: int = BUDGET) -> Scores:
    """Input statistics of `rows` exchanges, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    request = ScoreRequest(
        model=Model(source),
        reference=Model(reference),
        method="antidote",
        rows=realignment(rows),
        benign=[],
        taught=[],
        task=[],
        folder=folder,
        budget=budget,
    )
    return score_weights(request, silent)


def masked(source: Path, reference: Path, scores: Scores, folder: Path, doses: list[float]) -> list[MaskFile]:
    """The masks of `doses`, in `folder`."""
    statistics = folder / "antidote.safetensors"
    return write_mask_files(MaskRequest(source, reference, scores, statistics, doses, folder), silent)


def applied(source: Path, reference: Path, scores: Scores, mask: MaskFile, destination: Path) -> Manifest:
    """The repaired checkpoint in `destination`."""
    provenance = Provenance("benchmark", ReportedSource(source.name, None, "full"), None, "")
    request = ApplyRequest(source, reference, scores, mask, "antidote", mask.dose, destination, provenance)
    return apply_mask(request, silent)


def repaired(source: Path, reference: Path, out: Path, rows: int, budget: int) -> Manifest:
    """All of it."""
    scores = scored(source, reference, out / "repair", rows, budget)
    (mask,) = masked(source, reference, scores, out / "repair", [DOSE])
    return applied(source, reference, scores, mask, out / "model")


def silent(_progress: Progress) -> None:
    """Ignore progress."""
