"""All that a Job webhook needs: the event in the environment, decided, looked at, and worked off in this process.

https://huggingface.co/docs/hub/jobs-webhooks
"""

from collections.abc import Mapping, Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Talk
from antidote_ci.service import events, filters, repository_state
from antidote_ci.service.events import BadPayload
from antidote_ci.service.records import Event, Ignored, Newer, Outcome, Task

PAYLOAD, REPOSITORY = "WEBHOOK_PAYLOAD", "WEBHOOK_REPO_ID"


def received(environ: Mapping[str, str]) -> Event:
    """The event that this Job was started for. Raises ConfigurationError for none, and for one that cannot be read."""
    text = environ.get(PAYLOAD)
    if text is None:
        raise ConfigurationError(
            f"{PAYLOAD} is not set: there is no event to handle",
            cause="the Hub sets it in the Jobs that a webhook starts",
            hint="register one: antidote-ci webhook register --job new --repository ORG/NAME",
        )
    try:
        event = events.parse(text.encode("utf-8", "surrogateescape"))
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


def found(event: Event, allowed: Sequence[str], policy: str) -> Task | Ignored | Outcome:
    """What the event asks for now. Where main has moved on it is the newer commit: nobody else is sure to measure it.

    `policy` is its sha256. Raises as `repository_state.look`.
    """
    order = filters.decide(event, allowed, policy)
    if isinstance(order, Ignored):
        return order
    while isinstance(seen := repository_state.look(order), Newer):
        order = seen.order
    return seen


def work(task: Task, config: RunConfig, talk: Talk, *, elsewhere: bool) -> Report:
    """Do it: in this process, or as another Job."""
    if elsewhere:
        from antidote_ci.jobs import submit

        return submit.run(task.command, config, talk)
    from antidote_ci.pipeline.evaluate import evaluate
    from antidote_ci.pipeline.run import run

    return (run if task.command == "run" else evaluate)(config, talk)
