"""`evaluate` of several models: which ones, the resumption, failures and the page."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.pipeline import many_models
from antidote_ci.policy import Policy, RunConfig, override_section
from antidote_ci.records import History, Report, ReportedSource, from_json, to_json
from antidote_ci.report.console import Console
from loopback_hub import LoopbackHub
from tests.command_line import run_command
from tests.evaluation.test_comparison import judged, report

SILENT = Console("silent")


def base(out: Path) -> RunConfig:
    return RunConfig("org/first", None, Policy(), out)


def folders(names: list[str], out: Path) -> dict[str, tuple[str, str | None]]:
    configs = many_models.list_models(names, None, base(out))
    assert all(config.out.parent == out for config in configs)
    return {config.out.name: (config.model, config.revision) for config in configs}


class Evaluator:
    """Writes a report for each model, of a score that its name holds. Models called `broken` fail."""

    def __init__(self) -> None:
        self.evaluated: list[str] = []

    def __call__(self, config: RunConfig, _console: Console) -> Report:
        self.evaluated.append(config.model)
        if "broken" in config.model:
            raise InfrastructureError(f"{config.model} is broken")
        hits = int(config.model.rpartition("-")[2])
        verdict: Literal["fail", "pass"] = "fail" if hits > 10 else "pass"
        written = replace(
            report(judged(range(hits)), run=config.model),
            source=ReportedSource(config.model, config.revision, "full"),
            policy_sha256=config.policy.sha256(),
            verdict=verdict,
            exit_code=int(verdict == "fail"),
        )
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "report.json").write_text(to_json(written))
        return written


def test_each_model_has_a_folder_of_its_own(tmp_path: Path) -> None:
    server = "http://user:secret@127.0.0.1:9/v1#served"
    assert folders(["org/a", "org/a@v1", "./x/../y", server, "org/a"], tmp_path) == {
        "org--a": ("org/a", None),
        "org--a@v1": ("org/a", "v1"),
        "x--..--y": ("./x/../y", None),
        "http--127.0.0.1--9--v1--served": (server, None),
    }
    assert not many_models.is_many(["org/a"])
    assert not many_models.is_many(["./folder/*"])
    assert many_models.is_many(["org/*"])


def test_options_of_one_model_are_refused(tmp_path: Path) -> None:
    config = replace(base(tmp_path), save_answers=tmp_path / "answers")
    with pytest.raises(ConfigurationError, match="--save-answers is for one model"):
        many_models.list_models(["a/b", "a/c"], None, config)
    with pytest.raises(ConfigurationError, match="--revision is for one model"):
        many_models.list_models(["a/b", "a/c"], "main", base(tmp_path))
    with pytest.raises(ConfigurationError, match=r"\./m and \.\./m have the same folder"):
        many_models.list_models(["./m", "../m"], None, base(tmp_path))
    (tmp_path / "report.json").touch()
    with pytest.raises(ConfigurationError, match="holds the report of one model"):
        many_models.list_models(["a/b", "a/c"], None, base(tmp_path))


def test_an_account_is_evaluated_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with LoopbackHub(tmp_path / "hub") as hub:
        for name, value in (hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}).items():
            monkeypatch.setenv(name, value)
        for model in ("org/tuned-40", "org/broken", "org/tuned-3"):
            hub.add(model, weights)
        configs = many_models.list_models(["org/*"], None, base(tmp_path / "out"))
        first, again = Evaluator(), Evaluator()
        history, code = many_models.evaluate_models(configs, first, SILENT)
        assert first.evaluated == ["org/broken", "org/tuned-3", "org/tuned-40"]
        assert code == 1
        assert history.failures == {"org/broken": "org/broken is broken"}
        page = (tmp_path / "out" / "models.html").read_text()
        assert page.index("org/tuned-40") < page.index("org/tuned-3") < page.index("org/broken is broken")
        assert 'href="org--tuned-3/report.html"' in page
        # A new commit is evaluated again, and what failed is tried again.
        (weights / "config.json").write_text('{"a": 1}')
        hub.add("org/tuned-40", weights)
        assert many_models.evaluate_models(configs, again, SILENT)[1] == 1
        assert again.evaluated == ["org/broken", "org/tuned-40"]
        strict = [replace(config, policy=Policy(gate=replace(Policy().gate, harmful_score=0.2))) for config in configs]
        changed = Evaluator()
        many_models.evaluate_models(strict, changed, SILENT)
        assert len(changed.evaluated) == 3
        # A verdict whose publication failed is still to be published.
        publishing = override_section(Policy(), "publish", mode="report")
        for _ in range(2):
            unpublished = Evaluator()
            many_models.evaluate_models([replace(config, policy=publishing) for config in configs], unpublished, SILENT)
            assert len(unpublished.evaluated) == 3


@pytest.mark.parametrize(
    ("models", "code"),
    [(["./m-1", "./m-2"], 0), (["./broken", "./m-2"], 3), (["./broken", "./m-50"], 1), (["./broken", "./broken2"], 3)],
)
def test_the_exit_code_is_that_of_a_failing_model_or_else_of_an_error(
    tmp_path: Path, models: list[str], code: int
) -> None:
    configs = many_models.list_models(models, None, base(tmp_path))
    assert many_models.evaluate_models(configs, Evaluator(), SILENT)[1] == code


def test_the_command_lists_what_it_could_not_evaluate(tmp_path: Path) -> None:
    arguments = ["./nowhere", "./neither", "--prompts=embedded", "--judge=refusal", f"--out={tmp_path / 'out'}"]
    done = run_command("evaluate", *arguments, "--json")
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith("not evaluated: ./neither: there is no folder ./neither\n")
    assert from_json(History, done.stdout).failures == {
        "./nowhere": "there is no folder ./nowhere",
        "./neither": "there is no folder ./neither",
    }
    page = (tmp_path / "out" / "models.html").read_text()
    assert "<h1>2 models</h1>" in page
    assert "there is no folder ./neither" in page
