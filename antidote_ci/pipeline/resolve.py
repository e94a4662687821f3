"""Pull the checkpoints of a run: the model and its reference.

The reference is the aligned model before fine-tuning. If the user does not name it, the model itself does, and names on
the Hub can be taken over by others: https://unit42.paloaltonetworks.com/model-namespace-reuse/
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.files import is_pickled_weights
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint, add_hint
from antidote_ci.hub import memory_needs, pull
from antidote_ci.hub.access import HubAccess, read_access
from antidote_ci.hub.remote import REPOSITORY_NAME, RepositoryInfo
from antidote_ci.paths import find_folder, is_path
from antidote_ci.pipeline import model_names
from antidote_ci.policy import RunConfig
from antidote_ci.records import FoundBy, Model, OnProgress, ReportedReference, ReportedSource
from antidote_ci.repair.targets import require_same_shapes, require_same_vocabulary

ModelUse = Literal["read", "run"]
"""How the weights are used: read from disk, or loaded completely to generate."""

REFERENCE_HINT = "if you know what the model was fine-tuned from, name it: --reference ORG/NAME"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. Its headers have been checked, its weights have not been loaded."""

    source: ReportedSource
    layout: CheckpointLayout
    licence: str | None
    unrepaired: list[str]
    """Other weight files in the same folder, pickled or unused. They are never opened and not repaired."""
    repository_info: RepositoryInfo | None
    """Metadata of the repository; None for a local folder and for a commit that was found in the cache."""


@dataclass(frozen=True)
class ReportedModel:
    """The model as it appears in the report."""

    source: ReportedSource
    licence: str | None
    card: str
    """Content of README.md, or an empty string."""
    unrepaired: list[str]


def pull_model(model: str, revision: str | None, on_progress: OnProgress, use: ModelUse = "read") -> Checkpoint:
    """Download the model at one commit. A local folder is used in place and only read.

    Raises InfrastructureError before the download when disk or memory is too small.
    """
    if is_path(model):
        checkpoint = open_local(model)
        if use != "read":
            memory_needs.require_memory(model, checkpoint.layout.entries)
        return checkpoint
    remote = pull.resolve_revision(model, revision, pull_access())
    if use != "read":
        memory_needs.require_memory(model, memory_needs.remote_weights(remote))
    folder = pull.download_snapshot(remote, pull_access(), on_progress)
    layout = read_layout(folder)
    return Checkpoint(
        ReportedSource(model, remote.revision, layout.kind),
        layout,
        remote.licence,
        _list_unrepaired(layout, remote.skipped),
        remote.info,
    )


def local_revision_error(model: str, revision: str) -> ConfigurationError:
    """The error for a revision of a local folder."""
    return ConfigurationError(f"{model} is a local folder, so it has no revision {revision}", hint="drop --revision")


def open_local(model: str) -> Checkpoint:
    """Read the layout of a local checkpoint. Raises ConfigurationError if the folder does not exist."""
    folder = require_folder(model)
    layout = read_layout(folder)
    return Checkpoint(
        ReportedSource(model, None, layout.kind),
        layout,
        None,
        # File names may not be valid UTF-8, which the report cannot hold.
        _list_unrepaired(layout, [os.fsencode(path.name).decode("utf-8", "replace") for path in folder.iterdir()]),
        None,
    )


def require_folder(model: str) -> Path:
    """The folder of a local model. Raises ConfigurationError if it does not exist."""
    folder = find_folder(model)
    if folder is None:
        raise ConfigurationError(
            f"there is no folder {model:.200}", hint="check the path, or write ORG/NAME for the Hub"
        )
    return folder


def _list_unrepaired(layout: CheckpointLayout, names: list[str]) -> list[str]:
    return sorted([*layout.unused_weights, *filter(is_pickled_weights, names)])


def resolve_target(config: RunConfig, on_progress: OnProgress) -> tuple[ReportedModel, Model]:
    """The model that `evaluate` measures: a checkpoint, an adapter with its base, or a server."""
    if model_names.is_server_address(config.model):
        source = ReportedSource(model_names.display_name(config.model), None, "server")
        return ReportedModel(source, None, "", []), Model(Path())
    use = resolve_use(config)
    checkpoint = pull_model(config.model, config.revision, on_progress, use)
    if checkpoint.source.kind == "full":
        return to_reported_model(checkpoint), to_model(checkpoint, None)
    reference = find_reference(checkpoint, config.policy.repair.reference)
    return to_reported_model(checkpoint), to_model(checkpoint, resolve_base(checkpoint, reference, on_progress, use))


def resolve_use(config: RunConfig) -> ModelUse:
    """ "run", unless a server command loads the weights."""
    return "run" if config.policy.evaluation.server is None else "read"


def to_reported_model(model: Checkpoint) -> ReportedModel:
    """The checkpoint as it appears in the report."""
    card = cards.read_card(model.layout.folder / cards.CARD)
    return ReportedModel(model.source, model.licence, card, model.unrepaired)


def resolve_base(
    model: Checkpoint, reference: ReportedReference | None, on_progress: OnProgress, use: ModelUse
) -> Checkpoint | None:
    """The reference, if an adapter needs it as its base or it is a local folder; otherwise it is pulled when needed."""
    if reference is None or (model.source.kind == "full" and reference.revision is not None):
        return None
    return resolve_reference(model, reference, on_progress, use)


def resolve_reference(
    model: Checkpoint, reference: ReportedReference, on_progress: OnProgress, use: ModelUse = "read"
) -> Checkpoint:
    """Pull the reference. Raises ConfigurationError if its shapes or its vocabulary do not fit the model."""
    checkpoint = pull_model(reference.id, reference.revision, on_progress, use)
    require_same_shapes(model.layout, checkpoint.layout)
    require_same_vocabulary(model.layout, checkpoint.layout)
    return checkpoint


def pull_access() -> HubAccess:
    """Read access to the Hub. Publishing uses its own token."""
    return read_access(os.environ)


def vocabulary_differences(model: Checkpoint, reference: Checkpoint) -> list[str]:
    """Notes on tensors whose number of vocabulary rows differs from that of the reference."""
    shapes = {name: info.shape for name, info in reference.layout.tensors.items()}
    return [
        f"{name} has {info.shape[0]:,} rows, that of the reference {shapes[name][0]:,}. The vocabularies differ, so "
        "this tensor is not repaired."
        for name, info in model.layout.tensors.items()
        if model.source.kind == "full" and name in shapes and shapes[name] != info.shape
    ]


def find_reference(model: Checkpoint, named: str | None) -> ReportedReference:
    """Find the reference: the one the user named, the base in adapter_config.json, or `base_model` of the card.

    The revision is resolved to a commit; the weights are not pulled. Raises ConfigurationError if there is none, and
    UnsafeCheckpoint if the declared base cannot be the one that the model was made from.
    """
    if named is not None:
        return _resolve_name(named, "option")
    adapter_base = model.layout.base_model
    if adapter_base is not None:
        value = model.layout.config.get("revision")
        revision = value if isinstance(value, str) else None
        return _declared_reference(model, adapter_base, revision, "adapter_config.json")
    from_card = cards.read_base_model(model.layout.folder)
    if from_card is not None and from_card != model.source.id:
        return _declared_reference(model, from_card, None, "model card")
    raise ConfigurationError(
        f"the reference of {model.source.id} cannot be found",
        cause="neither adapter_config.json nor base_model of the card names the aligned model before fine-tuning",
        hint="add --reference ORG/NAME; without one, merged weights can be evaluated but not repaired",
    )


def _declared_reference(model: Checkpoint, name: str, revision: str | None, found_by: FoundBy) -> ReportedReference:
    """Check and resolve a reference that the model names. Only a local model may name a local folder."""
    if model.source.revision is not None:
        require_repository_name(model.source.id, name, found_by)
    else:
        pull.refuse_ambiguous_name(name, found_by)
        if is_path(name):
            return _resolve_name(name, found_by)
    require_card_agrees(model.source.id, model.layout.folder, name)
    with add_hint(f"the {found_by} of {model.source.id} names this base: --reference takes another name or a folder"):
        base = pull.resolve_revision(name, revision or None, pull_access())
    require_same_base(model.source.id, model.repository_info, name, base.info)
    return ReportedReference(name, base.revision, found_by)


def _resolve_name(name: str, found_by: FoundBy) -> ReportedReference:
    if is_path(name):
        return ReportedReference(open_local(name).source.id, None, found_by)
    name, revision = model_names.parse_model_name(name)
    return ReportedReference(name, pull.resolve_revision(name, revision, pull_access()).revision, found_by)


def to_model(model: Checkpoint, base: Checkpoint | None) -> Model:
    """The folders that the sandbox loads: a full checkpoint, or an adapter and its base."""
    if model.source.kind == "full":
        return Model(model.layout.folder)
    if base is None:
        raise ConfigurationError(f"{model.source.id} is an adapter and needs its base")
    return Model(base.layout.folder, model.layout.folder)


def require_repository_name(model: str, base: str, found_by: str) -> None:
    """Raise UnsafeCheckpoint unless the base that a Hub repository names is a Hub repository."""
    if is_path(base) or not REPOSITORY_NAME.fullmatch(base):
        raise UnsafeCheckpoint(
            f"the {found_by} of {model} names a base that is not a Hub repository: {base!r:.200}",
            cause="it was saved with a local path, or it tries to make this machine open other files",
            hint=REFERENCE_HINT,
        )


def require_card_agrees(model: str, folder: Path, base: str) -> None:
    """Raise UnsafeCheckpoint when the base in adapter_config.json differs from the base in the model card."""
    card_bases = cards.read_base_models(folder)
    if card_bases and base.casefold() not in (name.casefold() for name in card_bases):
        raise UnsafeCheckpoint(
            f"the card of {model} names {', '.join(card_bases)!r:.200} as its base, and its adapter_config.json names "
            f"{base!r:.200}",
            cause="users would trust the base in the card while the adapter runs on another one",
            hint=REFERENCE_HINT,
        )


def require_same_base(model: str, model_info: RepositoryInfo | None, base: str, info: RepositoryInfo | None) -> None:
    """Raise UnsafeCheckpoint when the repository `base` is not the one that `model` was made from.

    This is the case when the name redirects to another owner, or the repository is younger than the model. Nothing is
    checked for a commit that was found in the cache, because its metadata is unknown.
    """
    if info is None:
        return
    if "/" in base and _owner_of(info.name) != _owner_of(base):
        raise UnsafeCheckpoint(
            f"{base}, the base of {model}, redirects to {info.name}, which has another owner",
            cause="it was moved, or its name was taken over and leads to weights that another owner can change",
            hint=REFERENCE_HINT,
        )
    if model_info is not None and info.created and model_info.modified and info.created > model_info.modified:
        raise UnsafeCheckpoint(
            f"{base}, the base of {model}, was created on {info.created:%Y-%m-%d}, after the last change of the model "
            f"on {model_info.modified:%Y-%m-%d}",
            cause="the model cannot have been made from it: somebody may have taken over the name",
            hint=REFERENCE_HINT,
        )


def _owner_of(name: str) -> str:
    return name.partition("/")[0].casefold()
