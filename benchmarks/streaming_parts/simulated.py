"""Simulated engines of all teachers on routed prompts: how full they are, and what bounds that.

A simulation: real Ray, no model. Every teacher has one engine (`simulated_engine.py`) in an actor
of its own. The bound is the same engines with all prompts of their teacher given at once; beside it
stands what `persyn plan` reckons with (`scheduling/engine_model.py`), which has no Ray in it.
"""

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from persyn_ray.scheduling.engine_model import EngineModel, StepTime, simulate_rows
from streaming_parts.simulated_engine import EngineConfig, Lengths, SimulatedEngine


@dataclass(frozen=True)
class Workload:
    """Which prompts each teacher answers, with which engine."""

    prompts: dict[str, list[str]]
    """Ids by teacher, in the order of their queue."""
    engine: EngineConfig

    @property
    def facts(self) -> dict[str, Any]:
        """For the result's config."""
        return {
            "teachers": len(self.prompts),
            "prompts": sum(map(len, self.prompts.values())),
            "engine": asdict(self.engine),
        }


def routed(num_prompts: int, num_teachers: int, engine: EngineConfig, seed: int) -> Workload:
    """Prompts that a router spreads evenly: each goes to a teacher that is drawn."""
    teacher_P = np.random.default_rng(seed).integers(num_teachers, size=num_prompts)
    return Workload(
        {
            f"teacher-{m:02d}": [f"prompt-{p:06d}" for p in np.flatnonzero(teacher_P == m)]
            for m in range(num_teachers)
        },
        engine,
    )


def workload(is_quick: bool, seed: int = 0) -> Workload:
    """19 teachers; quick: 4 of them, steps of 5 ms and an eighth of the length."""
    if is_quick:
        lengths = Lengths(log_mean=3.6, most=256, seed=seed)
        return routed(4_200, 4, EngineConfig(step_seconds=0.005, lengths=lengths), seed)
    return routed(20_000, 19, EngineConfig(lengths=Lengths(seed=seed)), seed)


def long_queues(is_quick: bool, seed: int = 0) -> Workload:
    """Two teachers with many more prompts than are ever in an engine's hands; steps of 5 ms."""
    engine = EngineConfig(step_seconds=0.005, lengths=Lengths(log_mean=4.7, most=1024, seed=seed))
    return routed(6_000 if is_quick else 24_000, 2, engine, seed)


def fed_at_once(work: Workload) -> dict[str, Any]:
    """All engines side by side, each with all its prompts from the start; figures by teacher.

    Ray must have been started.
    """
    import ray

    class Engine:
        async def run(self, prompt_ids: list[str]) -> dict[str, Any]:
            engine = SimulatedEngine(work.engine)
            await asyncio.gather(*map(engine.generate, prompt_ids))
            return engine.summary()

        async def ready(self) -> bool:
            return True

    remote: Any = ray.remote(num_cpus=0)(Engine)
    actors = {name: remote.remote() for name in work.prompts}
    ray.get([actor.ready.remote() for actor in actors.values()])
    going = [actors[name].run.remote(ids) for name, ids in work.prompts.items()]
    return dict(zip(work.prompts, ray.get(going), strict=True))


def modelled(work: Workload) -> dict[str, Any]:
    """Seconds and filled slots of each teacher as the model of an engine has them."""
    engine = EngineModel(work.engine.slots, StepTime(work.engine.step_seconds))
    found: dict[str, Any] = {}
    for name, ids in work.prompts.items():
        lengths_N = np.array([work.engine.lengths.of(one) for one in ids])
        made = simulate_rows(engine, lengths_N)
        found[name] = {"seconds": made.seconds, "slots_mean": made.running_mean}
    return found


def over_bound(measured: dict[str, Any], bound: dict[str, Any]) -> dict[str, Any]:
    """One way of feeding against another on the same prompts.

    slots_filled is the mean over teachers of filled slots as a share of the bound's, over_bound the
    longest engine's time as a multiple of the bound's longest.
    """
    shares = [measured[name]["slots_mean"] / bound[name]["slots_mean"] for name in bound]
    longest, least = (max(one["seconds"] for one in way.values()) for way in (measured, bound))
    return {
        "slots_filled": round(float(np.mean(shares)), 4),
        "slots_filled_worst": round(min(shares), 4),
        "over_bound": round(longest / least, 4),
    }


def measure(work: Workload, long: Workload) -> dict[str, Any]:
    """The project's streaming against the same engines fed at once, in one Ray.

    `long_queues` is the same for teachers with more prompts than an engine has in its hands.
    """
    import ray

    from streaming_parts.streamed import streamed

    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        bound = fed_at_once(work)
        ours = streamed(work)
        of_long = over_bound(streamed(long)["engines"], fed_at_once(long))
    finally:
        ray.shutdown()
    model = modelled(work)
    return over_bound(ours["engines"], bound) | {
        "simulation": "engines that only keep time; no model runs",
        "long_queues": long.facts | of_long,
        "streamed": ours,
        "fed_at_once": bound,
        "model": model,
        "fed_at_once_against_model": over_bound(bound, model),
    }
