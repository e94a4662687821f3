"""All that a Job webhook needs: the event in the environment, decided, looked at, and worked off in this process.

https://huggingface.co/docs/hub/jobs-webhooks
"""

from collections.abc import Mapping, Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Console
from antidote_ci.service import events, filters, repository_state
from antidote_ci.service.events import BadPayload
from antidote_ci.service.records import IgnoredEvent, NewerCommit, RunOutcome, RunTask, WebhookEvent

PAYLOAD, REPOSITORY = "WEBHOOK_PAYLOAD", "WEBHOOK_REPO_ID"


def read_event(environ: Mapping[str, str]) -> WebhookEvent:
    """The event that this Job was started for. Raises ConfigurationError for none, and for one that cannot be read."""
    text = environ.get(PAYLOAD)
    if text is None:
        raise ConfigurationError(
            f"{PAYLOAD} is not set: there is no event to handle",
            cause="the Hub sets it in the Jobs that a webhook starts",
            hint="register one: antidote-ci webhook register --job new --repository ORG/NAME",
        )
    try:
        event = events.parse_event(text.encode("utf-8", "surrogateescape"))
    except BadPayload as error:
        raise ConfigurationError(f"{PAYLOAD} cannot be acted upon: {error}") from None
    named = environ.get(REPOSITORY, event.repository)
    if named.lower() != event.repository.lower():
        raise ConfigurationError(
            f"{PAYLOAD} speaks of {event.repository}, and {REPOSITORY} does not",
            cause="the Hub sets both from one event: one of them was changed",
            hint="start the Job by its webhook alone",
        )
    return event


def decide_task(event: WebhookEvent, allowed: Sequence[str], policy: str) -> RunTask | IgnoredEvent | RunOutcome:
    """What the event asks for now. Where main has moved on it is the newer commit: nobody else is sure to measure it.

    `policy` is its sha256. Raises as `repository_state.inspect_head`.
    """
    order = filters.decide_event(event, allowed, policy)
    if isinstance(order, IgnoredEvent):
        return order
    while isinstance(seen := repository_state.inspect_head(order), NewerCommit):
        order = seen.order
    return seen


def run_task(task: RunTask, config: RunConfig, console: Console, *, elsewhere: bool) -> Report:
    """Do it: in this process, or as another Job."""
    if elsewhere:
        from antidote_ci.jobs import submit

        return submit.run_as_job(task.command, config, console)
    from antidote_ci.pipeline.run import evaluate, run

    return (run if task.command == "run" else evaluate)(config, console)
