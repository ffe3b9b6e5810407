"""Result types of steps: one frozen type per step, parsed from the counts of its record.

A step's counts are checked against its type before they are written, so a reader finds what the
type says or a DataError that names the step.
"""

from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from persyn_ray.errors import DataError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.records import Record, read_record


class ResultPart(BaseModel):
    """A frozen part of a result; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StepResult(ResultPart):
    """What all steps count."""

    step: ClassVar[str]
    rows: int = 0
    """Rows of the step's main table, or rows that its actors worked on."""


class PromptsResult(StepResult):
    """Step prompts."""

    step = "prompts"
    errors: int = 0
    """Rows that are no prompt; they are dead letters."""
    duplicates: int = 0
    splits: dict[str, int]
    """Number of prompts by split."""
    sharding: str
    """Fingerprint of how prompts were put into shards."""
    shards: dict[str, list[str]]
    """Names of the shards of each split."""


class TeacherProgress(ResultPart):
    """What a teacher's own actor group did."""

    rows: int
    tokens: int
    seconds: float


class AskedResult(StepResult):
    """What asking the teachers came to."""

    tokens: int = 0
    errors: int = 0
    unavailable: int = 0
    """Rows whose teacher gave no answer in this run; they stay open."""
    teachers: dict[str, TeacherProgress] = {}
    """Teachers with an actor group of their own."""
    odd_endings: dict[str, int] = {}
    """Responses that ended in words which nothing knows, by their note."""


class CollectResult(AskedResult):
    """Step collect."""

    step = "collect"


class ScoreResult(StepResult):
    """Step score."""

    step = "score"
    tokens: int = 0
    nulls: int = 0
    over_budget: int | None = None
    """Responses without a grade since a judge's budget was used up; None without judges."""
    unreadable: int = 0
    """Responses that the student's chat template cannot carry."""


class RewardsResult(StepResult):
    """Step rewards."""

    step = "rewards"
    teachers: dict[str, dict[str, Any]] = {}
    """Means of each teacher on the parallel set, see `shards.aggregates`."""

    def mean_loss(self, teacher: str) -> float | None:
        """A teacher's mean loss in nats per token; None where nothing of it was scored."""
        return self.teachers.get(teacher, {}).get("mean_loss")


class RouterResult(StepResult):
    """Step router; `rows` are prompts that routers were fitted on."""

    step = "router"


class LimitsPlanned(ResultPart):
    """PerSyn's assignment within limits, by limit, teacher or point."""

    limits: dict[str, float]
    used: dict[str, float]
    value: float
    bound: float
    gap: float
    unconstrained_value: float
    pareto: list[dict[str, Any]]
    costs: dict[str, dict[str, float | None]]
    candidates: list[str]
    prompts: dict[str, int]


class LimitsUsed(ResultPart):
    """What is used of the limits in the end, after prompts went to next-best teachers."""

    used: dict[str, float]
    exceeded: dict[str, float]
    prompts: dict[str, int]


class RouteResult(StepResult):
    """Step route."""

    step = "route"
    errors: int = 0
    """Prompts that no teacher can take."""
    assigned: dict[str, dict[str, int]] = {}
    """Prompts of each teacher, by method."""
    constraints: LimitsPlanned | None = None


class SynthesizeResult(AskedResult):
    """Step synthesize."""

    step = "synthesize"
    examples: dict[str, dict[str, int]] = {}
    """What became of the prompts of each method, see `shards.tables.ExampleCounts`."""
    constraints: LimitsUsed | None = None


class FinetuneResult(StepResult):
    """Step finetune."""

    step = "finetune"
    students: dict[str, dict[str, Any]] = {}
    """Facts of each student's training, by method."""


class EvaluateResult(StepResult):
    """Step evaluate."""

    step = "evaluate"
    tokens: int = 0


_Result = TypeVar("_Result", bound=StepResult)


def result_of(record: Record, kind: type[_Result]) -> _Result:
    """The typed result of a step's record.

    Raises:
        DataError: the record holds something else.
    """
    try:
        return kind.model_validate(record.counts)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"The record of step {record.step} holds no result of it: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Do the step again: --from "
            f"{record.step}."
        ) from error


def read_result(folder: Folder, kind: type[_Result]) -> _Result | None:
    """The result of a finished step among a run's records, or None.

    Raises:
        DataError: its record cannot be read, or holds something else.
    """
    record = read_record(folder, kind.step)
    return None if record is None else result_of(record, kind)
