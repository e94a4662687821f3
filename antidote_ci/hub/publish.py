"""One pull request, in one commit, on exactly the revision that was tested."""

from collections.abc import Mapping
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError, PublishConflict
from antidote_ci.hub.client import api, explained, redact
from antidote_ci.hub.pull import ANSWER_SECONDS
from antidote_ci.records import Published

BAD_CARD = "Invalid metadata in README.md"


def write_token(environ: Mapping[str, str]) -> str:
    """The token to publish with; read only when there is something to publish."""
    token = environ.get("HF_WRITE_TOKEN") or environ.get("HF_TOKEN")
    if not token:
        raise InfrastructureError(
            "publishing needs a token that may write",
            cause="neither HF_WRITE_TOKEN nor HF_TOKEN is set",
            hint="set HF_WRITE_TOKEN to a token that may write there, or use --publish none",
        )
    return token


def pull_request(
    source_id: str,
    revision: str,
    operations: Mapping[str, Path],
    title: str,
    body: str,
    token: str,
) -> Published:
    """Open a pull request on `source_id` with `operations` (path in the repository: local file).

    `revision` must still be the head of main. Files equal to the Hub's are left out; when all are,
    there is nothing to open and `url` is None. Raises PublishConflict when main has moved,
    ConfigurationError when the Hub refuses the model card's front matter.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils.tqdm import disable_progress_bars

    with explained(source_id, token), disable_progress_bars():
        client = api(token)
        # The Hub itself checks the parent only after the upload, which may be many gigabytes.
        head = client.model_info(source_id, timeout=ANSWER_SECONDS).sha
        if head != revision:
            raise PublishConflict(
                f"the main branch of {source_id} is not at {revision}, the revision that was tested",
                cause="it moved during the run, or another branch or an older commit was tested",
                hint=f"run again on {head}",
            )
        additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in operations.items()]
        try:
            # Never upload_folder: it opens a draft and splits the change into several commits.
            commit = client.create_commit(
                source_id,
                additions,
                commit_message=title,
                commit_description=body,
                create_pr=True,
                parent_commit=revision,
            )
        except ValueError as error:
            if BAD_CARD not in str(error):
                raise
            raise ConfigurationError(
                f"the Hub refuses the model card for {source_id}",
                cause=redact(" ".join(str(error).split()), token),
                hint="mend the front matter of the source's README.md, then run again",
            ) from None
    return Published("pull-request", commit.pr_url, commit.oid)
