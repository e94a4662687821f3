"""The real command line refuses every hostile repository and accesses nothing else."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from antidote_ci.checkpoint.files import is_allowed_file, is_pickled
from loopback_hub import LoopbackHub
from tests.chat_templates import PUBLISHED
from tests.hostile.corpus import FIXTURES, MODULES, OWNER, Stage, write_stage
from tests.hostile.fixture import Fixture
from tests.hostile.templates import written
from tests.hostile.watched import FRAMEWORKS, Seen

DOCUMENT = Path(__file__).parents[2] / "docs" / "hostile-input.md"
CHILD = ["-P", "-m", "antidote_ci.sandbox.worker"]
QUICK = ("endless-loops", "good-full", "good-but-a-weight")
"""Fixtures that need a child process and run by default; the others are slow tests."""
SECONDS, SECONDS_TO_IMPORT = 10, 8
"""Processor time of a refusal, and of the imports of the frameworks in the child process."""
MEMORY, MEMORY_TO_IMPORT = 1 << 20, 512 << 10
"""KiB, without and with the frameworks."""

Play = Callable[[Fixture], Seen]


def unchanged(folder: Path) -> None:
    """Add no attack."""


GOOD = (
    *(Fixture(f"good-{start}", "", "", unchanged, "", start=start) for start in ("full", "sharded", "adapter")),
    Fixture("good-but-a-weight", "", "", unchanged, "", own_process=True),
    *(
        Fixture(f"good-template-{number}", "", "", written(template), "", own_process=True)
        for number, template in enumerate(PUBLISHED.values())
        if "strftime_now" in template
    ),
)


def is_slow(fixture: Fixture) -> bool:
    return (fixture.own_process or fixture in GOOD) and fixture.name not in QUICK


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("hostile")
    with LoopbackHub(folder / "hub") as hub:
        yield write_stage(hub, folder)


@pytest.fixture(scope="session")
def play(stage: Stage) -> Play:
    """Return the accesses for a fixture. All quick fixtures run together, and all slow ones."""
    seen: dict[str, Seen] = {}

    def found(fixture: Fixture) -> Seen:
        if fixture.name not in seen:
            seen.update(stage.play(each for each in (*FIXTURES, *GOOD) if is_slow(each) == is_slow(fixture)))
        return seen[fixture.name]

    return found


def each(fixtures: tuple[Fixture, ...]) -> list[object]:
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(fixture, id=fixture.name, marks=marks[is_slow(fixture)]) for fixture in fixtures]


@pytest.mark.parametrize("fixture", each(FIXTURES))
def test_hostile_repository_is_refused_by_name(fixture: Fixture, play: Play) -> None:
    seen = play(fixture)
    assert seen.exit_code == 6, seen.said
    assert fixture.says in seen.said[seen.said.index("error: ") :]


@pytest.mark.parametrize("fixture", each(FIXTURES))
def test_nothing_is_executed_or_contacted(fixture: Fixture, play: Play, stage: Stage) -> None:
    seen = play(fixture)
    require_watched(seen, stage, fixture)
    assert started_programs(seen) == ([CHILD] if fixture.own_process else [])


@pytest.mark.parametrize("fixture", each(GOOD))
def test_good_repository_passes_the_same_checks(fixture: Fixture, play: Play, stage: Stage) -> None:
    seen = play(fixture)
    require_watched(seen, stage, fixture)
    assert started_programs(seen) == [CHILD]
    # The exit code of a hostile template if its weights were loaded.
    assert seen.exit_code == (2 if fixture.own_process else 1), seen.said
    assert ("model.norm.weight" in seen.said) == fixture.own_process


@pytest.mark.parametrize("fixture", each(FIXTURES))
def test_refusal_takes_seconds_and_little_memory(fixture: Fixture, play: Play) -> None:
    seen = play(fixture)
    assert seen.seconds < (SECONDS + SECONDS_TO_IMPORT if fixture.own_process else SECONDS)
    assert seen.memory < (MEMORY + MEMORY_TO_IMPORT if is_slow(fixture) or fixture.own_process else MEMORY)
    assert "Traceback" not in seen.said


def started_programs(seen: Seen) -> list[list[str]]:
    """Return the beginnings of the commands that were started; a card is read in a fork."""
    return [command[1:4] for command in seen.started if command != ["os.fork"]]


def require_watched(seen: Seen, stage: Stage, fixture: Fixture) -> None:
    """Check that no pickle, code, framework, other host or other file was accessed."""
    assert (seen.pickled, seen.executed, seen.imported) == ([], [], [])
    assert set(seen.connected) <= {stage.hub.endpoint.removeprefix("http://")}
    here = [path for path in seen.opened if Path(path).is_relative_to(stage.folder)]
    assert not [path for path in here if is_pickled(path) or path.endswith(".py")]
    allowed_roots = stage.writable(fixture)
    assert not [path for path in seen.written if not any(map(Path(path).is_relative_to, allowed_roots))]


def test_only_allowed_files_are_requested(stage: Stage, play: Play) -> None:
    play(FIXTURES[0])
    asked = [re.fullmatch(r"\w+ /[^/]+/[^/]+/resolve/[^/]+/(.+)", request) for request in stage.hub.requests]
    names = {unquote(found[1]) for found in asked if found}
    assert "model.safetensors" in names
    assert not [name for name in names if not is_allowed_file(name)]


@pytest.mark.parametrize("fixture", each(FIXTURES))
def test_fixture_differs_from_a_good_one_by_its_attack(fixture: Fixture, play: Play, stage: Stage) -> None:
    play(fixture)
    before, after = contents(stage.good[fixture.start]), contents(stage.repository(fixture))
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    # The file, the one it replaced, the one that names it, and the weight that template fixtures lack.
    assert 1 <= len(changed) <= 3 or fixture.name == "tensors-over-many-shards", changed


def contents(folder: Path) -> dict[str, object]:
    """Return the bytes of every regular file, and the mode of every other one."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    plain = [path for path in files if path.is_file() and not path.is_symlink()]
    return {path.name: path.lstat().st_mode for path in files} | {path.name: path.read_bytes() for path in plain}


def test_fixtures_name_their_sources_and_the_document_counts_them() -> None:
    names = [fixture.name for fixture in FIXTURES]
    assert len(set(names)) == len(names) >= 40
    for fixture in FIXTURES:
        assert re.fullmatch(r"CVE-\d{4}-\d{4,6}|GHSA(-[0-9a-z]{4}){3}|CWE-\d+|https://\S+", fixture.reference), (
            fixture.name
        )
        # Otherwise the name of the repository would match the expected text.
        assert fixture.says not in f"{OWNER}/{fixture.name}"
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.endswith(".py` |")]
    counts = {f"{module.__name__.rpartition('.')[2]}.py": len(module.FIXTURES) for module in MODULES}
    assert {row.split("`")[-2]: int(row.split(" | ")[1]) for row in rows} == counts


ACCESSES = """
import json, os, pickle, socket, subprocess, sys
from dataclasses import asdict
from pathlib import Path
from tests.hostile import watched

def access(arguments):
    folder = Path(arguments[0])
    pickle.loads(b"cos\\ngetpid\\n(tR.")
    (folder / "written").write_text("x")
    (folder / "made").mkdir()
    (folder / "written").read_text()
    exec(compile("1", str(folder / "code.py"), "exec"))
    subprocess.run(["true"])
    with socket.socket() as connection:
        connection.connect_ex(("127.0.0.1", 9))
    import safetensors
    return 5

watched.corpus = sys.argv[1]
sys.addaudithook(watched.note)
print(json.dumps(asdict(watched.watch(access, sys.argv[1:]))))
"""


def test_watch_records_every_kind_of_access(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ACCESSES, str(tmp_path)], capture_output=True, text=True, check=True)
    seen = Seen(**json.loads(done.stdout))
    assert seen.exit_code == 5
    assert seen.pickled == ["os.getpid"]
    assert seen.written == [str(tmp_path / "written"), str(tmp_path / "made")]
    assert seen.opened.count(str(tmp_path / "written")) == 1
    assert seen.executed == [str(tmp_path / "code.py")]
    assert seen.started == [["true"]]
    assert seen.connected == ["127.0.0.1:9"]
    assert "safetensors" in seen.imported
    assert {name.split(".")[0] for name in seen.imported} <= set(FRAMEWORKS)
