"""Gathers what a forecast rests on: sections of a recipe and what a run holds in, one value out."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from persyn_ray.pipeline.assign.methods import MethodSettings, settings_of
from persyn_ray.pipeline.plan.forecasts import expected_tokens
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length, Share, Stored
from persyn_ray.pipeline.plan.placement import Deployment, Placed, deployment_of
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import HardwareConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.results import CollectResult, TeacherProgress, result_of


@dataclass(frozen=True)
class SharedActors:
    """Actors of the pool of the teachers without one of their own, in each step."""

    collect: int
    synthesize: int


@dataclass(frozen=True)
class ForecastSettings:
    """What of a recipe a forecast goes by."""

    deployment: Deployment
    methods: MethodSettings
    shared_actors: SharedActors


def forecast_settings(recipe: Recipe) -> ForecastSettings:
    """The settings of a recipe that its forecast goes by."""
    shared = recipe.resources
    actors = SharedActors(shared.collect.most, shared.synthesize.most)
    return ForecastSettings(deployment_of(recipe), settings_of(recipe), actors)


@dataclass(frozen=True)
class Known:
    """All that a forecast rests on."""

    settings: ForecastSettings
    run: RunLayout
    splits: dict[str, int]
    placed: dict[str, Placed]
    """Teachers on GPUs."""
    stored: dict[str, Stored]
    lengths: dict[str, Length]
    share: Share
    is_routed: bool
    collect: Record | None
    """The record of step collect, once it is done."""
    before: dict[str, Any]
    """The forecast that step collect began with, by teacher."""

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        return self.settings.deployment.teachers

    @property
    def hardware(self) -> HardwareConfig:
        return self.settings.deployment.hardware

    @property
    def compare(self) -> CompareConfig:
        return self.settings.methods.compare

    @cached_property
    def collected(self) -> CollectResult | None:
        """The result of step collect; parsed once, every teacher's speed is read from it."""
        return None if self.collect is None else result_of(self.collect, CollectResult)

    def measured(self, name: str) -> TeacherProgress | None:
        """What a teacher's own pool did in step collect; None without tokens or time."""
        done = self.collected.teachers.get(name) if self.collected is not None else None
        return done if done is not None and done.seconds and done.tokens else None


def gather_known(
    settings: ForecastSettings,
    run: RunLayout,
    counted: Counted,
    placed: dict[str, Placed],
    done: Iterable[str],
) -> Known:
    """Read what the run holds; `done` are the steps whose output is by the same recipe."""
    finished, teachers = set(done), settings.deployment.teachers
    stored = {teacher.name: Stored() for teacher in teachers}
    if "prompts" in finished:
        stored = expected_tokens.stored_responses(teachers, run)
    lengths = {
        teacher.name: expected_tokens.expected_length(
            teacher, stored[teacher.name], counted.prompt_tokens
        )
        for teacher in teachers
    }
    is_routed = "route" in finished
    share = expected_tokens.expected_share(settings.methods, run, is_routed, "rewards" in finished)
    collect = read_record(run.records, "collect") if "collect" in finished else None
    before = read_forecast(run, "collect").get("teachers", {}) if collect is not None else {}
    return Known(
        settings=settings,
        run=run,
        splits=counted.splits,
        placed=placed,
        stored=stored,
        lengths=lengths,
        share=share,
        is_routed=is_routed,
        collect=collect,
        before=before,
    )


def read_forecast(run: RunLayout, step: str) -> dict[str, Any]:
    """The forecast that a step began with; empty if it left none."""
    name = f"forecast-{step}.json"
    return run.records.read_json(name) if run.records.exists(name) else {}
