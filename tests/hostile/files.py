"""Files that are no plain files, or that exhaust or mislead what reads them."""

import json
import os
from pathlib import Path

from tests.hostile.fixture import CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, Change, Fixture

LIMITS = "https://www.rfc-editor.org/rfc/rfc8259#section-9"
TWO_READERS = "https://bishopfox.com/blog/json-interoperability-vulnerabilities"
EXHAUSTION = "CWE-400"
DEPTH = 100_000


def linked(name: str, target: str) -> Change:
    """A file that is a link."""

    def build(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return build


def _linked_weights(folder: Path) -> None:
    """The weights lie beside the folder, and a link leads there."""
    outside = folder.with_name(f"{folder.name}-outside.safetensors")
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def _pipe(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)


def padded(name: str, size: int) -> Change:
    """The same JSON, with blanks up to `size` bytes."""
    return lambda folder: (folder / name).write_text((folder / name).read_text().ljust(size))


def with_entry(name: str, entry: str) -> Change:
    """One more entry, written as it stands here."""

    def build(folder: Path) -> None:
        text = (folder / name).read_text().rstrip()
        (folder / name).write_text(text.removesuffix("}") + f", {entry}}}")

    return build


def _surrogates(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text()) | {"_name_or_path": "caf\xe9"}
    (folder / CONFIG).write_bytes(json.dumps(values, ensure_ascii=False).encode("latin-1"))


FIXTURES = (
    Fixture(
        "linked-weights",
        "CWE-61",
        "a link to weights outside the folder",
        _linked_weights,
        WEIGHTS,
        local=True,
    ),
    Fixture(
        "linked-configuration",
        "CWE-59",
        "a link to a file of this machine, whose words would end in an error message",
        linked(CONFIG, "/etc/passwd"),
        CONFIG,
        local=True,
    ),
    Fixture(
        "pipe",
        "GHSA-4j2p-28q2-5m79",
        "a pipe in the place of a file: what opens it waits for ever, as accelerate does",
        _pipe,
        CONFIG,
        local=True,
    ),
    Fixture(
        "huge-configuration",
        EXHAUSTION,
        "a configuration of many megabytes",
        padded(CONFIG, 5 << 20),
        CONFIG,
    ),
    Fixture(
        "nested-configuration",
        LIMITS,
        "brackets inside brackets, until the reader's stack ends",
        with_entry(CONFIG, f'"deep": {"[" * DEPTH}{"]" * DEPTH}'),
        CONFIG,
    ),
    Fixture(
        "key-twice",
        TWO_READERS,
        "a key stands twice: a check reads the first, the framework the last",
        with_entry(CONFIG, '"model_type": "evil"'),
        CONFIG,
    ),
    Fixture(
        "endless-number",
        "CVE-2020-10735",
        "a whole number of a million digits, which Python takes the square of its length to read",
        with_entry(CONFIG, f'"seed": {"9" * 1_000_000}'),
        CONFIG,
    ),
    Fixture(
        "not-utf-8",
        TWO_READERS,
        "text in another encoding, which readers repair in different ways",
        _surrogates,
        CONFIG,
    ),
    Fixture(
        "huge-tokenizer",
        EXHAUSTION,
        "a tokenizer of many megabytes of blanks",
        padded(TOKENIZER, (64 << 20) + 1),
        TOKENIZER,
    ),
    Fixture(
        "nested-tokenizer",
        LIMITS,
        "the tokenizer's JSON nests until the reader's stack ends",
        with_entry(TOKENIZER, f'"deep": {"[" * DEPTH}{"]" * DEPTH}'),
        TOKENIZER,
    ),
    Fixture(
        "tokenizer-key-twice",
        TWO_READERS,
        "the tokenizer's model stands twice: Python and Rust may take different ones",
        with_entry(TOKENIZER, '"model": {"type": "BPE", "vocab": {}, "merges": []}'),
        TOKENIZER,
    ),
    Fixture(
        "tokenizer-settings-twice",
        TWO_READERS,
        "a setting of the tokenizer stands twice",
        with_entry(TOKENIZER_CONFIG, '"eos_token": "<|user|>"'),
        TOKENIZER_CONFIG,
    ),
)
