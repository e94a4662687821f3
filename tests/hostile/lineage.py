"""Models that name a false base, or a base that changed owner."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopback_hub import LoopbackHub
from tests.hostile.fixture import ADAPTER_CONFIG, TOKENIZER, Beside, Change, Fixture, Start, edited, setting
from tests.hostile.pickles import PAYLOAD, instead

REUSE = "https://unit42.paloaltonetworks.com/model-namespace-reuse/"
CARDS = "https://huggingface.co/docs/hub/model-cards#specifying-a-base-model"
EARLY = "2025-01-15T12:00:00.000Z"
LATE = "2100-01-15T12:00:00.000Z"
"""After the last change of the fine-tune: the loopback Hub dates commits by the clock."""


def from_base(base: str) -> Change:
    """Let the configuration and the card of an adapter name this base."""

    def build(folder: Path) -> None:
        setting(ADAPTER_CONFIG, base_model_name_or_path=base)(folder)
        card(base)(folder)

    return build


def card(base: str) -> Change:
    """Let the card name this base."""
    return lambda folder: (folder / "README.md").write_text(f"---\nbase_model: {base}\n---\n\n# A fine-tune\n")


def on_the_hub(*bases: str, created: str = EARLY) -> Beside:
    """Add valid base models to the Hub."""

    def add(hub: LoopbackHub, good: Mapping[Start, Path]) -> None:
        for base in bases:
            hub.add(base, good["full"], created=created)

    return add


def _moved(hub: LoopbackHub, good: Mapping[Start, Path]) -> None:
    hub.add("lab-a/moved", good["full"], created=EARLY)
    hub.store.move("lab-a/moved", "lab-b/moved")


def _moved_and_taken(hub: LoopbackHub, good: Mapping[Start, Path]) -> None:
    """Rename the base, then register its old name again."""
    hub.add("lab-a/transferred", good["full"], created=EARLY)
    hub.store.move("lab-a/transferred", "lab-b/transferred")
    hub.add("somebody/transferred", good["full"], created=LATE)
    hub.store.move("somebody/transferred", "lab-a/transferred")


def _pickled(hub: LoopbackHub, good: Mapping[Start, Path]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = shutil.copytree(good["full"], Path(made) / "pickled")
        instead("pytorch_model.bin", PAYLOAD)(folder)
        hub.add("lab-a/pickled", folder, created=EARLY)


def _exchanged(tokenizer: dict[str, Any]) -> None:
    """Swap the IDs of two tokens."""
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]


FIXTURES = (
    Fixture(
        "two-bases",
        CARDS,
        "the card of an adapter names one base, and its configuration another",
        card("lab-a/shown"),
        "lab-a/shown",
        start="adapter",
        beside=on_the_hub("lab-a/shown"),
    ),
    Fixture(
        "taken-name",
        REUSE,
        "the base's owner deleted the account, and somebody else registered the name after the fine-tuning",
        from_base("lab-a/taken"),
        "lab-a/taken",
        start="adapter",
        beside=on_the_hub("lab-a/taken", created=LATE),
    ),
    Fixture(
        "moved-base",
        REUSE,
        "the base was transferred: the old name redirects to weights that another owner may change",
        from_base("lab-a/moved"),
        "lab-a/moved",
        start="adapter",
        beside=_moved,
    ),
    Fixture(
        "moved-and-taken",
        REUSE,
        "the base was transferred, and somebody else registered the old name",
        from_base("lab-a/transferred"),
        "lab-a/transferred",
        start="adapter",
        beside=_moved_and_taken,
    ),
    Fixture(
        "taken-name-on-a-card",
        REUSE,
        "the same, where only the card of merged weights names the base",
        card("lab-a/taken-merged"),
        "lab-a/taken-merged",
        command="run",
        beside=on_the_hub("lab-a/taken-merged", created=LATE),
    ),
    Fixture(
        "base-on-this-machine",
        "CWE-73",
        "the base is a folder of the machine that runs this",
        from_base("/srv/models/private"),
        "/srv/models/private",
        start="adapter",
    ),
    Fixture(
        "base-up-the-tree",
        "CWE-22",
        "the same with parent folders",
        from_base("../../private/base"),
        "../../private/base",
        start="adapter",
    ),
    Fixture(
        "base-at-an-address",
        "CWE-918",
        "the base is a URL, which would be requested",
        from_base("http://127.0.0.1:1/lab/base"),
        "http://127.0.0.1:1/lab/base",
        start="adapter",
    ),
    Fixture(
        "pickled-base",
        "https://huggingface.co/docs/hub/security-pickle",
        "a valid adapter on a base that is a pickle",
        from_base("lab-a/pickled"),
        "pytorch_model.bin",
        start="adapter",
        beside=_pickled,
    ),
    Fixture(
        "renumbered-words",
        "https://huggingface.co/Hironabe333/transformers-tokenizer-vocab-binding-poc",
        "the adapter's tokenizer swaps two tokens of its base's, which changes what the same weights read",
        edited(TOKENIZER, _exchanged),
        TOKENIZER,
        start="adapter",
    ),
)
