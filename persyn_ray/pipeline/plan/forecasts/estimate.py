"""Estimates tokens, seconds and dollars for given prompts per teacher.

Time on GPUs comes from the schedule (scheduling/schedule.py) over engines that are modelled
(engines.py) at speeds that are estimated or, after step collect, measured; each start of an
engine costs its loading and the tail in which it runs empty. Endpoints and pools on CPUs are
modelled where a speed is known. Of teachers that share a pool no time is known apart. Endpoints
cost by their price, GPUs by the hour for as long as an engine holds them.
"""

import math
from dataclasses import dataclass

from persyn_ray.pipeline.choices import has_own_pool
from persyn_ray.pipeline.plan.forecasts.engines import (
    EngineForecast,
    TeacherEngine,
    calibrated,
    teacher_engine,
)
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length
from persyn_ray.pipeline.plan.forecasts.known import Known
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.scheduling.schedule import Job, Schedule, schedule


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
    """Time of a single engine that does it all at full slots, without loading and tail."""
    tail_seconds: float | None = None
    """Time that each engine takes beyond that, because it runs dry at its end."""
    engine: EngineForecast | None = None
    """How full its engines will be."""


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


def reckon(known: Known, prompts: dict[str, float], is_later: bool = False) -> Forecast:
    """What it takes when each teacher answers so many prompts.

    Args:
        is_later: whether step collect comes before, so that its speeds may be used.

    Raises:
        ConfigError: the hardware holds no engine of some teacher.
    """
    engines = {
        teacher.name: engine
        for teacher in known.teachers
        if prompts[teacher.name] and (engine := _engine(known, teacher, is_later)) is not None
    }
    jobs = {
        name: _job(known, name, prompts[name], engines[name])
        for name in known.placed
        if name in engines
    }
    hardware, plan = known.hardware, None
    if jobs and hardware.nodes:
        plan = schedule(list(jobs.values()), [hardware.gpus_per_node] * hardware.nodes)
    teachers = {
        teacher.name: _teacher(
            known,
            teacher,
            prompts[teacher.name],
            engines.get(teacher.name),
            jobs.get(teacher.name),
            plan,
            is_later,
        )
        for teacher in known.teachers
    }
    shared = _shared_seconds(known, prompts) if is_later else None
    return Forecast(teachers, _whole_seconds(known, teachers, plan, shared), plan)


def _engine(known: Known, teacher: TeacherConfig, is_later: bool) -> TeacherEngine | None:
    """A teacher's engine: as fast as in collect, as the recipe says, or as estimated."""
    if not has_own_pool(teacher):
        return None
    name, placed = teacher.name, known.placed.get(teacher.name)
    facts = known.measured(name) if is_later else None
    length, stored = known.lengths[name], known.stored[name]
    engine = teacher_engine(teacher, placed, length, stored)
    replicas = 1 if placed is None else known.before.get(name, {}).get("replicas")
    if engine is None or facts is None or replicas is None:
        return engine
    loading = placed.load_seconds(known.hardware) if placed is not None else 0.0
    return calibrated(engine, facts, replicas, loading)


def _job(known: Known, name: str, prompts: float, engine: TeacherEngine) -> Job:
    """A teacher's work at full slots; what an engine takes beyond that comes with every start."""
    placed = known.placed[name]
    return Job(
        name=name,
        workers=placed.gpus,
        per_node=placed.per_node,
        load_seconds=placed.load_seconds(known.hardware) + engine.timed.tail_seconds(prompts),
        work_seconds=engine.timed.full_seconds(prompts),
        max_replicas=engines_of_use(placed.resources.replicas, prompts, engine.timed.model.slots),
    )


def engines_of_use(most: int, prompts: float, slots: int) -> int:
    """Engines that there is work for: an engine has at least as many rows as slots."""
    return max(1, min(most, math.ceil(prompts / slots)))


def _teacher(
    known: Known,
    teacher: TeacherConfig,
    prompts: float,
    engine: TeacherEngine | None,
    job: Job | None,
    plan: Schedule | None,
    is_later: bool,
) -> TeacherForecast:
    length = known.lengths[teacher.name]
    parts = [part for part in plan.parts if part.job == teacher.name] if plan else []
    held = sum((part.end - part.start) * len(part.gpus) for part in parts)
    seconds = None
    if parts:
        seconds = max(part.end for part in parts) - min(part.start for part in parts)
    elif engine is not None and engine.is_timed and teacher.name not in known.placed:
        seconds = engine.timed.run(prompts).seconds
    replicas = max((part.replicas for part in parts), default=1)
    shares = [(part.replicas, part.share) for part in parts] or [(1, 1.0)]
    loading = known.placed[teacher.name].load_seconds(known.hardware) if job else None
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
        replicas=replicas,
        load_seconds=loading,
        engine_seconds=job.work_seconds if job else None,
        tail_seconds=job.load_seconds - loading if job and loading is not None else None,
        engine=engine.forecast(prompts, shares) if engine is not None else None,
    )


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
    actors = known.settings.shared_actors
    return record.seconds * actors.collect / actors.synthesize * asked / done
