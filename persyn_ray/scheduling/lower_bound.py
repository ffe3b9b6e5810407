"""Jobs of the GPU scheduler, and a lower bound on the makespan of any schedule of them.

J jobs, N nodes; G_S is the most GPUs that jobs of the set S can hold at once. A job j has workers
w_j, load l_j, work a_j and s_j starts of an engine. A start works for at most T - l_j before T:

    s_j >= 1,   s_j (T - l_j) >= a_j                                   enough starts
    sum over j in S of w_j (a_j + s_j l_j) <= G_S T                    GPU-seconds, for several S
    l_j + a_j / min(max_replicas_j, replicas that fit at once) <= T    one job alone

With fractional starts (the linear relaxation) the least starts, max(1, a_j / (T - l_j)), are best
for every S at once, so the smallest T is found by bisection without a solver. Nothing here says
that a schedule that ends at the bound exists: packing and whole starts cost more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from persyn_ray.errors import ConfigError
from persyn_ray.method.arrays import Floats

CONVERGED = 1e-12  # in parts of the time: bisection goes no further


@dataclass(frozen=True)
class Job:
    """What one teacher has to do in a phase, in replicas of one size."""

    name: str
    workers: int  # GPUs of one engine
    per_node: int  # workers that must stand in one node; divides `workers`
    load_seconds: float  # of each start of an engine, before its first token
    work_seconds: float  # of one engine that does everything
    max_replicas: int  # engines at once


def lower_bound(
    jobs: Sequence[Job], gpus_per_node: Sequence[int], *, whole_starts: bool = False
) -> float:
    """Seconds that any schedule takes at least; with `whole_starts`, s_j are whole numbers.

    Whole starts give the tighter bound, the linear relaxation the one that is usually quoted.

    Raises:
        ConfigError: a job is ill-formed or does not fit.
    """
    check_jobs(jobs, gpus_per_node)
    if not jobs:
        return 0.0
    jobs = sorted(jobs, key=lambda job: job.name)  # so that sums do not depend on the order
    capacities = _capacities(jobs, gpus_per_node)
    low = high = max(_alone(job, gpus_per_node) for job in jobs)
    while not _enough(jobs, capacities, high, whole_starts):
        low, high = high, 2 * high
    while high - low > CONVERGED * high:
        middle = (low + high) / 2
        if _enough(jobs, capacities, middle, whole_starts):
            high = middle
        else:
            low = middle
    return low


def check_jobs(jobs: Sequence[Job], gpus_per_node: Sequence[int]) -> None:
    """Refuse ill-formed jobs and those the cluster has no room for.

    Raises:
        ConfigError: names the job, what it needs and what there is.
    """
    twice = [name for name, num in Counter(job.name for job in jobs).items() if num > 1]
    if twice:
        raise ConfigError(f"Jobs need names of their own; {', '.join(twice)} stands twice.")
    if any(gpus < 0 for gpus in gpus_per_node):
        raise ConfigError(f"A node has 0 or more GPUs; found {list(gpus_per_node)}.")
    for job in jobs:
        _check_numbers(job)
    homeless = [job for job in jobs if not most_replicas(job, gpus_per_node)]
    if homeless:
        job = max(homeless, key=lambda job: (job.workers, job.per_node, job.name))
        nodes = Counter(gpus for gpus in gpus_per_node if gpus)
        have = ", ".join(f"{num} of {gpus}" for gpus, num in sorted(nodes.items()))
        raise ConfigError(
            f"{job.name} needs {job.workers} GPUs for one engine, {job.per_node} of them in one "
            f"node; the nodes with GPUs are: {have or 'none'}. Lower tensor_parallel or "
            "pipeline_parallel of its resources, set across_nodes, or add nodes."
        )


def most_replicas(job: Job, gpus_per_node: Sequence[int]) -> int:
    """Engines of a job that fit into the cluster at once."""
    groups = sum(gpus // job.per_node for gpus in gpus_per_node)
    return groups // (job.workers // job.per_node)


def _check_numbers(job: Job) -> None:
    if job.per_node < 1 or job.workers < 1 or job.workers % job.per_node:
        raise ConfigError(
            f"{job.name} has workers={job.workers} and per_node={job.per_node}; both must be at "
            "least 1, and per_node must divide workers."
        )
    if job.max_replicas < 1:
        raise ConfigError(f"{job.name} has max_replicas={job.max_replicas}; at least 1 is needed.")
    if not all(isfinite(s) and s >= 0 for s in (job.load_seconds, job.work_seconds)):
        raise ConfigError(
            f"{job.name} has load_seconds={job.load_seconds} and work_seconds={job.work_seconds}; "
            "both must be finite and at least 0."
        )


def _alone(job: Job, gpus_per_node: Sequence[int]) -> float:
    replicas = min(job.max_replicas, most_replicas(job, gpus_per_node))
    return job.load_seconds + job.work_seconds / replicas


def _enough(
    jobs: Sequence[Job], capacities: list[tuple[Floats, int]], seconds: float, whole_starts: bool
) -> bool:
    load_J = np.array([job.load_seconds for job in jobs])
    work_J = np.array([job.work_seconds for job in jobs])
    workers_J = np.array([job.workers for job in jobs])
    # Loads never reach the time of one job alone unless rounding swallows the work.
    starts_J = work_J / np.maximum(seconds - load_J, CONVERGED * max(seconds, CONVERGED))
    if whole_starts:
        starts_J = np.ceil(starts_J * (1 - 1e-9))
    held_J = workers_J * (work_J + np.maximum(starts_J, 1.0) * load_J)
    return all(float(member_J @ held_J) <= gpus * seconds for member_J, gpus in capacities)


def _capacities(jobs: Sequence[Job], gpus_per_node: Sequence[int]) -> list[tuple[Floats, int]]:
    """Sets S of jobs as 0/1 of shape (J,), each with G_S: groups of one size, or of that and up."""
    size_J = np.array([job.per_node for job in jobs])
    sets: dict[bytes, tuple[Floats, int]] = {}
    for size in sorted(set(size_J.tolist())):
        for member_J in (size_J >= size, size_J == size):
            gpus = _most_held(sorted(set(size_J[member_J].tolist())), gpus_per_node)
            sets[member_J.tobytes()] = (member_J.astype(np.float64), gpus)
    return list(sets.values())


def _most_held(sizes: Sequence[int], gpus_per_node: Sequence[int]) -> int:
    """Most GPUs that groups of these sizes can hold, each group within a node."""
    largest = max(gpus_per_node)
    # filled[g]: what the groups hold of g GPUs at best.
    filled = [0] * (largest + 1)
    for gpus in range(1, largest + 1):
        filled[gpus] = max(
            [filled[gpus - 1]] + [size + filled[gpus - size] for size in sizes if size <= gpus]
        )
    return sum(filled[gpus] for gpus in gpus_per_node)
