"""The judges that `--judge` can name, their pinned repositories, and how to build them. No judge is a fallback."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import MAX_OTHER_BYTES
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.judges import Judge, endpoint, llama_guard, qwen3guard
from antidote_ci.evaluation.judges.guard import GuardFormat, GuardJudge
from antidote_ci.evaluation.judges.prompt_injection import read_special_tokens
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.paths import is_folder, is_path
from antidote_ci.policy import EvaluationSection
from antidote_ci.records import JudgeIdentity, Model
from antidote_ci.sandbox.client import Sandbox

REFUSAL = "refusal"
MAX_JUDGES = 2


@dataclass(frozen=True)
class JudgeRepository:
    """The default source of the weights of a guard model."""

    id: str
    commit: str
    guard_format: GuardFormat


REPOSITORIES = {
    "qwen3guard": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-0.6B", "fada3b2f655b89601929198343c94cd2f64d93cc", qwen3guard.FORMAT
    ),
    "qwen3guard-4b": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-4B", "6ec42827da0c1ff11e7a49dc269d2e810d27e108", qwen3guard.FORMAT
    ),
    "qwen3guard-8b": JudgeRepository(
        "Qwen/Qwen3Guard-Gen-8B", "4505cb1a6f1864f21f8b27f7daf1b9a1aab6edbb", qwen3guard.FORMAT
    ),
    "llama-guard": JudgeRepository(
        "meta-llama/Llama-Guard-3-1B", "acf7aafa60f0410f8f42b1fa35e077d705892029", llama_guard.PARTS_FORMAT
    ),
    "llama-guard-8b": JudgeRepository(
        "meta-llama/Llama-Guard-3-8B", "7327bd9f6efbbe6101dc6cc4736302b3cbb6e425", llama_guard.FORMAT
    ),
}
"""Independent public projects pin or cache the weights at the same commits: docs/judges.md."""
NAMES = (*REPOSITORIES, endpoint.NAME, REFUSAL)


@dataclass(frozen=True)
class JudgeSpec:
    """One judge of `--judge`: NAME or NAME@LOCATION."""

    name: str
    location: str | None = None
    """A revision of the judge's repository, or the path of a local folder (`paths.is_path`)."""

    @property
    def folder(self) -> str | None:
        """The local folder, or None for a revision."""
        return self.location if self.location is not None and is_path(self.location) else None


@dataclass(frozen=True)
class JudgeDownload:
    """The weights that a judge needs."""

    model: str
    """A repository on the Hub, or a local folder."""
    revision: str | None
    """None for a local folder."""


@dataclass(frozen=True)
class FetchedJudge:
    """A judge with its weights on disk."""

    spec: JudgeSpec
    folder: Path | None = None
    """None for a judge without weights."""
    revision: str | None = None
    """None for a local folder."""


def parse_judge_specs(text: str) -> list[JudgeSpec]:
    """Return the one or two judges of `--judge`. Raises ConfigurationError for unknown, repeated or too many names."""
    specs = [_parse_judge_spec(part.strip()) for part in text.split(",")]
    if len(specs) > MAX_JUDGES or len({spec.name for spec in specs}) < len(specs):
        raise ConfigurationError(
            f"invalid judges {text!r}", cause=f"at most {MAX_JUDGES} different judges can be named", hint="--judge A,B"
        )
    return specs


def _parse_judge_spec(text: str) -> JudgeSpec:
    name, at, location = text.partition("@")
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1)
        raise ConfigurationError(
            f"there is no judge {name!r}",
            hint=f"did you mean {nearest[0]}?" if nearest else f"judges are {', '.join(NAMES)}",
        )
    if at and (not location or name not in REPOSITORIES):
        raise ConfigurationError(
            f"{text!r} is not a valid location of the judge {name}",
            cause=f"{name} has no weights" if location else "a revision or a folder must follow the @",
            hint=f"{name}@REVISION, {name}@./FOLDER or {name}" if name in REPOSITORIES else f"--judge {name}",
        )
    if not is_path(location) and is_folder(location):
        raise ConfigurationError(
            f"{text!r:.200} is ambiguous: {location!r:.200} is a revision, and a local folder has this name",
            cause="a local folder must be written as a path",
            hint=f"write {name}@./{location:.200} for the folder; for the revision, run in another directory",
        )
    return JudgeSpec(name, location or None)


def resolve_download(spec: JudgeSpec) -> JudgeDownload | None:
    """Return the weights to pull for a judge, or None for a judge without weights."""
    repository = REPOSITORIES.get(spec.name)
    if repository is None:
        return None
    if spec.folder is not None:
        return JudgeDownload(spec.folder, None)
    return JudgeDownload(repository.id, spec.location or repository.commit)


def build_judge(fetched: FetchedJudge, settings: EvaluationSection, sandbox: Sandbox, store: AnswerStore) -> Judge:
    """Return the judge; its verdicts are kept in `store`.

    Raises UnsafeCheckpoint for weights that are unsafe to open, and ConfigurationError for those of another model.
    """
    name = fetched.spec.name
    if name == REFUSAL:
        return RefusalJudge()
    if name == endpoint.NAME:
        api = connect_endpoint(settings)
        identity = JudgeIdentity(name, "harmful_score", api.model, detail=endpoint.describe_rubric())
        return endpoint.EndpointJudge(identity, api, store)
    try:
        return _build_guard(fetched, sandbox, store)
    except AntidoteError as error:
        raise type(error)(
            f"the judge {name} cannot be loaded: {error.what}", cause=error.cause, hint=error.hint
        ) from error


def connect_endpoint(settings: EvaluationSection) -> chat_api.ChatApi:
    """Connect to the server of the judge `endpoint`. Raises ConfigurationError when no address is configured."""
    if settings.judge_endpoint is None:
        raise ConfigurationError(
            f"the judge {endpoint.NAME} has no address",
            cause="it needs an OpenAI-compatible server",
            hint="set judge_endpoint (http://HOST:PORT/v1) and judge_model in [evaluation] of antidote.toml",
        )
    key = os.environ.get(endpoint.KEY_VARIABLE) or None
    return chat_api.connect(settings.judge_endpoint, key, settings.judge_model)


def _build_guard(fetched: FetchedJudge, sandbox: Sandbox, store: AnswerStore) -> GuardJudge:
    name, folder, revision = fetched.spec.name, fetched.folder, fetched.revision
    if folder is None:
        raise ValueError(f"the weights of the judge {name} were not pulled")
    repository = REPOSITORIES[name]
    guard_format = repository.guard_format
    layout = read_layout(folder)
    if layout.kind != "full":
        raise ConfigurationError(f"{folder.name} is an adapter", hint="merge it into its base model")
    special_tokens = read_special_tokens(folder)
    _require_chat_template(layout)
    detail = guard_format.detail
    if revision is None:
        detail = "; ".join(filter(None, [detail, f"sha256 {model_fingerprint(Model(folder))[:16]}"]))
    model = folder.name if revision is None else repository.id
    identity = JudgeIdentity(name, "harmful_score", model, revision, detail)
    return GuardJudge(identity, TransformersGenerator(sandbox, store), Model(folder), guard_format, special_tokens)


def _require_chat_template(layout: CheckpointLayout) -> None:
    """Raise ConfigurationError without a chat template, because the template contains the policy of a guard."""
    files = (layout.folder / name for name in ("chat_template.jinja", "chat_template.json"))
    config = layout.folder / "tokenizer_config.json"
    in_config = config.is_file() and read_object(config, MAX_OTHER_BYTES).get("chat_template")
    if not in_config and not any(path.is_file() for path in files):
        raise ConfigurationError(
            f"{layout.folder.name} has no chat template",
            cause="the policy of a guard is part of its template",
            hint="copy the tokenizer files of the original repository into the folder",
        )
