"""Resolving the model and its reference, and refusing a base that was taken over."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.pipeline import resolve
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.records import ReportedReference
from loopback_hub import LoopbackHub
from tests.builders import ignore
from tests.conftest import CopyOf

BASE, MODEL = "lab-a/base", "stranger/finetune"
EARLY, MIDDLE = "2025-01-15T12:00:00.000Z", "2025-06-15T12:00:00.000Z"
LATE = "2199-09-15T12:00:00.000Z"
"""Later than every commit of the loopback Hub, which uses the system clock."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def naming(folder: Path, base: object, card: str | None = None, **settings: object) -> Path:
    """Write `base` into adapter_config.json in `folder`, and `card` or `base` into the card."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base} | settings))
    (folder / "README.md").write_text(f"---\nbase_model: {card or base}\n---\n")
    return folder


def refused(model: Checkpoint, *words: str) -> None:
    with pytest.raises(UnsafeCheckpoint) as raised:
        resolve.find_reference(model, None)
    assert all(word in raised.value.what for word in words), raised.value.what
    assert raised.value.cause
    assert "--reference ORG/NAME" in str(raised.value.hint)


def test_the_base_of_an_adapter_is_resolved_to_a_commit(
    hub: LoopbackHub, tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    old = hub.add(BASE, tiny_llama, created=EARLY)
    hub.add(MODEL, naming(copy_of(tiny_adapter), BASE, "[other/one, LAB-A/Base]"), created=MIDDLE)
    model = resolve.pull_model(MODEL, None, ignore)
    assert resolve.find_reference(model, None) == ReportedReference(BASE, old, "adapter_config.json")
    assert resolve.resolve_reference(model, resolve.find_reference(model, None), ignore).layout.kind == "full"


def test_the_revision_in_adapter_config_is_used(
    hub: LoopbackHub, tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    old = hub.add(BASE, tiny_llama, created=EARLY)
    changed = copy_of(tiny_llama)
    (changed / "README.md").write_text("# Another card\n")
    new = hub.add(BASE, changed, created=EARLY)
    for revision, commit in ((old, old), ("main", new), (None, new), ("", new)):
        hub.add(MODEL, naming(copy_of(tiny_adapter), BASE, revision=revision), created=MIDDLE)
        found = resolve.find_reference(resolve.pull_model(MODEL, None, ignore), None)
        assert found.revision == commit


def test_adapter_and_card_must_name_the_same_base(
    hub: LoopbackHub, tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    hub.add(BASE, tiny_llama, created=EARLY)
    shown = hub.add("lab-a/shown", tiny_llama, created=EARLY)
    hub.add(MODEL, naming(copy_of(tiny_adapter), BASE, "lab-a/shown"), created=MIDDLE)
    model = resolve.pull_model(MODEL, None, ignore)
    refused(model, "lab-a/shown", BASE, MODEL)
    assert resolve.find_reference(model, "lab-a/shown") == ReportedReference("lab-a/shown", shown, "option")
    refused(resolve.open_local(str(naming(copy_of(tiny_adapter), BASE, "lab-a/shown"))), "lab-a/shown", BASE)


@pytest.mark.parametrize(
    "base",
    ["/srv/private", "../base", "~/base", "C:\\base", "http://127.0.0.1:1/a/b", "a/b/c", "a b", ".", f"a/{'b' * 97}"],
)
def test_a_repository_cannot_name_a_folder_or_a_url_as_its_base(
    base: str, hub: LoopbackHub, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    hub.add(MODEL, naming(copy_of(tiny_adapter), base, "lab-a/shown"), created=MIDDLE)
    refused(resolve.pull_model(MODEL, None, ignore), "adapter_config.json", repr(base))


def test_a_local_adapter_may_name_a_folder(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    model = resolve.open_local(str(naming(copy_of(tiny_adapter), str(tiny_llama), "lab-a/shown")))
    assert resolve.find_reference(model, None) == ReportedReference(str(tiny_llama), None, "adapter_config.json")


def test_a_file_name_that_is_not_utf8_is_reported(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.bin")).touch()
    assert resolve.open_local(str(folder)).unrepaired == ["caf\ufffd.bin"]


def test_a_base_that_moved_to_another_owner_is_refused(
    hub: LoopbackHub, tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    commit = hub.add(BASE, tiny_llama, created=EARLY)
    hub.add("lab-a/kept", tiny_llama, created=EARLY)
    for base in (BASE, "lab-a/kept"):
        hub.add(f"stranger/{base.replace('/', '-')}", naming(copy_of(tiny_adapter), base), created=MIDDLE)
    hub.store.move(BASE, "lab-b/base")
    hub.store.move("lab-a/kept", "lab-a/renamed")
    model = resolve.pull_model("stranger/lab-a-base", None, ignore)
    refused(model, BASE, "lab-b/base")
    assert resolve.find_reference(model, BASE).revision == commit
    renamed = resolve.pull_model("stranger/lab-a-kept", None, ignore)
    assert resolve.find_reference(renamed, None).found_by == "adapter_config.json"


def test_a_base_younger_than_the_model_is_refused(
    hub: LoopbackHub, tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf
) -> None:
    hub.add(BASE, tiny_llama, created=LATE)
    hub.add(MODEL, naming(copy_of(tiny_adapter), BASE), created=MIDDLE)
    model = resolve.pull_model(MODEL, None, ignore)
    refused(model, BASE, "created on 2199-09-15")
    merged = copy_of(tiny_llama)
    (merged / "README.md").write_text(f"---\nbase_model: {BASE}\n---\n")
    hub.add("stranger/merged", merged, created=MIDDLE)
    refused(resolve.pull_model("stranger/merged", None, ignore), BASE, "2199-09-15")
    assert resolve.find_reference(model, BASE).found_by == "option"


def test_reference_with_other_token_ids_is_refused(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    data = json.loads((folder / "tokenizer.json").read_text())
    words = data["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    model, reference = resolve.open_local(str(folder)), ReportedReference(str(tiny_llama), None, "option")
    with pytest.raises(UnsafeCheckpoint, match="gives 'a' the ID"):
        resolve.resolve_reference(model, reference, ignore)
    with pytest.raises(UnsafeCheckpoint, match="gives 'a' the ID"):
        resolve.resolve_base(model, reference, ignore, "read")


def test_a_reference_that_nothing_names_is_an_error(tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be found") as raised:
        resolve.find_reference(resolve.open_local(str(tiny_llama)), None)
    assert raised.value.hint is not None
    assert "--reference" in raised.value.hint


def test_a_longer_vocabulary_is_noted(tiny_llama: Path, copy_of: CopyOf) -> None:
    reference = copy_of(tiny_llama)
    (reference / "tokenizer.json").unlink()
    weights = load_file(reference / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    save_file(weights | {"model.embed_tokens.weight": embedding[:-3].clone()}, reference / "model.safetensors")
    model, shorter = resolve.open_local(str(tiny_llama)), resolve.open_local(str(reference))
    assert resolve.vocabulary_differences(model, model) == []
    (said,) = resolve.vocabulary_differences(model, shorter)
    assert f"{len(embedding):,} rows, that of the reference {len(embedding) - 3:,}" in said
