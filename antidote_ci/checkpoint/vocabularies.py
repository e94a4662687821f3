"""Whether a model and its reference read the same words under the same numbers."""

from antidote_ci.checkpoint.files import listing, shown
from antidote_ci.checkpoint.layout import Layout
from antidote_ci.checkpoint.tokenizers import SPARE, read_vocabulary, require_rows, table_rows
from antidote_ci.errors import UnsafeCheckpoint


def require_same_vocabulary(model: Layout, reference: Layout) -> None:
    """Raise UnsafeCheckpoint where an ordinary token has another number than in the reference's tokenizer.

    Fine-tuning adds tokens and never renumbers them: what would be measured and restored is another language. Nothing
    is compared where one of the two brings no vocabulary that can be read here. An adapter's tokens must have rows in
    its own table or in the reference's.
    """
    ours, theirs = (read_vocabulary(each.folder, listing(each.folder)) for each in (model, reference))
    if ours is None:
        return
    if model.kind == "adapter":
        rows = embedding_rows(model) or embedding_rows(reference)
        require_rows(ours.file, ours.ordinary, rows, 0)
        require_rows(ours.file, ours.added, rows, SPARE)
    known = theirs.ordinary if theirs else {}
    for token, number in ours.ordinary.items():
        other = known.get(token, number)
        if other != number:
            raise UnsafeCheckpoint(
                f"{ours.file} of {shown(model.folder)} gives {token!r:.60} the number {number:,}, and that of the "
                f"reference {shown(reference.folder)} {other:,}",
                cause="the vocabulary was renumbered, or the reference is not what the model was made from",
                hint="name the right one with --reference",
            )


def embedding_rows(layout: Layout) -> int | None:
    """Rows of the table of tokens; None where none is found."""
    return table_rows(layout.tensors, layout.config)
