"""Whether a model and its reference read the same words under the same numbers."""

from antidote_ci.checkpoint.files import display_name, list_files
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.tokenizers import SPARE_TOKENS, embedding_rows, read_vocabulary, require_rows
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint


def require_same_vocabulary(model: CheckpointLayout, reference: CheckpointLayout) -> None:
    """Raise UnsafeCheckpoint where an ordinary token has another number than in the reference's tokenizer.

    Fine-tuning adds tokens and never renumbers them: what would be measured and restored is another language. Nothing
    is compared where one of the two brings no vocabulary that can be read here. An adapter's tokens must have rows in
    the reference's table; raises ConfigurationError for an adapter with a table of another length.
    """
    rows = read_embedding_rows(reference)
    own = read_embedding_rows(model) if model.kind == "adapter" else None
    if None not in (own, rows) and own != rows:
        raise ConfigurationError(
            f"the adapter {display_name(model.folder)} has a table of {own:,} tokens, and its base "
            f"{display_name(reference.folder)} "
            f"one of {rows:,}",
            cause="tokens were added when it was trained, or the base is another one",
            hint="merge it into its base with peft's merge_and_unload, save that, and run on the result",
        )
    ours, theirs = (read_vocabulary(each.folder, list_files(each.folder)) for each in (model, reference))
    if ours is None:
        return
    if model.kind == "adapter":
        require_rows(ours.file, ours.ordinary, rows, 0)
        require_rows(ours.file, ours.added, rows, SPARE_TOKENS)
    known = theirs.ordinary if theirs else {}
    for token, number in ours.ordinary.items():
        other = known.get(token, number)
        if other != number:
            raise UnsafeCheckpoint(
                f"{ours.file} of {display_name(model.folder)} gives {token!r:.60} the number {number:,}, and "
                "that of the "
                f"reference {display_name(reference.folder)} {other:,}",
                cause="the vocabulary was renumbered, or the reference is not what the model was made from",
                hint="name the right one with --reference",
            )


def read_embedding_rows(layout: CheckpointLayout) -> int | None:
    """Rows of the table of tokens; None where none is found."""
    return embedding_rows(layout.tensors, layout.config)
