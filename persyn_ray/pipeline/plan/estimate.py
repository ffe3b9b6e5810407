"""Estimates tokens, seconds and dollars for given prompts per teacher.

Time on GPUs comes from the schedule (scheduling/schedule.py) over speeds that are estimated
(scheduling/gpu_memory.py) or, after step collect, measured; of endpoints and pools on CPUs from
what collect took. Of teachers that share a pool no time is known apart. Endpoints cost by their
price, GPUs by the hour for as long as an engine holds them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from persyn_ray.pipeline.assign.methods import settings_of
from persyn_ray.pipeline.choices import has_own_pool, resources_of
from persyn_ray.pipeline.plan import expected_tokens
from persyn_ray.pipeline.plan.expected_tokens import Length, Share, Stored
from persyn_ray.pipeline.plan.placement import Placed
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import HardwareConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.scheduling.schedule import Job, Schedule, schedule
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.results import CollectResult, TeacherProgress, result_of

LEAST_WRITING = 0.1  # share of a pool's time that was not loading, at the least


@dataclass(frozen=True)
class TeacherForecast:
    """What one teacher has to do."""

    prompts: float
    tokens: float
    """Of responses."""
    prompt_tokens: float
    at_most: bool
    """Whether `tokens` is a bound and no expectation."""
    seconds: float | None
    """From the start of its first engine to the end of its last."""
    dollars: float | None
    source: str
    """Where the figures come from."""
    gpu_seconds: float = 0.0
    """GPUs times the time they are held."""
    replicas: int = 1
    load_seconds: float | None = None
    engine_seconds: float | None = None
    """Time of a single engine that does it all, without loading."""


@dataclass(frozen=True)
class Forecast:
    """What all teachers have to do."""

    teachers: dict[str, TeacherForecast]
    seconds: float | None
    """The whole of it."""
    schedule: Schedule | None

    @property
    def tokens(self) -> float:
        """Response tokens of all teachers."""
        return sum(one.tokens for one in self.teachers.values())

    @property
    def at_most(self) -> bool:
        """Whether any figure is a bound."""
        return any(one.at_most and one.prompts for one in self.teachers.values())

    @property
    def gpu_seconds(self) -> float:
        """GPUs times the time they are held, loading included."""
        return sum(one.gpu_seconds for one in self.teachers.values())

    @property
    def dollars(self) -> float | None:
        """What the teachers with a known price cost; None if none has one."""
        known = [one.dollars for one in self.teachers.values() if one.dollars is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class SharedActors:
    """Actors of the pool of the teachers without one of their own, in each step."""

    collect: int
    synthesize: int


@dataclass(frozen=True)
class Known:
    """All that a forecast rests on."""

    teachers: tuple[TeacherConfig, ...]
    hardware: HardwareConfig
    compare: CompareConfig
    shard_rows: int
    shared_actors: SharedActors
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

    @cached_property
    def collected(self) -> CollectResult | None:
        """The result of step collect; parsed once, every teacher's speed is read from it."""
        return None if self.collect is None else result_of(self.collect, CollectResult)

    def measured(self, name: str) -> TeacherProgress | None:
        """What a teacher's own pool did in step collect; None without tokens or time."""
        done = self.collected.teachers.get(name) if self.collected is not None else None
        return done if done is not None and done.seconds and done.tokens else None


def gather_known(
    recipe: Recipe,
    run: RunLayout,
    splits: dict[str, int],
    prompt_tokens: float,
    placed: dict[str, Placed],
    done: Iterable[str],
) -> Known:
    """Read what the run holds; `done` are the steps whose output is this recipe's."""
    finished = set(done)
    stored = {teacher.name: Stored() for teacher in recipe.teachers}
    if "prompts" in finished:
        stored = expected_tokens.stored_responses(recipe.teachers, run)
    lengths = {
        teacher.name: expected_tokens.expected_length(teacher, stored[teacher.name], prompt_tokens)
        for teacher in recipe.teachers
    }
    is_routed = "route" in finished
    share = expected_tokens.expected_share(
        settings_of(recipe), run, is_routed, "rewards" in finished
    )
    collect = read_record(run.records, "collect") if "collect" in finished else None
    before = read_forecast(run, "collect").get("teachers", {}) if collect is not None else {}
    resources = recipe.resources
    return Known(
        teachers=recipe.teachers,
        hardware=recipe.hardware,
        compare=recipe.compare,
        shard_rows=recipe.prompts.shard_rows,
        shared_actors=SharedActors(resources.collect.actors, resources.synthesize.actors),
        run=run,
        splits=splits,
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


def reckon(known: Known, prompts: dict[str, float], is_later: bool = False) -> Forecast:
    """What it takes when each teacher answers so many prompts.

    Args:
        is_later: whether step collect comes before, so that its speeds may be used.

    Raises:
        ConfigError: the hardware holds no engine of some teacher.
    """
    jobs = {
        name: _job(known, name, prompts[name], is_later) for name in known.placed if prompts[name]
    }
    hardware, plan = known.hardware, None
    if jobs and hardware.nodes:
        plan = schedule(list(jobs.values()), [hardware.gpus_per_node] * hardware.nodes)
    teachers = {
        teacher.name: _teacher(known, teacher, prompts[teacher.name], jobs, plan, is_later)
        for teacher in known.teachers
    }
    shared = _shared_seconds(known, prompts) if is_later else None
    return Forecast(teachers, _whole_seconds(known, teachers, plan, shared), plan)


def _job(known: Known, name: str, prompts: float, is_later: bool) -> Job:
    placed, tokens = known.placed[name], prompts * known.lengths[name].response
    shards = math.ceil(prompts / known.shard_rows)
    return Job(
        name=name,
        workers=placed.gpus,
        per_node=placed.per_node,
        load_seconds=placed.load_seconds(known.hardware),
        work_seconds=tokens / _engine_speed(known, name, is_later),
        max_replicas=max(1, min(placed.resources.replicas, shards)),
    )


def _engine_speed(known: Known, name: str, is_later: bool) -> float:
    """Tokens per second of one engine: measured in collect, as the recipe says, or estimated."""
    placed, facts = known.placed[name], known.measured(name)
    replicas = known.before.get(name, {}).get("replicas")
    if is_later and facts and replicas:
        loading = placed.load_seconds(known.hardware)
        writing = max(facts.seconds - loading, LEAST_WRITING * facts.seconds)
        return facts.tokens / writing / replicas
    return placed.tokens_per_second(known.lengths[name].while_writing)


def _teacher(
    known: Known,
    teacher: TeacherConfig,
    prompts: float,
    jobs: dict[str, Job],
    plan: Schedule | None,
    is_later: bool,
) -> TeacherForecast:
    length, job = known.lengths[teacher.name], jobs.get(teacher.name)
    parts = [part for part in plan.parts if part.job == teacher.name] if plan else []
    held = sum((part.end - part.start) * len(part.gpus) for part in parts)
    seconds = _pool_seconds(known, teacher, prompts * length.response, is_later)
    if parts:
        seconds = max(part.end for part in parts) - min(part.start for part in parts)
    return TeacherForecast(
        prompts=prompts,
        tokens=prompts * length.response,
        prompt_tokens=prompts * length.prompt,
        at_most=length.is_bound,
        seconds=seconds if prompts else 0.0,
        dollars=_dollars(
            teacher, prompts, length, held if parts else None, known.hardware.gpu_hour_dollars
        ),
        source=_source(known, teacher.name, is_later),
        gpu_seconds=held,
        replicas=max((part.replicas for part in parts), default=1),
        load_seconds=job.load_seconds if job else None,
        engine_seconds=job.work_seconds if job else None,
    )


def _pool_seconds(
    known: Known, teacher: TeacherConfig, tokens: float, is_later: bool
) -> float | None:
    """Time of an endpoint or of a pool on CPUs, where a speed is known."""
    if teacher.name in known.placed or not has_own_pool(teacher):
        return None
    facts = known.measured(teacher.name) if is_later else None
    if facts:
        return tokens * facts.seconds / facts.tokens
    speed = resources_of(teacher).tokens_per_second
    return None if speed is None else tokens / speed


def _dollars(
    teacher: TeacherConfig, prompts: float, length: Length, held: float | None, rate: float | None
) -> float | None:
    """By the teacher's price, else by the `rate` of an hour of the GPUs `held` for so long."""
    price = teacher.price
    if not prompts:
        return None if price is None and rate is None else 0.0
    if price is not None:
        return prompts * (length.prompt * price.prompt + length.response * price.response) / 1e6
    return None if held is None or rate is None else held / 3600 * rate


def _source(known: Known, name: str, is_later: bool) -> str:
    length = "sampling.max_tokens" if known.lengths[name].is_bound else "mean stored response"
    is_measured = is_later and known.measured(name) is not None
    return f"{length}, {'speed of collect' if is_measured else 'estimated speed'}"


def _whole_seconds(
    known: Known,
    teachers: dict[str, TeacherForecast],
    plan: Schedule | None,
    shared: float | None,
) -> float | None:
    """The longest of what goes on side by side: the schedule, every other pool, the shared pool."""
    times = [plan.makespan] if plan is not None else []
    for teacher in known.teachers:
        one = teachers[teacher.name]
        if not one.prompts:
            continue
        seconds = one.seconds if has_own_pool(teacher) else shared
        if seconds is None:
            return None
        times.append(seconds)
    return max(times, default=0.0)


def _shared_seconds(known: Known, prompts: dict[str, float]) -> float | None:
    """Time of the shared pool by what collect took, if all teachers shared it."""
    record, collected = known.collect, known.collected
    if record is None or collected is None or any(map(has_own_pool, known.teachers)):
        return None
    done, asked = collected.rows, sum(prompts.values())
    if collected.tokens:
        done = collected.tokens
        asked = sum(number * known.lengths[name].response for name, number in prompts.items())
    if not done:
        return None
    actors = known.shared_actors.collect / known.shared_actors.synthesize
    return record.seconds * actors * asked / done
