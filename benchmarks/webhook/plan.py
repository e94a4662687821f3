"""Plan the deliveries of a storm, their order, and when the service is killed. Pure: a seed gives the same plan."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest
from typing import Literal

Kind = Literal["valid", "reordered", "replayed", "duplicate", "forged", "oversized", "garbage"]
Role = Literal["worked", "merged", "untouched", "foreign"]
"""`worked`: its commits must be measured. `merged`: its second commit is our merged pull request. `untouched`: named by
invalid deliveries only. `foreign`: outside the allow list."""

SHARES: dict[Kind, float] = {
    "valid": 0.25,
    "reordered": 0.09,
    "replayed": 0.14,
    "duplicate": 0.10,
    "forged": 0.18,
    "oversized": 0.08,
    "garbage": 0.16,
}
ALLOWED = "storm"
FOREIGN = "elsewhere"
MERGED_SHARE = 8
"""One of this many repositories has a merged repair of ours."""

FORGED = ("wrong", "absent", "empty", "truncated", "longer", "of another case", "not ASCII", "in the address")
"""Defects of the secret."""
OVERSIZED = ("declared", "chunked", "declared, with a wrong secret", "chunked, without a secret")
MALFORMED = (
    "empty",
    "not JSON",
    "cut",
    "not UTF-8",
    "a list",
    "nested 10,000 deep",
    "a later version",
    "no repository",
    "a name that leaves",
    "a commit that is no hash",
)
UNCONCERNED = (
    "a comment",
    "the configuration",
    "a pull request",
    "a tag",
    "another branch",
    "a branch that ended",
    "a dataset",
    "outside the allow-list",
)


@dataclass(frozen=True)
class Repository:
    """A repository, and the number of commits of its main branch during the storm."""

    name: str
    role: Role
    commits: int


@dataclass(frozen=True)
class Delivery:
    """One message to the service."""

    number: int
    """From 0, in the order of their times."""
    due: float
    """Time of the first attempt, as a share of the storm's duration."""
    kind: Kind
    id: str
    repository: str
    commit: int | None
    """Index of the commit of main, from 0; None for a commit that never existed."""
    flaw: str = ""


@dataclass(frozen=True)
class Plan:
    """The plan of a storm."""

    repositories: tuple[Repository, ...]
    deliveries: tuple[Delivery, ...]
    kills: tuple[float, ...]
    """Times, as shares of the storm's duration."""


def make_plan(deliveries: int, repositories: int, kills: int, seed: int) -> Plan:
    """Plan a storm for this many repositories. Every commit is announced once, valid or reordered."""
    rng = random.Random(seed)  # noqa: S311 - a plan is no secret
    counts = {kind: round(share * deliveries) for kind, share in SHARES.items()}
    counts["valid"] += deliveries - sum(counts.values())
    there = _repositories(repositories, counts["valid"] + counts["reordered"], rng)
    told = _told(there, counts["reordered"], rng)
    planned = [
        *told,
        *(
            replace(event, kind="replayed", due=rng.uniform(event.due, 1))
            for event in rng.choices(told, k=counts["replayed"])
        ),
        *(
            replace(event, kind="duplicate", id=_id(rng), due=rng.uniform(event.due, 1))
            for event in rng.choices(told, k=counts["duplicate"])
        ),
        *_wrong(there, counts, rng),
    ]
    ordered = sorted(planned, key=lambda delivery: delivery.due)
    return Plan(
        there,
        tuple(replace(delivery, number=number) for number, delivery in enumerate(ordered)),
        tuple((number + rng.uniform(0.15, 0.85)) / kills for number in range(kills)),
    )


def _repositories(count: int, commits: int, rng: random.Random) -> tuple[Repository, ...]:
    merged = max(1, count // MERGED_SHARE)
    worked = count - merged
    left = commits - 2 * merged
    shares = [left // worked + (number < left % worked) for number in range(worked)]
    # Distribute the commits unevenly, at least two for each repository.
    for _ in range(worked):
        giver, taker = rng.sample(range(worked), 2)
        given = rng.randint(0, shares[giver] - 2)
        shares[giver] -= given
        shares[taker] += given
    return (
        *(Repository(f"{ALLOWED}/model-{number:02}", "worked", share) for number, share in enumerate(shares)),
        *(Repository(f"{ALLOWED}/merged-{number:02}", "merged", 2) for number in range(merged)),
        *(Repository(f"{ALLOWED}/untouched-{number:02}", "untouched", 1) for number in range(merged)),
        Repository(f"{FOREIGN}/model-00", "foreign", 1),
    )


def _told(repositories: Iterable[Repository], reordered: int, rng: random.Random) -> list[Delivery]:
    """Each commit once; `reordered` of them just after the next commit of their repository."""
    events: dict[tuple[str, int], Delivery] = {}
    for repository in repositories:
        if repository.role in ("worked", "merged"):
            times = sorted(rng.uniform(0, 0.97) for _ in range(repository.commits))
            for commit, due in enumerate(times):
                events[repository.name, commit] = Delivery(0, due, "valid", _id(rng), repository.name, commit)
    late: set[tuple[str, int]] = set()
    for name, commit in rng.sample(list(events), len(events)):
        beside = {(name, commit - 1), (name, commit + 1)}
        if len(late) < reordered and (name, commit + 1) in events and not beside & late:
            late.add((name, commit))
            due = events[name, commit + 1].due + rng.uniform(0.001, 0.02)
            events[name, commit] = replace(events[name, commit], kind="reordered", due=due)
    if len(late) < reordered:
        raise ValueError(f"{len(events)} commits give {len(late)} reordered deliveries, not {reordered}")
    return list(events.values())


def _wrong(repositories: Iterable[Repository], counts: dict[Kind, int], rng: random.Random) -> list[Delivery]:
    names: dict[Role, list[str]] = {"worked": [], "merged": [], "untouched": [], "foreign": []}
    for repository in repositories:
        names[repository.role].append(repository.name)

    def message(kind: Kind, flaw: str, name: str, commit: int | None) -> Delivery:
        return Delivery(0, rng.random(), kind, _id(rng), name, commit, flaw)

    targets = cycle(
        [("untouched", 0), ("worked", None), ("worked", 0)]  # nobody else's, a commit that never was, a real one
    )
    forged = [
        message("forged", flaw, rng.choice(names[role]), commit)  # type: ignore[index]
        for flaw, (role, commit), _ in zip(cycle(FORGED), targets, range(counts["forged"]), strict=False)
    ]
    oversized = [
        message("oversized", flaw, rng.choice(names["untouched"]), 0)
        for flaw, _ in zip(cycle(OVERSIZED), range(counts["oversized"]), strict=False)
    ]
    flaws = [flaw for pair in zip_longest(MALFORMED, UNCONCERNED) for flaw in pair if flaw]
    places: dict[str, Role] = {"a pull request": "merged", "outside the allow-list": "foreign"}
    garbage = [
        message("garbage", flaw, rng.choice(names[places.get(flaw, "untouched")]), 0)
        for flaw, _ in zip(cycle(flaws), range(counts["garbage"]), strict=False)
    ]
    return [*forged, *oversized, *garbage]


def _id(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"
