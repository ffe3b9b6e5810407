"""Schedules teachers on GPUs over time, so that few GPUs serve many teachers.

    minimise the makespan, where every start of an engine costs a load and every share of a job's
    work lies in some run of its engines (`waves_bound` has the conditions and a lower bound)

The smallest time T is sought for which one of a few packings (`waves_packing`) succeeds: widest
jobs first, then the longest or the slowest to load, on columns filled by best fit or wrapped
around. The last runs of each job are then levelled. The result depends on jobs and nodes alone, not
on the order of the jobs; nothing is drawn. Seconds are estimates: execute by `after`, not by the
clock. `max_replicas` holds at the planned times; parts that run late may overlap more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import fsum

from persyn_ray.scheduling.lower_bound import Job, check_jobs, lower_bound
from persyn_ray.scheduling.packing import EngineRun, Gpu, level, pack

__all__ = ["Job", "JobPart", "Schedule", "lower_bound", "schedule"]

# First step above the lower bound, growth of the steps, and where the search ends; all relative.
STEP, GROWTH, PRECISION = 0.002, 1.2, 0.001
FILLS = (1.0, 0.1)


@dataclass(frozen=True)
class JobPart:
    """Replicas of one job that start and end together and share their work as they go."""

    job: str
    replicas: int
    gpus: tuple[Gpu, ...]  # (node, gpu), replica after replica, each in groups of one node
    start: float
    end: float
    share: float  # of the job's work; those of a job sum to 1
    after: tuple[int, ...]  # parts that hold some of these GPUs directly before


@dataclass(frozen=True)
class Schedule:
    """Parts by start, the end of the last one, and a time that no schedule can beat."""

    parts: tuple[JobPart, ...]
    makespan: float
    bound: float


def schedule(jobs: Sequence[Job], gpus_per_node: Sequence[int]) -> Schedule:
    """Share out GPUs over time among jobs; seconds from the start of the phase.

    A job without work gets one part that only loads: leave it out if it need not run.

    Raises:
        ConfigError: a job is ill-formed or does not fit.
    """
    check_jobs(jobs, gpus_per_node)
    if not jobs:
        return Schedule((), 0.0, 0.0)
    bound = lower_bound(jobs, gpus_per_node)
    runs = _search(jobs, gpus_per_node, bound)
    return Schedule(_parts(runs), _end(runs), bound)


def _search(jobs: Sequence[Job], gpus_per_node: Sequence[int], bound: float) -> list[EngineRun]:
    """The best packing found: steps up from the bound, then halves the last step.

    Up and not down, because a packing may succeed at T and fail a little above it.
    """
    most = fsum(job.load_seconds + job.work_seconds for job in jobs)
    low, step, best = bound, STEP, _try(jobs, gpus_per_node, bound)
    seconds = bound
    while best is None:
        low, seconds = seconds, min(seconds * (1 + step), most * (1 + STEP))
        step *= GROWTH
        best = _try(jobs, gpus_per_node, seconds)
    high = _end(best)
    while high - low > PRECISION * bound:
        middle = (low + high) / 2
        better = _try(jobs, gpus_per_node, middle)
        if better is None:
            low = middle
        else:
            best, high = better, _end(better)
    return best


def _try(
    jobs: Sequence[Job], gpus_per_node: Sequence[int], seconds: float
) -> list[EngineRun] | None:
    """The packing that ends first among those that end by `seconds`."""
    found: list[list[EngineRun]] = []
    for fill in FILLS:
        for order in _orders(jobs):
            runs = pack(order, gpus_per_node, seconds, fill)
            if runs is not None:
                found.append(level(runs, gpus_per_node))
    return min(found, key=_end, default=None)


def _orders(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Widest first, by engine or by node; among equals the longest, or the slowest to load."""
    orders: list[tuple[Job, ...]] = []
    for by_engine, by_length in product((True, False), repeat=2):
        key = partial(_urgency, by_engine=by_engine, by_length=by_length)
        orders.append(tuple(sorted(jobs, key=key)))
    return list(dict.fromkeys(orders))  # the first two are the last two within single nodes


def _urgency(job: Job, by_engine: bool, by_length: bool) -> tuple[float | str, ...]:
    width = (-job.workers, -job.per_node)
    length = (-job.load_seconds - job.work_seconds, -job.load_seconds)
    width, length = width[:: 1 if by_engine else -1], length[:: 1 if by_length else -1]
    return (*width, *length, job.name)


def _parts(runs: Sequence[EngineRun]) -> tuple[JobPart, ...]:
    """Runs with the same job and times merged, each with the parts before it."""
    merged: dict[tuple[str, float, float], list[EngineRun]] = {}
    # Runs come with the earlier ones of a GPU first, and sorting keeps that among equal times.
    for run in sorted(runs, key=lambda run: (run.start, run.end)):
        merged.setdefault((run.job.name, run.start, run.end), []).append(run)
    parts: list[JobPart] = []
    holder: dict[Gpu, int] = {}
    for (name, start, end), members in merged.items():
        gpus = tuple(gpu for run in sorted(members, key=lambda run: run.gpus) for gpu in run.gpus)
        after = tuple(sorted({holder[gpu] for gpu in gpus if gpu in holder}))
        holder |= dict.fromkeys(gpus, len(parts))
        parts.append(JobPart(name, len(members), gpus, start, end, _share(members, runs), after))
    return tuple(parts)


def _share(members: Sequence[EngineRun], runs: Sequence[EngineRun]) -> float:
    # Over what was packed, not what was asked for: so the rounding of the packing drops out.
    whole = sum(run.worked for run in runs if run.job == members[0].job)
    return sum(run.worked for run in members) / whole if whole > 0 else 1.0


def _end(runs: Sequence[EngineRun]) -> float:
    return max(run.end for run in runs)
