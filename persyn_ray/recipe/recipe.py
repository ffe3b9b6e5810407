"""The recipe: one YAML file read into frozen models; unknown keys are refused.

Sections are named after the steps. Defaults are the paper's where it gives one (docstrings say so).
`resources` and `run` are execution: they never enter a step's identity, so a bigger cluster goes on
with the same run. Every other value does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, field_validator, model_validator

from persyn_ray.credentials import places_of_secrets
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.base import Section, StudentConfig
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.data import DatasetConfig, PromptsConfig, ResponsesConfig
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.reading.complaints import complaints
from persyn_ray.recipe.reading.overrides import change, yaml_problem
from persyn_ray.recipe.resources import HardwareConfig, ResourcesConfig
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.recipe.scoring import ScoringConfig, has_check, needs_reference
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig, FinetuneConfig

BY_LEARNABILITY = ("learnability_only", "car")
"""Methods that read the student's measures, whatever alpha is."""


class Recipe(Section):
    """A whole run."""

    run: str
    """Run folder: a local path or any fsspec address, shared by all nodes of a cluster."""
    name: str | None = None
    """Title of the report and the data set card."""
    ledger: str | None = None
    """Folder or fsspec address where spending at endpoints is recorded; RUN/ledger by default. Runs
    that name the same one share their budgets, as the seeds of a comparison do."""
    student: StudentConfig
    teachers: tuple[TeacherConfig, ...]
    prompts: PromptsConfig
    scoring: ScoringConfig
    responses: ResponsesConfig = ResponsesConfig()  # pyright: ignore[reportCallIssue]
    router: RouterConfig
    dataset: DatasetConfig = DatasetConfig()  # pyright: ignore[reportCallIssue]
    finetune: FinetuneConfig = FinetuneConfig()  # pyright: ignore[reportCallIssue]
    evaluate: EvaluateConfig = EvaluateConfig()  # pyright: ignore[reportCallIssue]
    assignment: AssignmentConfig = AssignmentConfig()  # pyright: ignore[reportCallIssue]
    compare: CompareConfig = CompareConfig()  # pyright: ignore[reportCallIssue]
    serving: ServingConfig = ServingConfig()  # pyright: ignore[reportCallIssue]
    resources: ResourcesConfig = ResourcesConfig()  # pyright: ignore[reportCallIssue]
    hardware: HardwareConfig = HardwareConfig()  # pyright: ignore[reportCallIssue]

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
    def _pool_is_sound(cls, teachers: tuple[TeacherConfig, ...]) -> tuple[TeacherConfig, ...]:
        TeacherPool(tuple(teacher.name for teacher in teachers))
        return teachers

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        self.compare.require_teachers(self.pool.names)
        self.assignment.require_teachers(tuple(t.name for t in self.teachers if not t.retired))
        self._require_costs()
        self._require_equal_batches()
        kind = self.scoring.quality.kind
        if needs_reference(self.scoring.quality) and self.prompts.reference_column is None:
            raise ValueError(f"scoring.quality.kind {kind} needs prompts.reference_column")
        if self.router.kind == "per_task" and self.prompts.task_column is None:
            raise ValueError("router.kind per_task needs prompts.task_column, a column of labels")
        if "wrong" in self.dataset.drop and not has_check(self.scoring.quality):
            raise ValueError(
                f"dataset.drop wrong needs a check: scoring.quality.kind {kind} tells no response "
                "to be wrong"
            )
        check = self.evaluate.check
        if check and needs_reference(check) and self.prompts.reference_column is None:
            raise ValueError("evaluate.check needs prompts.reference_column")
        if self.compare.heldout and self.evaluate.path is None and self.prompts.num_heldout == 0:
            raise ValueError(
                "compare.heldout needs held-out prompts: set prompts.num_heldout or evaluate.path"
            )
        return self

    def _require_equal_batches(self) -> None:
        """Refuse batches that some number of workers cannot share, or state that it cannot load."""
        batch, micro = self.finetune.batch_size, self.finetune.micro_batch_size
        workers, preset = self.resources.finetune, self.finetune.deepspeed
        if workers.is_elastic and preset != "zero0":
            raise ValueError(
                f"resources.finetune.workers [{workers.fewest}, {workers.most}] needs "
                f"finetune.deepspeed zero0, not {preset}: what ZeRO partitions is saved for one "
                "number of workers (finetune.lora keeps the memory of zero0 small)"
            )
        for number in range(workers.fewest, workers.most + 1):
            if batch % (micro * number):
                raise ValueError(
                    f"finetune.batch_size {batch} is no multiple of finetune.micro_batch_size "
                    f"{micro} x {number} (resources.finetune.workers)"
                )

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


def shown(recipe: Recipe) -> dict[str, object]:
    """The recipe as reports and data set cards show it: all that shapes the results."""
    return recipe.model_dump(mode="json", exclude=NOT_SHOWN)


def stored(recipe: Recipe) -> dict[str, object]:
    """The recipe as its run keeps it: enough to make the run again, and nobody is let in by it."""
    return recipe.model_dump(mode="json", exclude={"serving": {"keys"}})


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides (values are YAML).

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or does not fit the recipe's schema.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a recipe, which is a YAML file.")
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


def parse_recipe(data: Mapping[str, object], where: str) -> Recipe:
    """Validate a mapping; every complaint names its key by its dotted path.

    Raises:
        ConfigError: it does not fit the schema, or holds a secret, which no message repeats.
    """
    refuse_secrets(data, where)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = complaints(Recipe, error.errors())
        raise ConfigError(f"{where} is no valid recipe:\n" + "\n".join(lines)) from None


def refuse_secrets(data: Any, where: str) -> None:
    """Refuse settings that hold a key, a password or a signature.

    Raises:
        ConfigError: naming each place, and no secret.
    """
    if places := places_of_secrets(data):
        raise ConfigError(f"{where} holds secrets:\n" + "\n".join(places))
