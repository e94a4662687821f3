"""The judges that a run named. Nothing stands in for one that was not, or that cannot be loaded."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.checkpoint.layout import MAX_CONFIG_BYTES, CheckpointLayout, read_layout
from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.judges import beaver_dam, endpoint, llama_guard, qwen3guard
from antidote_ci.evaluation.judges.guard import GuardFormat, GuardJudge
from antidote_ci.evaluation.judges.interface import Judge
from antidote_ci.evaluation.judges.prompt_injection import read_special_tokens
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.model import loading
from antidote_ci.policy import EvaluationSection
from antidote_ci.records import JudgeIdentity, Model
from antidote_ci.sandbox.client import Sandbox

REFUSAL = "refusal"
MAX_JUDGES = 2


@dataclass(frozen=True)
class JudgeRepository:
    """Where a judge's weights come from when the run does not say otherwise."""

    id: str
    commit: str | None
    """None: a revision must be named, because the repository itself holds pickles alone."""
    licence: str
    guard_format: GuardFormat | None = None
    """How a generative guard is asked; None for a classifier."""


_QWEN = GuardFormat(qwen3guard.render, qwen3guard.parse, qwen3guard.MAX_NEW_TOKENS, qwen3guard.DETAIL)
_LLAMA = GuardFormat(llama_guard.render, llama_guard.parse, llama_guard.MAX_NEW_TOKENS)
_LLAMA_PARTS = GuardFormat(llama_guard.render_parts, llama_guard.parse, llama_guard.MAX_NEW_TOKENS)

REPOSITORIES = {
    "qwen3guard": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-0.6B", "fada3b2f655b89601929198343c94cd2f64d93cc", "Apache-2.0", _QWEN
    ),
    "qwen3guard-4b": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-4B", "6ec42827da0c1ff11e7a49dc269d2e810d27e108", "Apache-2.0", _QWEN
    ),
    "qwen3guard-8b": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-8B", "4505cb1a6f1864f21f8b27f7daf1b9a1aab6edbb", "Apache-2.0", _QWEN
    ),
    "llama-guard": JudgeRepository(
        "meta-llama/Llama-Guard-3-1B", "acf7aafa60f0410f8f42b1fa35e077d705892029", "Llama 3.2", _LLAMA_PARTS
    ),
    "llama-guard-8b": JudgeRepository(
        "meta-llama/Llama-Guard-3-8B", "7327bd9f6efbbe6101dc6cc4736302b3cbb6e425", "Llama 3.1", _LLAMA
    ),
    "beaver-dam": JudgeRepository("PKU-Alignment/beaver-dam-7b", None, beaver_dam.LICENCE),
}
"""Each commit is the one by which independent public projects pin or cache these weights: docs/judges.md."""
NAMES = (*REPOSITORIES, endpoint.NAME, REFUSAL)


@dataclass(frozen=True)
class JudgeSpec:
    """One judge as it was named: NAME, or NAME@WHERE."""

    name: str
    location: str | None = None
    """A revision of the judge's own repository, or a folder: it starts with `.`, `/` or `~`."""

    @property
    def folder(self) -> str | None:
        """The folder of this machine, where one was named."""
        return self.location if self.location is not None and self.location.startswith((".", "/", "~")) else None


@dataclass(frozen=True)
class JudgeDownload:
    """What must be on this disk before a judge can be made."""

    model: str
    """A repository of the Hub, or a folder of this machine."""
    revision: str | None
    """None for a folder."""


@dataclass(frozen=True)
class FetchedJudge:
    """What `judge_download` asked for, on this disk; a judge without weights has no folder, and a local folder no
    revision."""

    spec: JudgeSpec
    folder: Path | None = None
    revision: str | None = None


def parse_judge_specs(text: str) -> list[JudgeSpec]:
    """The one or two judges of `--judge`. Raises ConfigurationError, for an unknown name with the nearest real one."""
    specs = [_parse_judge_spec(part.strip()) for part in text.split(",")]
    if len(specs) > MAX_JUDGES or len({spec.name for spec in specs}) < len(specs):
        raise ConfigurationError(
            f"the judges are {text!r}",
            cause=f"at most {MAX_JUDGES} may be named, of different names",
            hint="--judge A,B",
        )
    return specs


def _parse_judge_spec(text: str) -> JudgeSpec:
    name, at, where = text.partition("@")
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1)
        raise ConfigurationError(
            f"there is no judge {name!r}",
            hint=f"did you mean {nearest[0]}?" if nearest else f"judges are {', '.join(NAMES)}",
        )
    if at and (not where or name not in REPOSITORIES):
        raise ConfigurationError(
            f"{text!r} names no place for the judge {name}",
            cause="a revision or a folder follows the @" if not where else f"{name} has no weights to be found",
            hint=f"{name}@REVISION, {name}@./FOLDER or {name}" if name in REPOSITORIES else f"--judge {name}",
        )
    return JudgeSpec(name, where or None)


def judge_download(spec: JudgeSpec, settings: EvaluationSection) -> JudgeDownload | None:
    """What to pull for a judge; None for one without weights.

    Raises ConfigurationError, before anything is pulled, for a licence that was not accepted and for a judge whose
    place must be named.
    """
    repository = REPOSITORIES.get(spec.name)
    if repository is None:
        return None
    if repository.licence == beaver_dam.LICENCE and not settings.accept_licence:
        raise ConfigurationError(
            f"the judge {spec.name} has a {repository.licence} licence",
            cause=f"{repository.id} may not be used commercially",
            hint="add --accept-licence if that fits your use, or name another judge",
        )
    if spec.folder is not None:
        return JudgeDownload(spec.folder, None)
    revision = spec.location or repository.commit
    if revision is None:
        raise ConfigurationError(
            f"the judge {spec.name} needs a converted copy to be named",
            cause=f"{repository.id} holds pickles alone, and opening a pickle runs whatever code it holds",
            hint=f"{spec.name}@REVISION or {spec.name}@./FOLDER with safetensors: docs/judges.md",
        )
    return JudgeDownload(repository.id, revision)


def build_judge(fetched: FetchedJudge, settings: EvaluationSection, sandbox: Sandbox, store: Path) -> Judge:
    """The judge, ready to judge.

    `store` is a folder of verdicts that are never asked for twice. Raises UnsafeCheckpoint for weights that are not
    safe to open and ConfigurationError for those of another model, both naming the judge.
    """
    name = fetched.spec.name
    if name == REFUSAL:
        return RefusalJudge()
    if name == endpoint.NAME:
        return _build_endpoint_judge(settings, store)
    try:
        return _build_model_judge(fetched, settings, sandbox, store)
    except AntidoteError as error:
        raise type(error)(
            f"the judge {name} cannot be loaded: {error.what}", cause=error.cause, hint=error.hint
        ) from error


def connect_endpoint(settings: EvaluationSection) -> chat_api.ChatApi:
    """Where the judge `endpoint` is. Raises ConfigurationError where no address is given."""
    if settings.judge_endpoint is None:
        raise ConfigurationError(
            f"the judge {endpoint.NAME} has no address",
            cause="it is a model that an OpenAI-compatible server answers for",
            hint="set judge_endpoint (http://HOST:PORT/v1) and judge_model in [evaluation] of antidote.toml",
        )
    key = os.environ.get(endpoint.KEY_VARIABLE) or None
    return chat_api.connect(settings.judge_endpoint, key, settings.judge_model)


def _build_endpoint_judge(settings: EvaluationSection, store: Path) -> endpoint.EndpointJudge:
    api = connect_endpoint(settings)
    identity = JudgeIdentity(endpoint.NAME, "harmful_score", api.model, detail=endpoint.describe_rubric())
    return endpoint.EndpointJudge(identity, api, store)


def _build_model_judge(fetched: FetchedJudge, settings: EvaluationSection, sandbox: Sandbox, store: Path) -> Judge:
    name, folder, revision = fetched.spec.name, fetched.folder, fetched.revision
    if folder is None:
        raise ValueError(f"the judge {name} has weights, and none were pulled")
    repository = REPOSITORIES[name]
    prompting = repository.guard_format
    layout = read_layout(folder, "ForCausalLM" if prompting else "ForSequenceClassification")
    if layout.kind != "full":
        raise ConfigurationError(f"{folder.name} is an adapter", hint="merge it into its base")
    tokens = read_special_tokens(folder)
    if prompting is None:
        beaver_dam.require_compatible(layout, settings.judge_window)
        detail = beaver_dam.describe_window(settings.judge_window)
    else:
        _require_chat_template(layout)
        detail = prompting.detail
    if revision is None:
        detail = "; ".join(filter(None, [detail, f"sha256 {loading.model_fingerprint(Model(folder))[:16]}"]))
    model = folder.name if revision is None else repository.id
    identity = JudgeIdentity(name, "harmful_score", model, revision, detail)
    if prompting is None:
        return beaver_dam.BeaverDamJudge(identity, sandbox, folder, store, settings.judge_window, tokens)
    return GuardJudge(identity, sandbox, Model(folder), store, prompting, tokens)


def _require_chat_template(layout: CheckpointLayout) -> None:
    """A guard's template holds its policy: under a plain one it would be another judge."""
    files = (layout.folder / name for name in ("chat_template.jinja", "chat_template.json"))
    config = layout.folder / "tokenizer_config.json"
    in_config = config.is_file() and read_object(config, MAX_CONFIG_BYTES).get("chat_template")
    if not in_config and not any(path.is_file() for path in files):
        raise ConfigurationError(
            f"{layout.folder.name} has no chat template",
            cause="a guard's policy stands in its template",
            hint="keep the tokenizer files of the original repository beside the weights",
        )
