"""The questions, with the answers that the code assumes."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.hub import commits
from antidote_ci.hub.access import read_account, require_hub
from antidote_ci.hub.client import create_api
from antidote_ci.hub.commits import CommitMarker, CommitRequest
from antidote_ci.hub.jobs_api import Job, JobRequest, refresh_job, submit_job
from antidote_ci.jobs.job_results import no_result_error
from scripts.contract import NotAsked, Question, Scratch

if TYPE_CHECKING:
    from huggingface_hub.community import DiscussionComment

BRANCH = "antidote-contract"
FILE = "contract.txt"
MARKER = CommitMarker("1" * 32, "2" * 64, "3" * 40, "4" * 64, "5" * 64)
MEMORY_JOB_SECONDS = 120
"""Time limit of the Job that uses all memory."""
JOB_END_SECONDS = 150.0
"""How long to wait for the end of a Job."""
PROBED_BYTES = (1_000_000, 10_000_000, 10 << 20, 16 << 20)
CARD = """\
---
base_model: org/model
base_model_relation: finetune
library_name: transformers
license: other
license_name: a-licence
license_link: LICENSE
pipeline_tag: text-generation
tags: [antidote, safety-repair, antidote-ci]
model-index:
- name: scratch
  results:
  - task: {type: text-generation, name: Text generation}
    dataset: {name: confirmation prompts, type: antidote-ci, config: confirmation, revision: "0"}
    metrics:
    - type: harmful_score
      value: 0.08
      name: "Harmful score (judge: rules)"
      args: {lower_bound: 0.02, upper_bound: 0.2, confidence: 0.95, n: 100, threshold: 0.15, judge: rules}
---
# Scratch
"""
"""A card with the keys that antidote_ci/report/card.py writes."""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _status(call: Callable[[], object]) -> str:
    """Return the HTTP status with which the Hub refuses `call`, or `accepted`."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        call()
    except HfHubHTTPError as error:
        return str(error.response.status_code)
    return "accepted"


@contextmanager
def _change(text: str, description: str = "") -> Iterator[CommitRequest]:
    """A commit of one small file."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as written:
        written.write(text)
        written.flush()
        yield CommitRequest({FILE: commits.read_content(Path(written.name))}, (), "A question", description)


def _push(scratch: Scratch, branch: str, parent: commits.CommitTree, text: str = "A commit") -> str:
    """Commit a new text to a branch or pull request whose head is `parent`."""
    with _change(f"{text} after {parent.revision}\n") as change:
        return commits.commit_to_branch(scratch.client, scratch.repository, branch, parent, change)


def _open_pull_request(scratch: Scratch) -> int:
    """Open a pull request whose commit ends with MARKER, and return its number."""
    main = commits.read_tree(scratch.client, scratch.repository, commits.MAIN)
    with _change("A proposal\n", commits.add_marker("A **proposal**.", MARKER)) as change:
        number = commits.open_pull_request(scratch.client, scratch.repository, main, change)
    if number is None:
        raise RuntimeError("the Hub names no number for the new pull request")
    return number


def _with_pull_request(ask: Callable[[Scratch, int], str]) -> Callable[[Scratch], str]:
    """Ask about a new pull request, and close it."""

    def run(scratch: Scratch) -> str:
        number = _open_pull_request(scratch)
        try:
            return ask(scratch, number)
        finally:
            scratch.client.change_discussion_status(scratch.repository, number, "closed")

    return run


def _first_comment(scratch: Scratch, number: int) -> "DiscussionComment":
    from huggingface_hub.community import DiscussionComment

    events = scratch.client.get_discussion_details(scratch.repository, number).events
    return next(event for event in events if isinstance(event, DiscussionComment))


def _branch_head(scratch: Scratch) -> commits.CommitTree:
    """The head of the branch for questions, which is created if necessary."""
    scratch.client.create_branch(scratch.repository, branch=BRANCH, exist_ok=True)
    return commits.read_tree(scratch.client, scratch.repository, BRANCH)


def _ask_account(scratch: Scratch) -> str:
    account = read_account(scratch.access, scratch.repository)
    return _yes(scratch.repository.partition("/")[0] in account.namespaces)


def _ask_anonymous(scratch: Scratch) -> str:
    require_hub(scratch.client)
    return "401"


def _ask_opening_comment(scratch: Scratch, number: int) -> str:
    return _yes(commits.parse_marker(_first_comment(scratch, number).content) == MARKER)


def _ask_commit_marker(scratch: Scratch, number: int) -> str:
    return _yes(commits.read_head(scratch.client, scratch.repository, f"refs/pr/{number}").marker == MARKER)


def _ask_author(scratch: Scratch, number: int) -> str:
    account = read_account(scratch.access, scratch.repository).name
    listed = scratch.client.get_repo_discussions(
        scratch.repository, discussion_type="pull_request", discussion_status="open", author=account
    )
    return _yes(number in {discussion.num for discussion in listed})


def _ask_edited_comment(scratch: Scratch, number: int) -> str:
    text = commits.add_marker("A comment.", MARKER)
    comment = scratch.client.comment_discussion(scratch.repository, number, text)
    edited = commits.add_marker("Another text.", MARKER)
    scratch.client.edit_discussion_comment(scratch.repository, number, comment.id, edited)
    events = scratch.client.get_discussion_details(scratch.repository, number).events
    (shown,) = (event for event in events if event.id == comment.id)
    content = str(getattr(shown, "content", ""))
    return _yes(content.startswith("Another text.") and commits.parse_marker(content) == MARKER)


def _ask_closed_push(scratch: Scratch, number: int) -> str:
    scratch.client.change_discussion_status(scratch.repository, number, "closed")
    parent = commits.read_tree(scratch.client, scratch.repository, f"refs/pr/{number}")
    return _status(lambda: _push(scratch, f"refs/pr/{number}", parent))


def _ask_xet_token(scratch: Scratch, number: int) -> str:
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    path = f"api/models/{scratch.repository}/xet-write-token/refs%2Fpr%2F{number}"
    headers = build_hf_headers(token=scratch.token)
    return _status(lambda: hf_raise_for_status(get_session().get(f"{scratch.client.endpoint}/{path}", headers=headers)))


def _ask_draft(scratch: Scratch) -> str:
    draft = scratch.client.create_pull_request(scratch.repository, title="A question")
    try:
        listed = scratch.client.get_repo_discussions(scratch.repository, discussion_status="open")
        return _yes(draft.num in {discussion.num for discussion in listed})
    finally:
        scratch.client.change_discussion_status(scratch.repository, draft.num, "closed")


def _ask_stale_push(scratch: Scratch) -> str:
    head = _branch_head(scratch)
    _push(scratch, BRANCH, head)
    return _status(lambda: _push(scratch, BRANCH, head, "Another commit"))


def _ask_regular_limit(scratch: Scratch) -> str:
    files = [{"path": f"{size}.json", "size": size, "sample": "e30="} for size in PROBED_BYTES]
    answer = scratch.post(f"models/{scratch.repository}/preupload/main", {"files": files}).json()
    regular = [
        size for size, file in zip(PROBED_BYTES, answer["files"], strict=True) if file["uploadMode"] == "regular"
    ]
    return f"{max(regular, default=0)} of {PROBED_BYTES}"


def _ask_gitignore(scratch: Scratch) -> str:
    from huggingface_hub import CommitOperationAdd

    head = _branch_head(scratch)
    # The rule must not exclude the file itself, nor be that of the last run: an unchanged file gives no commit.
    rules = CommitOperationAdd(".gitignore", f"*.ignored\n# after {head.revision}\n".encode())
    scratch.client.create_commit(scratch.repository, [rules], commit_message="A question", revision=BRANCH)
    file = {"path": "a.ignored", "size": 1, "sample": "YQ=="}
    answers = [
        scratch.post(f"models/{scratch.repository}/preupload/{BRANCH}", {"files": [file], **sent}).json()
        for sent in ({}, {"gitIgnore": commits.NOTHING_IGNORED})
    ]
    excluded = [answer["files"][0]["shouldIgnore"] for answer in answers]
    return f"excluded by the branch: {_yes(excluded[0])}, by the comment: {_yes(excluded[1])}"


def _ask_card(scratch: Scratch) -> str:
    answer = scratch.post("validate-yaml", {"content": CARD, "repoType": "model"}).json()
    messages = [str(item.get("message")) for key in ("errors", "warnings") for item in answer.get(key, [])]
    return "; ".join(messages) or "valid"


def _ask_read_token(scratch: Scratch) -> str:
    if scratch.read_token is None:
        raise NotAsked("HF_READ_TOKEN is not set")
    client = create_api(scratch.read_token)
    return _status(lambda: commits.require_pull_request_right(client, scratch.repository))


def _run_job(scratch: Scratch, image: str, command: list[str]) -> Job:
    """Run a Job to its end. Raises NotAsked unless Jobs may be started."""
    if not scratch.has_jobs:
        raise NotAsked("Jobs cost money: pass --jobs")
    namespace = scratch.repository.partition("/")[0]
    request = JobRequest(
        namespace,
        image,
        command,
        {},
        {},
        "cpu-basic",
        scratch.job_seconds,
        "antidote-contract",
        {"antidote": "contract"},
    )
    job = submit_job(scratch.access, request, lambda _: False)
    waited = 0.0
    while job.is_working and waited < JOB_END_SECONDS:
        scratch.sleep(1.0)
        waited += 1.0
        job = refresh_job(scratch.access, job)
    return job


def _explain(job: Job, seconds: int, expected: str) -> str:
    """`expected` if the explanation of the ended Job contains it, otherwise what the Hub said."""
    error = no_result_error(job, seconds)
    return expected if expected in f"{error.what} {error.cause}" else f"{job.stage}: {job.message or error.what}"


def _ask_job_timeout(scratch: Scratch) -> str:
    job = _run_job(scratch, "python:3.12", ["sleep", "120"])
    return _explain(job, scratch.job_seconds, "timed out")


def _ask_job_memory(scratch: Scratch) -> str:
    # The program keeps an endless line in memory.
    job = _run_job(replace(scratch, job_seconds=MEMORY_JOB_SECONDS), "python:3.12", ["tail", "/dev/zero"])
    return _explain(job, MEMORY_JOB_SECONDS, "ran out of memory")


def _ask_job_image(scratch: Scratch) -> str:
    job = _run_job(scratch, "antidote-ci/no-such-image:0", ["true"])
    return _explain(job, scratch.job_seconds, "could not pull its image")


QUESTIONS = (
    Question("account", "Does whoami name the namespaces to which the token may write?", "yes", _ask_account),
    Question("anonymous", "With which status does whoami refuse a request without a token?", "401", _ask_anonymous),
    Question("read-token", "With which status is a read-only token refused a pull request?", "403", _ask_read_token),
    Question(
        "opening-comment",
        "Does the first comment of a pull request keep the HTML comment of its commit's description?",
        "yes",
        _with_pull_request(_ask_opening_comment),
    ),
    Question(
        "commit-marker",
        "Does the message of a commit keep an HTML comment at its end?",
        "yes",
        _with_pull_request(_ask_commit_marker),
    ),
    Question("author", "Are own pull requests found by author?", "yes", _with_pull_request(_ask_author)),
    Question(
        "edited-comment",
        "Does an edited comment keep its id, and its HTML comment?",
        "yes",
        _with_pull_request(_ask_edited_comment),
    ),
    Question(
        "closed-push", "Is a push to a closed pull request accepted?", "accepted", _with_pull_request(_ask_closed_push)
    ),
    Question(
        "xet-token",
        "Is a token for Xet given for the head of a pull request?",
        "accepted",
        _with_pull_request(_ask_xet_token),
    ),
    Question("draft", "Does the list of open discussions include drafts?", "yes", _ask_draft),
    Question("stale-push", "With which status is a push on an old head refused?", "412", _ask_stale_push),
    Question(
        "regular-limit",
        "Up to which of these sizes is a JSON file stored in git?",
        f"{10 << 20} of {PROBED_BYTES}",
        _ask_regular_limit,
    ),
    Question(
        "gitignore",
        "Does a .gitignore file exclude files, and a comment in its place none?",
        "excluded by the branch: yes, by the comment: no",
        _ask_gitignore,
    ),
    Question("card", "Is the metadata of a published card valid?", "valid", _ask_card),
    Question("job-timeout", "What is said of a Job past its time limit?", "timed out", _ask_job_timeout),
    Question("job-memory", "What is said of a Job without memory?", "ran out of memory", _ask_job_memory),
    Question("job-image", "What is said of a Job without an image?", "could not pull its image", _ask_job_image),
)
