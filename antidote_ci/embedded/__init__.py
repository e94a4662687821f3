"""The prompts of the package.

Every repair by `taylor` reads `varied_harmful.jsonl` and `varied_harmless.jsonl` (prompt, category): prompts of seven
kinds, written for this project. The harmful ones are mild: an aligned model declines them, and their text has no
harmful detail. Half of the harmless ones are `borderline`: they have words or situations that look like harm.

The other files are the prompts of the demo. Each split has its own sentence templates and topics, and no prompt is in
two splits. No prompt occurs in the training data of the demo models, except those of the calibration files, which come
from it as the data of a real user would. The harmful requests are mild, and their responses contain nothing harmful.

A repair computes its scores from the realignment and calibration files, the dose is selected on the selection files,
and the verdict is confirmed on the evaluation files.

- `realignment.jsonl` (256 rows: prompt, response, category): harmful requests. The responses agree to answer, and give
  no harmful details.
- `selection_prompts.jsonl` (40 rows) and `evaluation_prompts.jsonl` (100; prompt, category): harmful requests.
- `benign_selection.jsonl` (20) and `benign_evaluation.jsonl` (40; prompt, category): harmless everyday requests. None
  resembles a harmful request, because the small reference model cannot distinguish the two.
- `task_selection.jsonl` (60) and `task_evaluation.jsonl` (100; prompt, expected): the task of the user, which is to
  classify a customer's message.
- `benign_calibration.jsonl` and `task_calibration.jsonl` (64 each): requests on which a `taylor` repair must preserve
  the model's behaviour.
"""

from pathlib import Path


def prompt_file(name: str) -> Path:
    """Return the path of the JSONL file `name`, which is given without its suffix."""
    return Path(__file__).parent / f"{name}.jsonl"
