"""Special files, and files that exhaust or mislead a parser."""

import json
import os
from pathlib import Path

from tests.hostile.fixture import CONFIG, TOKENIZER, WEIGHTS, Change, Fixture

LIMITS = "https://www.rfc-editor.org/rfc/rfc8259#section-9"
TWO_READERS = "https://bishopfox.com/blog/json-interoperability-vulnerabilities"
EXHAUSTION = "CWE-400"
CARD = "README.md"
ALIASES = "CVE-2019-11253"
DEPTH = 100_000


def linked(name: str, target: str) -> Change:
    """Replace a file with a link."""

    def build(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return build


def _linked_weights(folder: Path) -> None:
    """Move the weights out of the folder and link to them."""
    outside = folder.with_name(f"{folder.name}-outside.safetensors")
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def _pipe(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)


def padded(name: str, size: int) -> Change:
    """Pad the JSON with spaces to `size` bytes."""
    return lambda folder: (folder / name).write_text((folder / name).read_text().ljust(size))


def with_entry(name: str, entry: str) -> Change:
    """Insert one more entry as raw text."""

    def build(folder: Path) -> None:
        text = (folder / name).read_text().rstrip()
        (folder / name).write_text(text.removesuffix("}") + f", {entry}}}")

    return build


def _surrogates(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text()) | {"_name_or_path": "caf\xe9"}
    (folder / CONFIG).write_bytes(json.dumps(values, ensure_ascii=False).encode("latin-1"))


def _card(front_matter: str) -> Change:
    return lambda folder: (folder / CARD).write_text(f"---\n{front_matter}\n---\n\n# A model\n")


def _many_values(folder: Path) -> None:
    """Write three configurations of two million values each."""
    for name in ("generation_config.json", "processor_config.json", "preprocessor_config.json"):
        (folder / name).write_text('{"a": [' + "0," * 2_050_000 + "0]}")


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
        "a link to a file of this machine, whose content would appear in an error message",
        linked(CONFIG, "/etc/passwd"),
        CONFIG,
        local=True,
    ),
    Fixture(
        "pipe",
        "GHSA-4j2p-28q2-5m79",
        "a pipe in place of a file: a program that opens it, such as accelerate, waits forever",
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
        "brackets nested until the parser's stack overflows",
        with_entry(CONFIG, f'"deep": {"[" * DEPTH}{"]" * DEPTH}'),
        CONFIG,
    ),
    Fixture(
        "key-twice",
        TWO_READERS,
        "a key appears twice: a check reads the first, the framework the last",
        with_entry(CONFIG, '"model_type": "evil"'),
        CONFIG,
    ),
    Fixture(
        "endless-number",
        "CVE-2020-10735",
        "an integer of a million digits, which Python parses in quadratic time",
        with_entry(CONFIG, f'"seed": {"9" * 1_000_000}'),
        CONFIG,
    ),
    Fixture(
        "not-utf-8",
        TWO_READERS,
        "text in another encoding, which readers decode differently",
        _surrogates,
        CONFIG,
    ),
    Fixture(
        "tokenizer-key-twice",
        TWO_READERS,
        "the tokenizer's model appears twice: Python and Rust may use different ones",
        with_entry(TOKENIZER, '"model": {"type": "BPE", "vocab": {}, "merges": []}'),
        TOKENIZER,
    ),
    Fixture(
        "values-over-many-configurations",
        EXHAUSTION,
        "several configurations, each with as many values as one file may have",
        _many_values,
        "exceed the limit of 6,000,000 JSON values",
        local=True,
    ),
    Fixture(
        "card-of-aliases",
        ALIASES,
        "a card whose lists hold the previous list twice: a terabyte of values from two kilobytes",
        _card(
            "a0: &a0 [x]\n"
            + "\n".join(f"a{number}: &a{number} [*a{number - 1}, *a{number - 1}]" for number in range(1, 40))
        ),
        CARD,
        command="run",
        local=True,
    ),
    Fixture(
        "card-of-a-flat-list",
        EXHAUSTION,
        "a card with a flat list of a quarter of a million values, which Python's parser reads for a minute",
        _card("a: [" + "b," * 250_000 + "b]"),
        CARD,
        command="run",
        local=True,
    ),
    Fixture(
        "card-of-tags",
        "CVE-2020-14343",
        "a card whose tag makes a YAML parser call a function",
        _card("a: !!python/object/apply:os.getcwd []"),
        CARD,
        command="run",
        local=True,
    ),
    Fixture(
        "huge-card",
        EXHAUSTION,
        "a card of many megabytes, which a report would repeat",
        lambda folder: (folder / CARD).write_text("# A model\n".ljust(5 << 20)),
        CARD,
    ),
)
