"""Send a storm of deliveries to a service, kill it repeatedly, and collect every record."""

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from antidote_ci.policy import read_policy
from antidote_ci.service.run_store import RunRecord, list_runs
from benchmarks.webhook import ledger, world
from benchmarks.webhook.judging import Storm
from benchmarks.webhook.messages import Message, message
from benchmarks.webhook.plan import Delivery, Plan
from benchmarks.webhook.sender import Post, send_all
from benchmarks.webhook.service import Service, environment, free_port
from benchmarks.webhook.world import World

CONNECTIONS = 16
POLICY = '[publish]\nmode = "pull-request"\n'
DOWN = 0.5
"""Seconds until a killed service is started again."""
LAST = 2.0
"""End of the wait after the last start, as a share of the storm's duration."""
DRAINED = 300.0
"""Seconds that the queue may need after the last delivery is answered."""


@dataclass(frozen=True)
class Arena:
    """A Hub, a ledger, and a service that is not started yet."""

    hub: World
    service: Service
    secret: str
    ledger: Path
    database: Path

    def build(self, delivery: Delivery) -> Message:
        """Create the commit of a delivery, and return the message."""
        shas = self.hub.reach(delivery.repository, delivery.commit)
        return message(delivery, shas, self.secret)

    def drained(self) -> list[RunRecord]:
        """Every record, once all requests have ended or after DRAINED seconds."""
        deadline = time.monotonic() + DRAINED
        while True:
            runs = list_runs(self.database)
            if all(run.state == "ended" for run in runs) or time.monotonic() > deadline:
                return runs
            time.sleep(0.5)


@contextmanager
def open_arena(plan: Plan, folder: Path) -> Iterator[Arena]:
    secret = f"{random.Random(len(plan.deliveries)).getrandbits(256):064x}"  # noqa: S311 - good for one storm
    policy = folder / "antidote.toml"
    policy.write_text(POLICY)
    sha256 = read_policy(policy).sha256()
    records = ledger.lay_out(folder / "ledger", sha256)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.webhook.serving", str(folder), str(policy), str(port)]
    with world.running(folder, plan, sha256) as hub:
        variables = environment(hub.endpoint, folder, secret, world.OURS)
        with Service(command, variables, port, folder / "service.log") as service:
            yield Arena(hub, service, secret, records, folder / "service" / "queue.sqlite")


@dataclass(frozen=True)
class StormResult:
    """The result of a storm, and its durations in seconds."""

    storm: Storm
    sending: float
    draining: float
    log: str
    """The log of the service."""


def run_storm(plan: Plan, seconds: float, folder: Path) -> StormResult:
    """Run a storm whose deliveries are spread over `seconds`."""
    with open_arena(plan, folder) as arena:
        arena.service.start()
        arena.service.wait()
        arena.service.ups.append(time.monotonic())
        began = time.monotonic()
        post = Post(plan.deliveries, seconds)
        killing = threading.Thread(target=_kill, args=(arena.service, plan.kills, seconds))
        killing.start()
        send_all(post, arena.service.port, CONNECTIONS, arena.build)
        killing.join()
        sent = time.monotonic()
        found = arena.drained()
        drained = time.monotonic()
        arena.service.stop()
        runs = ledger.read(arena.ledger)
        storm = Storm(plan, arena.hub.shas, post.answers, runs, found, arena.service.kills, arena.service.ups)
    return StormResult(storm, sent - began, drained - sent, arena.service.log.read_text())


def _kill(service: Service, moments: Sequence[float], seconds: float) -> None:
    """Kill the service at each moment, even while it starts."""
    began = time.monotonic()
    for moment, following in pairwise((*moments, LAST)):
        time.sleep(max(0.0, began + moment * seconds - time.monotonic()))
        service.kill()
        time.sleep(DOWN)
        service.start()
        service.wait_up(began + following * seconds)
