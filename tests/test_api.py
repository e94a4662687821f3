"""The Python API: records, exceptions, and nothing on stdout and stderr."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from antidote_ci import api, errors, records
from antidote_ci.api import evaluate, repair, run, verify
from antidote_ci.policy import EvaluationSection, Policy
from scripts import tables
from tests.test_cli import HEAVY

DOCUMENT = Path(__file__).parents[1] / "docs" / "python-api.md"
SETS = {"judge": "refusal", "prompts": "embedded"}


def test_the_import_is_instant() -> None:
    script = (
        "import sys\n"
        "from antidote_ci.api import evaluate, repair, run, verify\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "if heavy: sys.exit(f'imported {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["run", "evaluate", "repair", "verify"])
def test_the_arguments_are_the_options_of_the_command(name: str) -> None:
    command = dict(tables.commands())[name]
    options = {option.name for hidden in (False, True) for option in tables.options(command, hidden=hidden)}
    arguments = list(inspect.signature(getattr(api, name)).parameters.values())
    assert {argument.name for argument in arguments[1:]} == options - {"dry_run", "as_json", "junit"}
    assert all(argument.kind == argument.KEYWORD_ONLY for argument in arguments[1:])


@pytest.mark.slow
def test_the_example_repairs_an_adapter(
    trained_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    (tmp_path / "adapter").symlink_to(trained_pair / "adapter")
    (tmp_path / "base").symlink_to(trained_pair / "reference")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 - the document is ours
    report = names["report"]
    assert isinstance(report, records.Report)
    assert records.from_json(records.Report, (tmp_path / "report" / "report.json").read_bytes()) == report
    printed = capfd.readouterr()
    assert printed.out == f"{report.verdict} {report.evaluations.before.harmful_score}\n"
    assert printed.err == ""


def test_errors_are_exceptions_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    policy = Policy(evaluation=EvaluationSection(judge="refusal", prompts="embedded"))
    with pytest.raises(errors.ConfigurationError, match="there is no folder"):
        evaluate(tmp_path / "nowhere", policy=policy, out=tmp_path / "out")
    with pytest.raises(errors.ConfigurationError, match="two revisions of org/model"):
        run("org/model@a", revision="b", policy=policy, out=tmp_path / "out")
    with pytest.raises(errors.ConfigurationError, match="--dose is 2"):
        repair("org/model", method="scale", dose=2, out=tmp_path / "out")
    with pytest.raises(errors.ConfigurationError, match="there is no folder"):
        verify(Path("nowhere"))
    (tmp_path / "antidote.toml").write_text(json.dumps({}))
    with pytest.raises(errors.ConfigurationError, match="is not a TOML file"):
        evaluate("org/model", policy=tmp_path / "antidote.toml")
    assert capfd.readouterr() == ("", "")
