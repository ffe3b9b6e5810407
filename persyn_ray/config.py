"""The recipe: one YAML file read into frozen models; unknown keys are refused.

Sections are named after the steps. Defaults are the paper's where it gives one (docstrings say so).
`resources` and `run` are execution: they never enter a step's identity, so a bigger cluster goes on
with the same run. Every other value does.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from persyn_ray.assignment import Assignment
from persyn_ray.credentials import GUARDED, places_of_secrets
from persyn_ray.errors import ConfigError
from persyn_ray.pool import TeacherPool
from persyn_ray.scoring import Check, Scoring, needs_reference
from persyn_ray.sections import Model, Section, Student
from persyn_ray.serving import Serving
from persyn_ray.teachers import Teacher

BASELINES = ("random", "best_constant", "strong", "oracle")
Method = Literal[
    "random",
    "best_constant",
    "strong",
    "mix",
    "family_strong",
    "car",
    "quality_only",
    "learnability_only",
    "knn",
    "linear_probe",
    "oracle",
]

EMBEDDED = ("knn", "linear_probe")
"""Methods that read the frozen backbone's embeddings."""
SELECTING = ("oracle", "quality_only", "learnability_only")
"""Methods that select among the responses of all teachers."""
BY_LEARNABILITY = ("learnability_only", "car")
"""Methods that read the student's measures, whatever alpha is."""


Tag = Annotated[str, Field(min_length=1)]


class Prompts(Section):
    """Where the prompts come from and how they are split."""

    path: str | tuple[str, ...]
    """Paths or globs of parquet, jsonl, json, csv or tsv files (any fsspec address), `hub:NAME` or
    `package:...`."""
    config: str | None = None
    """Configuration name of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Revision of a hub data set (a branch, a tag or a commit); the newest by default."""
    column: str = "prompt"
    """Column with the text, or with a conversation (a list of messages in OpenAI's or ShareGPT's
    form, up to its last user turn). `instruction` takes a column `input` along, as in Alpaca."""
    reference_column: str | None = None
    """Column with the right answer; needed by exact_answer and exact_match."""
    task_column: str | None = None
    """Column with a label for break-downs in the report."""
    system_prompt: str | None = None
    """System message put before plain-text prompts."""
    template: str = "{prompt}"
    """How plain text becomes the user message."""
    limit: int | None = Field(None, ge=1)
    """Take at most so many prompts (after de-duplication, by seeded draw)."""
    num_parallel: int = Field(2500, ge=1)
    """Size of the parallel set, which all teachers answer (the paper: 2.5K)."""
    num_heldout: int = Field(0, ge=0)
    """Prompts set aside for evaluation, when `evaluate.path` names no file of its own."""
    shard_rows: int = Field(256, ge=1)
    """Prompts per shard: the unit of work and of resumption."""
    seed: int = 0
    """Seed of the split."""


class Responses(Section):
    """What becomes of responses between teacher and student."""

    store: str | None = None
    """Folder or fsspec address that runs share; by default each run keeps its own responses."""
    incomplete: Literal["drop", "next_best", "keep"] = "drop"
    """A response that was cut, that goes round in circles or failed: count it and leave it out, ask
    the next-best teacher, or (cut ones) train on it all the same."""
    thinking: Literal["keep", "strip"] = "keep"
    """Whether the student sees text between the think tags; learnability is that
    of what training sees, quality that of what follows the thinking."""
    think_tags: tuple[Tag, Tag] = ("<think>", "</think>")
    """How thinking begins and ends."""
    loop_repeats: int | None = Field(8, ge=2)
    """A passage repeated so often in a row, at least 200 characters in all, is a loop."""


class Lora(Section):
    """Low-rank adapters in place of full fine-tuning (the paper: from 14B on)."""

    rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    target_modules: str = "all-linear"


class Router(Section):
    """The router. Training settings are ours: the paper's are not known."""

    backbone: Model
    pooling: Literal["auto", "last", "mean"] = "auto"
    """last token for decoders, mean for encoders."""
    loss: Literal["bradley_terry", "plackett_luce", "regression"] = "bradley_terry"
    """What is fitted: each pair of teachers (the paper), the whole ranking, or the rewards."""
    ties: Literal["drop", "half"] = "drop"
    """Equal rewards make no pair, or half a win each (regression fits them as they are)."""
    heldout_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the parallel set kept for early stopping and the router's figures, by prompt."""
    epochs: float = Field(3, gt=0)
    learning_rate: float = Field(1e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_length: int = Field(1024, ge=1)
    patience: int = Field(3, ge=1)
    """Evaluations without a better hold-out loss before the fit stops."""
    evaluations_per_epoch: int = Field(1, ge=1)
    freeze_backbone: bool = False
    """Fit the head alone: every prompt is embedded once for all fits and epochs. A head by itself
    wants a far higher `learning_rate`, about 1e-2."""
    lora: Lora | None = None
    """Fit adapters of the backbone in place of its weights; they are merged into the router."""
    learning_curve: tuple[int, ...] = ()
    """Numbers of parallel prompts at which the router is also fitted, for the learning curve."""
    transfer: bool = False
    """Also fit a router without each task (`prompts.task_column`) and one on each task alone."""
    extend: str | None = None
    """Folder or fsspec address of a router (RUN/router of another run) fitted for some of these
    teachers. Its backbone and columns stay as they are; the others get columns of their own, fitted
    on the prompts where their rewards are known. `backbone` is then not loaded."""
    seed: int = 0

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "Router":
        if self.lora is not None and self.freeze_backbone:
            raise ValueError("lora adapts the backbone that freeze_backbone keeps: set one of them")
        without_effect = {
            "learning_curve": self.learning_curve,
            "transfer": self.transfer,
            "lora": self.lora,
        }
        given = [name for name, value in without_effect.items() if value]
        if self.extend is not None and given:
            raise ValueError(f"extend fits columns alone: remove {given} from router")
        return self


class Finetune(Section):
    """Fine-tuning of the student on response tokens. The paper's settings are not known."""

    epochs: float = Field(2, gt=0)
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many optimiser steps."""
    learning_rate: float = Field(1e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(32, ge=1)
    """Examples per optimiser step, over all workers and accumulation."""
    micro_batch_size: int = Field(4, ge=1)
    """Examples per worker and forward pass."""
    max_length: int = Field(4096, ge=2)
    """Longer examples are left out and counted."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    save_steps: int = Field(200, ge=1)
    """Optimiser steps between checkpoints to resume from."""
    seed: int = 0


class Evaluate(Section):
    """Held-out problems with checkable answers."""

    path: str | tuple[str, ...] | None = None
    """File of held-out problems (columns as in `prompts`); otherwise `prompts.num_heldout`."""
    limit: int | None = Field(None, ge=1)
    """Decode at most so many of the held-out problems."""
    max_tokens: int = Field(256, ge=1)
    batch_size: int = Field(64, ge=1)
    check: Check | None = None
    """How answers are checked; by default as `scoring.quality`, when that is an exact check."""


class Compare(Section):
    """Other ways to fill the assignment, measured beside PerSyn."""

    methods: tuple[Method, ...] = BASELINES
    """References. They share every later step. Of these oracle, quality_only and learnability_only
    select among all teachers' responses."""
    strong: str | None = None
    """The most capable teacher; the best mean quality on the parallel set by default."""
    weak: str | None = None
    """The other teacher of `mix`; the lowest mean quality on the parallel set by default."""
    mix_share: float = Field(0.2, ge=0, le=1)
    """Share of the strong teacher in `mix` (Mix distillation: 1 to 4; the paper's is not known)."""
    family: tuple[str, ...] = ()
    """Teachers of the student's own family, of whom `family_strong` takes the strongest."""
    car_beta: float = Field(1.0, ge=0)
    """Weight of the loss in CAR; the papers' value is not known."""
    num_neighbours: int = Field(10, ge=1)
    """Parallel prompts that `knn` looks at."""
    students: bool = False
    """Also generate, fine-tune and evaluate for each method."""
    heldout: bool = False
    """All teachers answer the held-out prompts too, so that routed reward can be measured there."""

    def require_teachers(self, names: tuple[str, ...]) -> None:
        """Refuse names that are no teacher's, and family_strong without a family."""
        for key, given in (
            ("strong", (self.strong,)),
            ("weak", (self.weak,)),
            ("family", self.family),
        ):
            for name in given:
                if name is not None and name not in names:
                    raise ValueError(f"compare.{key} is {name!r}, which is no teacher: {names}")
        if "family_strong" in self.methods and not self.family:
            raise ValueError(
                "compare.methods has family_strong: list the teachers of the student's family in "
                "compare.family"
            )


class StepResources(Section):
    """What a pool of actors takes from the cluster."""

    actors: int = Field(1, ge=1)
    cpus: float = Field(1.0, ge=0)
    """Logical CPUs per actor."""
    gpus: float = Field(0.0, ge=0)
    """GPUs per actor."""
    threads: int | None = Field(None, ge=1)
    """Torch threads per actor; the number of logical CPUs by default."""


class TrainResources(Section):
    """What a training run takes from the cluster."""

    workers: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    max_failures: int = Field(2, ge=-1)
    """Restarts after the death of a worker."""
    side_by_side: int = Field(1, ge=1)
    """Students fine-tuned at the same time, each with its own workers."""


class Resources(Section):
    """Execution only: never part of a run's identity."""

    collect: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    score: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    quality: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    score_with_collect: bool = False
    """Score responses in the actors that collect them: teachers and student share a process."""
    route: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    synthesize: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    evaluate: StepResources = StepResources()  # pyright: ignore[reportCallIssue]
    router: TrainResources = TrainResources()  # pyright: ignore[reportCallIssue]
    finetune: TrainResources = TrainResources()  # pyright: ignore[reportCallIssue]


class Hardware(Section):
    """The cluster that `persyn plan` reckons with. Never part of a run's identity."""

    nodes: int = Field(0, ge=0)
    """Nodes with GPUs; 0 plans for no GPU."""
    gpus_per_node: int = Field(8, ge=1)
    gpu_memory_gib: float = Field(80.0, gt=0)
    gpu_bandwidth_gb: float = Field(3350.0, gt=0)
    """Memory bandwidth of a GPU in GB/s (H100 SXM: 3,350)."""
    gpu_tflops: float = Field(990.0, gt=0)
    """Dense bf16 arithmetic of a GPU (H100 SXM: 990)."""
    read_gb_per_second: float = Field(2.0, gt=0)
    """How fast a node reads weights."""
    gpu_hour_dollars: float | None = Field(None, ge=0)


class Recipe(Section):
    """A whole run."""

    run: str
    """Run folder: a local path or any fsspec address, shared by all nodes of a cluster."""
    name: str | None = None
    """Title of the report and the data set card."""
    ledger: str | None = None
    """Folder or fsspec address where spending at endpoints is recorded; RUN/ledger by default. Runs
    that name the same one share their budgets, as the seeds of a comparison do."""
    student: Student
    teachers: tuple[Teacher, ...]
    prompts: Prompts
    scoring: Scoring
    responses: Responses = Responses()  # pyright: ignore[reportCallIssue]
    router: Router
    finetune: Finetune = Finetune()  # pyright: ignore[reportCallIssue]
    evaluate: Evaluate = Evaluate()  # pyright: ignore[reportCallIssue]
    assignment: Assignment = Assignment()  # pyright: ignore[reportCallIssue]
    compare: Compare = Compare()  # pyright: ignore[reportCallIssue]
    serving: Serving = Serving()  # pyright: ignore[reportCallIssue]
    resources: Resources = Resources()  # pyright: ignore[reportCallIssue]
    hardware: Hardware = Hardware()  # pyright: ignore[reportCallIssue]

    @property
    def pool(self) -> TeacherPool:
        """The teachers' names, in the recipe's order."""
        return TeacherPool(tuple(teacher.name for teacher in self.teachers))

    @property
    def measures_learnability(self) -> bool:
        """Whether the student scores responses: something reads it, or the recipe says so.

        Limits in tokens read it as well where responses are recorded: only the student counts them.
        """
        is_recorded = any(teacher.engine.kind == "recorded" for teacher in self.teachers)
        return (
            self.scoring.measure == "always"
            or self.scoring.weighs_learnability
            or bool(set(BY_LEARNABILITY) & set(self.compare.methods))
            or (is_recorded and self.assignment.max_tokens is not None)
        )

    @field_validator("teachers")
    @classmethod
    def _pool_is_sound(cls, teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        TeacherPool(tuple(teacher.name for teacher in teachers))
        return teachers

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        self.compare.require_teachers(self.pool.names)
        self.assignment.require_teachers(tuple(t.name for t in self.teachers if not t.retired))
        self._require_costs()
        per_pass = self.finetune.micro_batch_size * self.resources.finetune.workers
        if self.finetune.batch_size % per_pass:
            raise ValueError(
                f"finetune.batch_size {self.finetune.batch_size} is no multiple of "
                f"finetune.micro_batch_size {self.finetune.micro_batch_size} x "
                f"{self.resources.finetune.workers} (resources.finetune.workers)"
            )
        kind = self.scoring.quality.kind
        if needs_reference(self.scoring.quality) and self.prompts.reference_column is None:
            raise ValueError(f"scoring.quality.kind {kind} needs prompts.reference_column")
        if self.evaluate.check is not None and self.prompts.reference_column is None:
            raise ValueError("evaluate.check needs prompts.reference_column")
        if self.compare.heldout and self.evaluate.path is None and self.prompts.num_heldout == 0:
            raise ValueError(
                "compare.heldout needs held-out prompts: set prompts.num_heldout or evaluate.path"
            )
        return self

    def _require_costs(self) -> None:
        """Refuse limits on what nothing in the recipe can tell."""
        limits, hardware = self.assignment, self.hardware
        has_rate = hardware.nodes > 0 and hardware.gpu_hour_dollars is not None
        if limits.max_dollars is not None and not (
            has_rate or any(teacher.price for teacher in self.teachers)
        ):
            raise ValueError(
                "assignment.max_dollars needs what a teacher costs: teachers.N.price, or "
                "hardware.nodes and hardware.gpu_hour_dollars"
            )
        if limits.max_gpu_seconds is not None and not hardware.nodes:
            raise ValueError("assignment.max_gpu_seconds needs hardware (hardware.nodes is 0)")


_PLACES = {"base_url": True, "api_key_env": True, "api_key_file": True}
NOT_SHOWN: dict[str, Any] = {
    "run": True,
    "ledger": True,
    "serving": True,
    "responses": {"store": True},
    "teachers": {"__all__": {"engine": _PLACES}},
    "scoring": {
        "quality": {"engine": _PLACES, "parts": {"__all__": {"quality": {"engine": _PLACES}}}}
    },
}
"""Where a run, its endpoints and their keys lie: nobody's business who reads of its results."""


def shown(recipe: Recipe) -> dict[str, Any]:
    """The recipe as reports and data set cards show it: all that shapes the results."""
    return recipe.model_dump(mode="json", exclude=NOT_SHOWN)


def stored(recipe: Recipe) -> dict[str, Any]:
    """The recipe as its run keeps it: enough to make the run again, and nobody is let in by it."""
    return recipe.model_dump(mode="json", exclude={"serving": {"keys"}})


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides (values are YAML).

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or does not fit the recipe's schema.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"No recipe at {path}. `persyn init {path}` writes one to start from.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text: {error.reason}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {yaml_problem(error)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, found {type(data).__name__}.")
    for override in overrides:
        data = change(data, override)
    return parse_recipe(data, str(path))


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, and where; not the text itself, which may hold a key."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{problem or type(error).__name__}{where}"


def parse_recipe(data: dict[str, Any], where: str) -> Recipe:
    """Validate a mapping; every complaint names its key by its dotted path.

    Raises:
        ConfigError: it does not fit the schema, or holds a secret, which no message repeats.
    """
    refuse_secrets(data, where)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_complaint(item) for item in error.errors()]
        raise ConfigError(f"{where} is no valid recipe:\n" + "\n".join(lines)) from None


def refuse_secrets(data: Any, where: str) -> None:
    """Refuse settings that hold a key, a password or a signature.

    Raises:
        ConfigError: naming each place, and no secret.
    """
    if places := places_of_secrets(data):
        raise ConfigError(f"{where} holds secrets:\n" + "\n".join(places))


def _complaint(item: Any) -> str:
    key = dotted(item["loc"]) or "recipe"
    is_quiet = item["type"] in ("missing", "extra_forbidden") or not GUARDED.isdisjoint(item["loc"])
    given = "" if is_quiet else f" (given: {item['input']!r})"
    return f"  {key}: {item['msg']}{given if len(given) < 200 else ''}"


def dotted(loc: tuple[str | int, ...]) -> str:
    """Where a complaint belongs; whoever has a key is not named, for it may be the key."""
    parts = [str(part) for part in loc]
    if "keys" in parts[:-1]:
        parts = [*parts[: parts.index("keys") + 1], "NAME"]
    return ".".join(parts)


def change(data: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of a mapping with one override applied.

    Raises:
        ConfigError: it is no `section.key=value`, or does not fit what is there.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"Override {override!r} must read section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"Override {key!r}: the value is no valid YAML: {yaml_problem(error)}"
        ) from None
    return _changed(data, key.split("."), value, key)


def _changed(node: Any, keys: list[str], value: Any, whole: str) -> Any:
    """A copy of a node with one value set: YAML aliases share nodes, which must not change."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise ConfigError(
                f"Override {whole!r}: {key!r} is no position in a list of {len(node)}; "
                "positions start at 0."
            )
        copy = list(node)
        copy[int(key)] = _changed(node[int(key)], rest, value, whole)
        return copy
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"Override {whole!r}: {key!r} stands below a plain value.")
    return (node or {}) | {key: _changed((node or {}).get(key), rest, value, whole)}
