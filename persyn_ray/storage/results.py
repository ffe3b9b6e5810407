"""Result types of steps: one frozen type per step, which its function returns and its record holds.

What is read back is checked again, so a reader finds what the type says or a DataError that names
the step.
"""

from typing import ClassVar, TypeVar

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

    @property
    def num_lost(self) -> int:
        """Nulls and dead letters among them."""
        return 0


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

    @property
    def num_lost(self) -> int:
        return self.errors


class EngineUse(ResultPart):
    """How full a teacher's engines were: by the metrics of vLLM, or by requests under way."""

    running_mean: float
    """Responses running in one engine, mean over the time in which any was."""
    running_max: float
    kv_use_mean: float | None = None
    """Share of the KV cache in use (0–1); None of engines that do not tell."""


class TeacherProgress(ResultPart):
    """What a teacher's own actor group did."""

    rows: int
    tokens: int
    seconds: float
    engine: EngineUse | None = None
    """None where it was not measured."""

    def __add__(self, other: "TeacherProgress") -> "TeacherProgress":
        return TeacherProgress(
            rows=self.rows + other.rows,
            tokens=self.tokens + other.tokens,
            seconds=self.seconds + other.seconds,
        )


class Asked(ResultPart):
    """What the teachers did when they were asked; rounds can be added."""

    rows: int = 0
    tokens: int = 0
    errors: int = 0
    unavailable: int = 0
    """Rows whose teacher gave no answer in this run; they stay open."""
    teachers: dict[str, TeacherProgress] = {}
    """Teachers with an actor group of their own."""

    def __add__(self, other: "Asked") -> "Asked":
        teachers = dict(self.teachers)
        for name, more in other.teachers.items():
            teachers[name] = teachers[name] + more if name in teachers else more
        return Asked(
            rows=self.rows + other.rows,
            tokens=self.tokens + other.tokens,
            errors=self.errors + other.errors,
            unavailable=self.unavailable + other.unavailable,
            teachers=teachers,
        )


class AskedResult(Asked, StepResult):
    """What asking the teachers came to."""

    odd_endings: dict[str, int] = {}
    """Responses that ended in words which nothing knows, by their note."""

    @property
    def num_lost(self) -> int:
        return self.errors


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

    @property
    def num_lost(self) -> int:
        return self.nulls


class TeacherAggregates(ResultPart):
    """Means over a teacher's complete responses to the parallel set; None where none is known."""

    num_responses: int = 0
    """Responses that have a reward."""
    mean_reward: float | None = None
    mean_quality: float | None = None
    """With several qualities their weighted mean."""
    qualities: dict[str, float | None] = {}
    """Each of several qualities by itself, on its own scale; empty where there is one."""
    mean_loss: float | None = None
    """Nats per token, averaged over responses."""
    token_loss: float | None = None
    """Nats per token, averaged over tokens."""
    mean_tokens: float | None = None
    """Length in the student's tokens."""
    local_log_likelihood: float | None = None
    lowest_window: float | None = None
    rank_surprisal: float | None = None
    entropy: float | None = None


class RewardsResult(StepResult):
    """Step rewards."""

    step = "rewards"
    teachers: dict[str, TeacherAggregates] = {}

    def mean_loss(self, teacher: str) -> float | None:
        """A teacher's mean loss in nats per token; None where nothing of it was scored."""
        found = self.teachers.get(teacher)
        return None if found is None else found.mean_loss


class RouterResult(StepResult):
    """Step router; `rows` are prompts that routers were fitted on."""

    step = "router"
    kind: str = "fitted"
    """The kind of the router, which `router.kind: auto` chooses."""
    why: str | None = None
    """Why that one."""


class ParetoPoint(ResultPart):
    """A point of the front of summed predicted reward against what the assignment costs."""

    cost: float
    reward: float
    unit: str


class LimitsPlanned(ResultPart):
    """PerSyn's assignment within limits, by limit, teacher or point."""

    limits: dict[str, float]
    used: dict[str, float]
    value: float
    bound: float
    gap: float
    unconstrained_value: float
    pareto: list[ParetoPoint]
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

    @property
    def num_lost(self) -> int:
        return self.errors


class ExtraRows(ResultPart):
    """What became of the rows of a data set of one's own (`dataset.extra`)."""

    kept: int = 0
    unreadable: int = 0
    """Rows that are no example."""
    first_unreadable: str | None = None
    duplicates: int = 0
    """Prompts that are there twice, or that the student learns from already."""
    contaminated: int = 0
    """Rows that overlap with a problem of evaluation."""
    not_drawn: int = 0


class MethodExamples(ResultPart):
    """What became of the prompts of one method.

    All counts of prompts but `kept_truncated` and `reassigned` add up to them.
    """

    kept: int = 0
    without_response: int = 0
    truncated: int = 0
    looped: int = 0
    without_teacher: int = 0
    kept_truncated: int = 0
    """Those among the kept that were cut by the token limit."""
    reassigned: int = 0
    """Prompts with another teacher than the method's first choice."""
    wrong: int = 0
    """Left out as a check finds the response wrong (`dataset.drop`)."""
    contaminated: int = 0
    """Left out as prompt or response overlaps with a problem of evaluation."""
    left_out: int = 0
    """Prompts of the parallel set that students do not learn from (`dataset.parallel`)."""
    extra: dict[str, ExtraRows] = {}
    """By name of the data set."""


class SynthesizeResult(AskedResult):
    """Step synthesize."""

    step = "synthesize"
    examples: dict[str, MethodExamples] = {}
    constraints: LimitsUsed | None = None


class TrainingLoss(ResultPart):
    """A point of a loss curve."""

    step: int
    train_loss: float | None = None
    heldout_loss: float | None = None


class TrainingSpeed(ResultPart):
    """Steps of a training since its start, or since it was last resumed; over all workers."""

    seconds: float
    response_tokens: int
    """Tokens that are learned."""
    tokens: int
    """With those of prompts, without padding."""
    flops: float
    """Floating-point operations of the model, see models/finetune/speed.py."""

    @property
    def response_tokens_per_second(self) -> float:
        """Response tokens per second."""
        return self.response_tokens / self.seconds


class TunedStudent(ResultPart):
    """Facts of a student's training, as step finetune leaves them beside its weights."""

    num_examples: int
    num_too_long: int
    """Examples longer than `finetune.max_length`, which were left out or cut."""
    too_long_by_teacher: dict[str, int] = {}
    num_unreadable: int
    """Examples that its chat template cannot carry; it was not tuned on them."""
    first_unreadable: str | None = None
    num_heldout: int = 0
    """Of the examples, those kept from training to measure the loss on."""
    num_steps: int = 0
    kept_step: int | None = None
    """The step whose student was exported."""
    is_stopped_early: bool = False
    """Whether training ended because the loss got no better."""
    loss_curve: list[TrainingLoss] = []
    speed: TrainingSpeed | None = None
    mfu: float | None = None
    """Model FLOP/s utilisation: the speed over what the GPUs can do by their data sheet."""
    mfu_unknown: str | None = None
    """Why it is not known."""


class FinetuneResult(StepResult):
    """Step finetune."""

    step = "finetune"
    students: dict[str, TunedStudent] = {}
    """By method."""


class EvaluateResult(StepResult):
    """Step evaluate."""

    step = "evaluate"
    tokens: int = 0
    lm_eval: dict[str, dict[str, dict[str, float]]] = {}
    """Of the evaluation harness, by student, task and metric."""


_Result = TypeVar("_Result", bound=StepResult)


def result_of(record: Record, kind: type[_Result]) -> _Result:
    """The typed result of a step's record.

    Raises:
        DataError: the record holds something else.
    """
    try:
        return kind.model_validate(record.result)
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
