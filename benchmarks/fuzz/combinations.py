"""Open small checkpoints with combined changes, each in a fork of its own.

Case N of a seed is the same on every machine. Each case takes a tiny checkpoint, changes its files (`changes`), and is
opened as a run opens a model. The rules:

- It ends with success or with one of our errors, within SECONDS of the processor and MEGABYTES of memory.
- An accepted case has opened no files but those that the fingerprint covers.
- Two states of a folder with one fingerprint read, write and hold the same.
- The text of a conversation depends on the prompt and the date only by containing them.
"""

import dataclasses
import functools
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint import links
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import AntidoteError
from antidote_ci.model.checkpoint_check import check_checkpoint
from antidote_ci.records import Model
from benchmarks.fuzz.behaviour import Opener, judge_texts, observe
from benchmarks.fuzz.changes import CHANGES, disturb

SECONDS = 10.0
"""Processor time of one case."""
MEGABYTES = 1000.0
"""Memory that one case may add to the process that opens it."""
ADDRESS_SPACE = 6 << 30
"""Bytes that a fork may allocate, so that a case beyond MEGABYTES does not exhaust the machine."""
TIMEOUT = 300
"""Seconds until a fork that does not compute counts as hung."""
MESSAGE_CHARACTERS = 1_500
"""The most that an error may say."""
BATCH = 20
WEIGHT_KINDS = {"files", "config", "adapter", "weights"}
"""Changes that can change the weights that are loaded. They are loaded for six cases of ten, and one of ten others."""
DISTURBED = 0.4
"""Share of the accepted cases that are opened again after a change elsewhere."""


@dataclass(frozen=True)
class Case:
    """A folder with a changed checkpoint."""

    number: int
    kind: str
    model: Model
    changes: list[str]


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `ended` is `accepted`, or the class of the error."""

    number: int
    kind: str
    changes: list[str]
    ended: str
    said: str = ""
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0


@dataclass
class Tally:
    """The outcomes of many cases."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[Outcome] = field(default_factory=list)
    slowest: Outcome | None = None
    largest: Outcome | None = None

    def add(self, outcome: Outcome) -> None:
        for kind in outcome.kind.split("+"):
            self.counts[kind, outcome.ended] += 1
        self.counts["all", outcome.ended] += 1
        if outcome.violations:
            self.violations.append(outcome)
        if self.slowest is None or outcome.seconds > self.slowest.seconds:
            self.slowest = outcome
        if self.largest is None or outcome.megabytes > self.largest.megabytes:
            self.largest = outcome


def run_and_report(seed: int, cases: int, workers: int, first: int = 0, only: int | None = None) -> int:
    """Run the cases and print a table. Returns the exit code."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="antidote-fuzz-") as name:
        material = Path(name)
        # In a process of its own: torch starts threads, which a fork does not have.
        _run_once(lambda: write_material(material))
        import_frameworks()
        if only is not None:
            outcome = run_case(seed, only, material)
            print(json.dumps(dataclasses.asdict(outcome), indent=2))
            return int(bool(outcome.violations))
        tally = run(seed, range(first, first + cases), workers, material)
    print(f"{cases:,} combinations of seed {seed} in {time.monotonic() - begun:.0f} s")
    for line in describe(tally):
        print(line)
    return int(bool(tally.violations))


def run(seed: int, numbers: range, workers: int, material: Path, opener: Opener | None = None) -> Tally:
    """The outcomes of cases, on `workers` processes. The caller has imported the frameworks."""
    tally, batches = Tally(), [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = pool.map(_run_batch, [seed] * len(batches), batches, [material] * len(batches), [opener] * len(batches))
        for done, outcomes in enumerate(parts, 1):
            for outcome in outcomes:
                tally.add(outcome)
            if done % 50 == 0:
                said = f"{done * BATCH:,} of {len(numbers):,} combinations, violations {len(tally.violations)}"
                print(said, file=sys.stderr, flush=True)
    return tally


def describe(tally: Tally) -> Iterator[str]:
    """The table, and every violation with the number that repeats it."""
    ends = sorted({ended for _, ended in tally.counts}, key=lambda ended: (ended != "accepted", ended))
    yield f"{'kind':12}{'cases':>10}" + "".join(f"{ended:>21}" for ended in ends)
    for kind in ("all", *CHANGES):
        counts = [tally.counts[kind, ended] for ended in ends]
        yield f"{kind:12}{sum(counts):>10,}" + "".join(f"{count:>21,}" for count in counts)
    for title, outcome in (("slowest", tally.slowest), ("most memory", tally.largest)):
        if outcome is not None:
            yield f"{title:12} case {outcome.number}: {outcome.seconds:.1f} s, {outcome.megabytes:.0f} MB"
    yield f"violations   {len(tally.violations):,}"
    rules = Counter(violation.partition(":")[0] for outcome in tally.violations for violation in outcome.violations)
    for rule, count in rules.most_common():
        yield f"  {rule:12} {count:,}"
    for outcome in tally.violations[:40]:
        yield f"case {outcome.number} ({outcome.kind}), {outcome.ended}: {'; '.join(outcome.violations)[:600]}"
        yield from (f"    {change[:300]}" for change in outcome.changes)


def write_material(folder: Path) -> None:
    """Write the tiny checkpoints from which every case starts, and files beside them that nothing may open."""
    from tests import tiny

    full = tiny.write_tiny_llama(folder / "full", hidden=32, layers=2)
    tiny.write_tiny_llama(folder / "sharded", hidden=32, layers=2, shards=2)
    tiny.write_tiny_adapter(folder / "adapter", full)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.json").write_bytes((full / "tokenizer.json").read_bytes())
    (folder / "outside" / "weights.safetensors").write_bytes((full / "model.safetensors").read_bytes())


def build_case(seed: int, number: int, material: Path, folder: Path) -> Case:
    """Write the case into `folder`: a checkpoint of links, and one to three changes of it."""
    rng = _random(seed, number)
    start = rng.choice(("full", "full", "sharded", "adapter"))
    for name in ("outside", "full" if start == "adapter" else start, *(["adapter"] if start == "adapter" else [])):
        shutil.copytree(material / name, folder / name, copy_function=os.link)
    model = Model(folder / "full", folder / "adapter") if start == "adapter" else Model(folder / start)
    kinds = [kind for kind in CHANGES if kind != "adapter"] + (["adapter"] * 4 if start == "adapter" else [])
    drawn_kinds = [rng.choice(kinds) for _ in range(rng.choice((1, 1, 2, 3)))]
    changes = [f"start: {start}"]
    for kind in drawn_kinds:
        # A change of a file that an earlier change broke is left out.
        with suppress(ValueError, TypeError, AttributeError, LookupError, OSError):
            changes.append(CHANGES[kind](model, rng))
    return Case(number, "+".join(dict.fromkeys(drawn_kinds)), model, changes)


def run_case(seed: int, number: int, material: Path, opener: Opener | None = None) -> Outcome:
    """Build one case, open it, remove it, and return its outcome."""
    folder = material / f"case-{seed}-{number}-{os.getpid()}"
    folder.mkdir()
    try:
        case = build_case(seed, number, material, folder)
        return open_case(case, _random(seed, -number - 1), opener or check)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_case(case: Case, rng: Random, opener: Opener) -> Outcome:
    """Open a case in a fork, with limits. `opener` checks a model before it is loaded."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = os.fork()
    if process == 0:
        _open_in_fork(case, rng, sender, opener)
    sender.close()
    reply: dict[str, Any] = {"ended": "died", "said": "", "violations": ["died: no reply"]}
    with suppress(EOFError):
        if receiver.poll(TIMEOUT):
            reply = json.loads(receiver.recv_bytes())
        else:
            reply["violations"] = [f"hung: {TIMEOUT} s"]
    if reply["ended"] == "died":
        os.kill(process, signal.SIGKILL)
        # Its own forks, if it has become the leader of a group.
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    _, _, usage = os.wait4(process, 0)
    receiver.close()
    seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024 - _fork_megabytes()
    violations = reply.pop("violations")
    violations += [f"time: {seconds:.1f} s"] if seconds > SECONDS else []
    violations += [f"memory: {megabytes:,.0f} MB"] if megabytes > MEGABYTES else []
    return Outcome(
        case.number, case.kind, case.changes, **reply, violations=violations, seconds=seconds, megabytes=megabytes
    )


def check(model: Model) -> None:
    """The checks of a run before it loads a model: files, card, tokenizer and template."""
    for folder in (model.folder, model.adapter):
        if folder is not None:
            read_layout(folder)
            cards.read_base_models(folder)
    check_checkpoint(model, lambda _: None)


_opened: list[str] | None = None
"""The paths that were opened while it is a list. An audit hook cannot be removed."""


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.fsdecode(arguments[0]))


def _open_in_fork(case: Case, rng: Random, sender: Any, opener: Opener) -> None:  # noqa: ANN401 - a connection
    os.setpgid(0, 0)
    reply: dict[str, Any] = {"ended": "uncaught", "said": "", "violations": []}
    try:
        _limit_resources()
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the fork ends
        os.dup2(sys.stderr.fileno(), 2)
        _judge(case, rng, opener, reply)
    except AntidoteError as error:
        said = " / ".join(filter(None, [error.what, error.cause, error.hint]))
        reply |= {"ended": type(error).__name__, "said": said[:500]}
        if len(said) > MESSAGE_CHARACTERS:
            reply["violations"].append(f"message: {len(said):,} characters")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        said = f"{type(error).__name__}: {error!s:.200} in {', '.join(frames[-9:])}"
        reply |= {"ended": "uncaught", "violations": [*reply["violations"], f"uncaught: {said}"]}
    finally:
        sender.send_bytes(json.dumps(reply).encode())
        os._exit(0)


def _judge(case: Case, rng: Random, opener: Opener, reply: dict[str, Any]) -> None:
    """Open the case, and compare what it does with the rules."""
    global _opened
    sys.addaudithook(_note_open)
    listed = {str(path) for path in links.list_model_files(case.model)}
    _opened = []
    with_weights = rng.random() < (0.6 if WEIGHT_KINDS & set(case.kind.split("+")) else 0.1)
    behaviour = observe(case.model, opener, with_weights=with_weights)
    opened, _opened = _opened, None
    reply["ended"] = "accepted"
    root = f"{case.model.folder.parent}{os.sep}"
    paths = {os.path.abspath(path) for path in opened}  # noqa: PTH100 - links are not followed
    if unlisted := {path for path in paths - listed if path.startswith(root) and Path(path).is_file()}:
        reply["violations"].append(f"files: {sorted(path.removeprefix(root) for path in unlisted)}")
    reply["violations"] += judge_texts(case.model)
    reply["violations"] += behaviour.problems
    if rng.random() < DISTURBED:
        before = links.model_fingerprint(case.model)
        disturbance = disturb(case.model, rng)
        same = links.model_fingerprint(case.model) == before
        # An error here means that the case is refused now, and so not measured as another one.
        if same and observe(case.model, opener, with_weights=with_weights) != behaviour:
            reply["violations"].append(f"fingerprint: the same, {disturbance}")


def _run_batch(seed: int, numbers: range, material: Path, opener: Opener | None) -> list[Outcome]:
    return [run_case(seed, number, material, opener) for number in numbers]


def _random(seed: int, number: int) -> Random:
    return Random(f"combination {seed}/{number}")  # noqa: S311 - the same case for everyone


def _limit_resources() -> None:
    # Only the soft limits: the checks set others in their own forks.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + ADDRESS_SPACE
    for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, 2 * int(SECONDS))):
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


@functools.cache
def _fork_megabytes() -> float:
    """Peak memory of a fork of this process that does nothing."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    return os.wait4(process, 0)[2].ru_maxrss / 1024


def _run_once(work: Callable[[], None]) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the material cannot be written")


def import_frameworks() -> None:
    """Import what a case needs, so that forks need not, and compute in one thread: a fork has no others."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # as in the sandbox: a fork has no thread pool
    import peft  # noqa: F401
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

    torch.set_num_threads(1)
    # Collections in a fork would copy the pages of all objects.
    gc.freeze()
