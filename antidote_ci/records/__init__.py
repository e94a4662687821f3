"""Frozen records that the steps of a run exchange, and their JSON.

Shares are numbers from 0 to 1. Revisions are commit ids of 40 hex digits, or None for a local folder.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from antidote_ci.records.evaluation import MEASURE_NAMES as MEASURE_NAMES
from antidote_ci.records.evaluation import AnswerOutcome as AnswerOutcome
from antidote_ci.records.evaluation import BenignResult as BenignResult
from antidote_ci.records.evaluation import Calibration as Calibration
from antidote_ci.records.evaluation import CategoryCount as CategoryCount
from antidote_ci.records.evaluation import Divergence as Divergence
from antidote_ci.records.evaluation import Evaluation as Evaluation
from antidote_ci.records.evaluation import GateVerdict as GateVerdict
from antidote_ci.records.evaluation import JudgeIdentity as JudgeIdentity
from antidote_ci.records.evaluation import JudgeResult as JudgeResult
from antidote_ci.records.evaluation import KindResult as KindResult
from antidote_ci.records.evaluation import Measure as Measure
from antidote_ci.records.evaluation import PairedChange as PairedChange
from antidote_ci.records.evaluation import PairedComparison as PairedComparison
from antidote_ci.records.evaluation import Rate as Rate
from antidote_ci.records.evaluation import TaskResult as TaskResult
from antidote_ci.records.models import COMMIT as COMMIT
from antidote_ci.records.models import SHA256 as SHA256
from antidote_ci.records.models import ChatSettings as ChatSettings
from antidote_ci.records.models import ComputeEnvironment as ComputeEnvironment
from antidote_ci.records.models import FoundBy as FoundBy
from antidote_ci.records.models import Model as Model
from antidote_ci.records.models import ModelKind as ModelKind
from antidote_ci.records.models import OnProgress as OnProgress
from antidote_ci.records.models import Progress as Progress
from antidote_ci.records.models import PromptRow as PromptRow
from antidote_ci.records.models import ReportedReference as ReportedReference
from antidote_ci.records.models import ReportedSource as ReportedSource
from antidote_ci.records.models import Scalar as Scalar
from antidote_ci.records.models import TemplateEffect as TemplateEffect
from antidote_ci.records.models import TemplateEffects as TemplateEffects
from antidote_ci.records.models import ThoughtMode as ThoughtMode
from antidote_ci.records.models import WeightEdit as WeightEdit
from antidote_ci.records.models import is_hub_id as is_hub_id
from antidote_ci.records.repair import Grouping as Grouping
from antidote_ci.records.repair import Manifest as Manifest
from antidote_ci.records.repair import MaskFile as MaskFile
from antidote_ci.records.repair import Method as Method
from antidote_ci.records.repair import RepairPlan as RepairPlan
from antidote_ci.records.repair import RepairResult as RepairResult
from antidote_ci.records.repair import RepairTarget as RepairTarget
from antidote_ci.records.repair import ScoredTensor as ScoredTensor
from antidote_ci.records.repair import ScoreMethod as ScoreMethod
from antidote_ci.records.repair import Scores as Scores
from antidote_ci.records.repair import UntouchedWeights as UntouchedWeights
from antidote_ci.records.repair import Verification as Verification
from antidote_ci.records.repair import WeightFile as WeightFile
from antidote_ci.records.report import NOT_PASSING_FOLDER as NOT_PASSING_FOLDER
from antidote_ci.records.report import SCHEMA_VERSION as SCHEMA_VERSION
from antidote_ci.records.report import ComparedModel as ComparedModel
from antidote_ci.records.report import Comparison as Comparison
from antidote_ci.records.report import ControlResult as ControlResult
from antidote_ci.records.report import DestinationMode as DestinationMode
from antidote_ci.records.report import DoseAttempt as DoseAttempt
from antidote_ci.records.report import Evaluations as Evaluations
from antidote_ci.records.report import FrontierPoint as FrontierPoint
from antidote_ci.records.report import History as History
from antidote_ci.records.report import HistoryEntry as HistoryEntry
from antidote_ci.records.report import PromptSetRecord as PromptSetRecord
from antidote_ci.records.report import PublishMode as PublishMode
from antidote_ci.records.report import PublishResult as PublishResult
from antidote_ci.records.report import Report as Report
from antidote_ci.records.report import RunVerdict as RunVerdict

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
_ADAPTERS: "dict[type[Any], TypeAdapter[Any]]" = {}


def to_json(record: object) -> str:
    """Return the record as indented JSON."""
    return _type_adapter(type(record)).dump_json(record, indent=2).decode() + "\n"


def from_json(kind: type[Record], text: str | bytes) -> Record:
    """Parse a record of `kind`. Raises pydantic.ValidationError (a ValueError) when the JSON does not match."""
    record: Record = _type_adapter(kind).validate_json(text)
    return record


def _type_adapter(kind: type[Any]) -> "TypeAdapter[Any]":
    """Return the cached adapter of `kind`: building one takes milliseconds."""
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
