"""The checkpoints of a run: the model, and the reference it came from."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.files import is_pickled_weights
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.json_api import redact_address
from antidote_ci.hub import memory_needs, pull
from antidote_ci.hub.access import HubAccess, read_access
from antidote_ci.hub.remote import RepositoryInfo
from antidote_ci.pipeline import lineage
from antidote_ci.policy import RunConfig
from antidote_ci.records import FoundBy, Model, ModelSource, OnProgress, ReportedReference, ReportedSource
from antidote_ci.repair.targets import require_same_shapes, require_same_vocabulary

ModelUse = Literal["read", "run", "merge"]
"""What becomes of the weights here: read from the disk, held in memory while they answer, or merged for that."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this disk, looked at but not opened by any framework."""

    source: ModelSource
    layout: CheckpointLayout
    licence: str | None
    unrepaired: list[str]
    """Other weights beside the checkpoint, pickled or unused: never opened, so a repair does not cover them."""
    repository_info: RepositoryInfo | None
    """What the Hub says of the repository; None for a folder, and for a commit that was in the cache."""


@dataclass(frozen=True)
class ReportedModel:
    """The model as the report speaks of it."""

    source: ReportedSource
    licence: str | None
    card: str
    """Its README.md, byte for byte; empty when it has none."""
    unrepaired: list[str]


def pull_model(model: str, revision: str | None, report: OnProgress, use: ModelUse = "read") -> Checkpoint:
    """The model at one commit. A local folder is used where it lies, read-only.

    Raises InfrastructureError, before the download, where disk or memory do not suffice.
    """
    if pull.is_local(model):
        if revision is not None:
            raise ConfigurationError(
                f"{model} is a local folder, so it has no revision {revision}", hint="drop --revision"
            )
        found = open_local(model)
        if use != "read":
            memory_needs.require_memory(model, memory_needs.cpu_memory(found.layout.entries, merged=use == "merge"))
        return found
    remote = pull.resolve_revision(model, revision, pull_access())
    if use != "read":
        memory_needs.require_memory(model, memory_needs.remote_memory(remote, merged=use == "merge"))
    folder = pull.download_snapshot(remote, pull_access(), report)
    layout = read_layout(folder)
    return Checkpoint(
        ModelSource(model, remote.revision, folder, layout.kind),
        layout,
        remote.licence,
        _list_unrepaired(layout, remote.skipped),
        remote.info,
    )


def open_local(model: str) -> Checkpoint:
    """A checkpoint in a folder of this machine."""
    folder = Path(model).expanduser().resolve()
    if not folder.is_dir():
        raise missing_folder_error(model)
    layout = read_layout(folder)
    return Checkpoint(
        ModelSource(model, None, folder, layout.kind),
        layout,
        None,
        _list_unrepaired(layout, [_to_text(path.name) for path in folder.iterdir()]),
        None,
    )


def missing_folder_error(model: str) -> ConfigurationError:
    """For a model that is none of this machine's."""
    return ConfigurationError(f"there is no folder {model}", hint="check the path, or write ORG/NAME for the Hub")


def _to_text(name: str) -> str:
    """A name of this disk as text: its bytes may be no UTF-8, and no report could hold them."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _list_unrepaired(layout: CheckpointLayout, names: list[str]) -> list[str]:
    return sorted([*layout.unused_weights, *filter(is_pickled_weights, names)])


def is_server_address(model: str) -> bool:
    """Whether `model` is the address of a server and neither a repository nor a folder."""
    return model.startswith(("http://", "https://"))


def resolve_target(config: RunConfig, report: OnProgress) -> tuple[ReportedModel, Model]:
    """What `evaluate` measures: a checkpoint, an adapter with its base, or whatever a server answers for."""
    if is_server_address(config.model):
        return ReportedModel(ReportedSource(redact_address(config.model), None, "server"), None, "", []), Model(Path())
    use = resolve_use(config)
    source = pull_model(config.model, config.revision, report, use)
    if source.source.kind == "full":
        return to_reported_model(source), to_model(source, None)
    reference = find_reference(source, config.policy.repair.reference)
    return to_reported_model(source), to_model(source, resolve_base(source, reference, report, use))


def resolve_use(config: RunConfig) -> ModelUse:
    """A server holds the weights itself, perhaps on another machine."""
    return "run" if config.policy.evaluation.server is None else "read"


def to_reported_model(model: Checkpoint) -> ReportedModel:
    """What the report says of a checkpoint."""
    path = model.source.folder / "README.md"
    card = path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
    source = ReportedSource(model.source.id, model.source.revision, model.source.kind)
    return ReportedModel(source, model.licence, card, model.unrepaired)


def resolve_base(
    model: Checkpoint, reference: ReportedReference | None, report: OnProgress, use: ModelUse
) -> Checkpoint | None:
    """The reference, when an adapter needs it to run, or when it lies on this machine; else it may never be needed."""
    if reference is None or (model.source.kind == "full" and reference.revision is not None):
        return None
    return resolve_reference(model, reference, report, use)


def resolve_reference(
    model: Checkpoint, reference: ReportedReference, report: OnProgress, use: ModelUse = "read"
) -> Checkpoint:
    """The reference, pulled. Raises what `require_same_shapes` and `require_same_vocabulary` raise."""
    merged = use == "run" and model.source.kind == "adapter"
    found = pull_model(reference.id, reference.revision, report, "merge" if merged else use)
    require_same_shapes(model.layout, found.layout)
    require_same_vocabulary(model.layout, found.layout)
    return found


def pull_access() -> HubAccess:
    """For pulling. The one for publishing is another's business."""
    return read_access(os.environ)


def vocabulary_differences(model: Checkpoint, reference: Checkpoint) -> list[str]:
    """Where a reference that fits the model is still not of its shapes: the rows of the vocabulary."""
    shapes = {name: info.shape for name, info in reference.layout.tensors.items()}
    return [
        f"{name} has {info.shape[0]:,} rows, that of the reference {shapes[name][0]:,}: the vocabularies differ, and "
        "the rest is repaired."
        for name, info in model.layout.tensors.items()
        if model.source.kind == "full" and name in shapes and shapes[name] != info.shape
    ]


def find_reference(model: Checkpoint, named: str | None) -> ReportedReference:
    """What the user named, what the adapter says it was trained on, or what the card says it was made from.

    Its revision is resolved here, once: it exists, though it may not be pulled yet. Raises UnsafeCheckpoint for a base
    that was found and cannot be the right one.
    """
    if named is not None:
        return _resolve_name(named, "option")
    said = model.layout.base_model
    if said is not None:
        revision = model.layout.config.get("revision")
        return _declared_reference(model, said, revision if isinstance(revision, str) else None, "adapter_config.json")
    from_card = cards.read_base_model(model.layout.folder)
    if from_card is not None and from_card != model.source.id:
        return _declared_reference(model, from_card, None, "model card")
    raise ConfigurationError(
        f"the reference of {model.source.id} cannot be found",
        cause="neither an adapter_config.json nor the card's base_model names the aligned model before fine-tuning",
        hint="add --reference ORG/NAME; without one, merged weights can be evaluated but not repaired",
    )


def _declared_reference(model: Checkpoint, name: str, revision: str | None, found_by: FoundBy) -> ReportedReference:
    """A repository of the Hub may name another repository, never a folder of this machine."""
    if model.source.revision is not None:
        lineage.require_repository_name(model.source.id, name, found_by)
    elif pull.is_local(name):
        return _resolve_name(name, found_by)
    lineage.require_card_agrees(model.source.id, model.layout.folder, name)
    base = pull.resolve_revision(name, revision or None, pull_access())
    lineage.require_same_base(model.source.id, model.repository_info, name, base.info)
    return ReportedReference(name, base.revision, found_by)


def _resolve_name(name: str, found_by: FoundBy) -> ReportedReference:
    if pull.is_local(name):
        return ReportedReference(open_local(name).source.id, None, found_by)
    return ReportedReference(name, pull.resolve_revision(name, None, pull_access()).revision, found_by)


def to_model(model: Checkpoint, base: Checkpoint | None) -> Model:
    """What the child process loads: a full checkpoint, or an adapter upon its base."""
    if model.source.kind == "full":
        return Model(model.source.folder)
    if base is None:
        raise ConfigurationError(f"{model.source.id} is an adapter and needs its base")
    return Model(base.source.folder, model.source.folder)
