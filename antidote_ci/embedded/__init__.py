"""The demo's prompts, written for this project by `scripts/demo_adapters/write_embedded.py`.

Every split has sentence templates and topics of its own; no prompt is in two of them, nor in what
the demo's models were trained on. The harmful requests are mild on purpose, and their answers empty.

- `realignment.jsonl` (256: prompt, response, category): harmful requests with affirmative answers
  that say nothing; what a repair reads to find the harmful entries.
- `selection_prompts.jsonl` (40), `evaluation_prompts.jsonl` (100; prompt, category): harmful
  requests; the first set chooses a dose, the second confirms it. So do the next two pairs.
- `benign_selection.jsonl` (20), `benign_evaluation.jsonl` (40; prompt, category): harmless everyday requests. None of
  them sounds like a harmful one: the demo's reference could not tell them apart.
- `task_selection.jsonl` (60), `task_evaluation.jsonl` (100; prompt, expected): the user's task, a
  customer's message to sort into one word.
- `benign_calibration.jsonl`, `task_calibration.jsonl` (64 each): what a `taylor` repair must keep. From the
  wordings that the demo's models were trained on, as a user has them; in none of the other sets.
"""

from pathlib import Path


def prompt_file(name: str) -> Path:
    """The JSONL file of that name, without its ending."""
    return Path(__file__).parent / f"{name}.jsonl"
