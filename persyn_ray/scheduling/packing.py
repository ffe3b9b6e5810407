"""Packs jobs as engine runs onto GPUs so that everything ends by a given time T.

A run is one engine from its start to its end: load, then work. Each GPU is a column of height T,
filled from the bottom without gaps but those that groups of uneven GPUs leave:

    room(window, T) = T - start - load,   start = latest free time among the window's GPUs

A window is `per_node` GPUs of one node that follow each other by free time, so widths need not be
powers of two. A job takes, until its work is done, the latest window with room for all that is left
(best fit: early ones stay for others), else the window with most room (fewest starts, hence fewest
loads). With `fill` < 1 a window with room for that part of a fresh GPU's is as good: columns are
closed one after the other as in McNaughton's wrap-around rule, at the price of more loads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.scheduling.lower_bound import Job, most_replicas

NEVER = 1e100  # free time of a GPU that is not there: finite, because inf - inf is NaN
LEFT_BY_ROUNDING = 1e-9  # in parts of the time: less work than this is done

Gpu = tuple[int, int]


@dataclass(frozen=True)
class EngineRun:
    """One engine of a job on its GPUs (groups one after the other, each sorted)."""

    job: Job
    gpus: tuple[Gpu, ...]
    start: float
    end: float

    @property
    def worked(self) -> float:
        """Seconds after the load."""
        return self.end - self.start - self.job.load_seconds


def pack(
    jobs: Sequence[Job], gpus_per_node: Sequence[int], seconds: float, fill: float
) -> list[EngineRun] | None:
    """Runs that do all jobs in the given order by `seconds`, earlier runs of a GPU first.

    None if this rule finds no room. There always is when `seconds` is at least the sum of load and
    work of all jobs.
    """
    free_NG = _all_free(gpus_per_node)
    packed: list[EngineRun] = []
    for job in jobs:
        runs = _pack_job(job, gpus_per_node, free_NG, seconds, fill)
        if runs is None:
            return None
        packed.extend(runs)
    return packed


def level(runs: Sequence[EngineRun], gpus_per_node: Sequence[int]) -> list[EngineRun]:
    """Let the last runs of each job end together, and drop those that this leaves without work.

    Only runs with nothing after them on any of their GPUs move, and none past the latest end of
    its job. Jobs whose `max_replicas` binds stay as they are.
    """
    free_to_move = {run.job for run in runs if not _limited(run.job, gpus_per_node)}
    while True:
        ends = _level_ends(runs, free_to_move)
        levelled = [replace(run, end=ends.get(i, run.end)) for i, run in enumerate(runs)]
        # A run that would end before it has loaded is one that the others do without.
        kept = [run for i, run in enumerate(levelled) if i not in ends or run.worked > 0]
        if len(kept) == len(levelled):
            return levelled
        runs = kept


def _pack_job(
    job: Job, gpus_per_node: Sequence[int], free_NG: Floats, seconds: float, fill: float
) -> list[EngineRun] | None:
    """The runs of one job; moves `free_NG` on."""
    need, slack = job.work_seconds, LEFT_BY_ROUNDING * seconds
    most = job.max_replicas if _limited(job, gpus_per_node) else None
    runs: list[EngineRun] = []
    while not runs or need > slack:
        full = [] if most is None else _full(runs, most)
        useful = min(need, fill * (seconds - job.load_seconds)) - slack
        gpus, start = _choose(job, free_NG, full, seconds, useful)
        until = float(_until(np.array(start), full, seconds))
        room = until - start - job.load_seconds
        if room < (slack if need > slack else need - slack):
            return None
        end = until if room <= need else start + job.load_seconds + need
        runs.append(EngineRun(job, gpus, start, end))
        need -= runs[-1].worked
        for node, gpu in gpus:
            free_NG[node, gpu] = end
    return runs


def _choose(
    job: Job, free_NG: Floats, full: list[tuple[float, float]], seconds: float, useful: float
) -> tuple[tuple[Gpu, ...], float]:
    """GPUs for one engine, group by group, and when all of them are free."""
    free_NG = free_NG.copy()
    gpus: list[Gpu] = []
    start = 0.0
    for _ in range(job.workers // job.per_node):
        order_NG, top_NV, sum_NV = _windows(free_NG, job.per_node)
        room_NV = _until(top_NV, full, seconds) - top_NV - job.load_seconds
        enough_NV = room_NV >= useful
        if enough_NV.any():
            # Late and level: the sum of the free times, less what lies idle below the start.
            score_NV = np.where(enough_NV, 2 * sum_NV - job.per_node * top_NV, -NEVER)
        else:
            score_NV = np.where(room_NV >= room_NV.max(), sum_NV, -NEVER)
        node, place = divmod(int(score_NV.argmax()), score_NV.shape[1])
        group = sorted(order_NG[node, place : place + job.per_node].tolist())
        gpus.extend((node, gpu) for gpu in group)
        start = max(start, float(top_NV[node, place]))
        free_NG[node, group] = NEVER
    return tuple(gpus), start


def _windows(free_NG: Floats, size: int) -> tuple[Integers, Floats, Floats]:
    """GPUs of each node by free time; latest free time and sum of each V windows of `size`."""
    order_NG = np.argsort(free_NG, axis=1, kind="stable")
    sorted_NG = np.take_along_axis(free_NG, order_NG, axis=1)
    sums_NG = np.cumsum(sorted_NG, axis=1)
    sum_NV = sums_NG[:, size - 1 :].copy()
    sum_NV[:, 1:] -= sums_NG[:, :-size]
    return order_NG, sorted_NG[:, size - 1 :], sum_NV


def _until(start: Floats, full: Iterable[tuple[float, float]], seconds: float) -> Floats:
    """How long an engine that starts then may run; -NEVER while `max_replicas` run already."""
    until = np.full(start.shape, seconds)
    for begin, end in full:
        until = np.where(start < begin, np.minimum(until, begin), until)
        until = np.where((start >= begin) & (start < end), -NEVER, until)
    return until


def _full(runs: Sequence[EngineRun], most: int) -> list[tuple[float, float]]:
    """The spans of time in which `most` runs are going on."""
    times = sorted({time for run in runs for time in (run.start, run.end)})
    return [
        (begin, end)
        for begin, end in pairwise(times)
        if sum(run.start <= begin and run.end >= end for run in runs) >= most
    ]


def _limited(job: Job, gpus_per_node: Sequence[int]) -> bool:
    return job.max_replicas < most_replicas(job, gpus_per_node)


def _level_ends(runs: Sequence[EngineRun], jobs: set[Job]) -> dict[int, float]:
    """New ends of the last runs of each job, by position in `runs`; where there are several."""
    tails: dict[Job, list[int]] = {}
    for position in _tails(runs):
        if runs[position].job in jobs:
            tails.setdefault(runs[position].job, []).append(position)
    return {
        position: _common_end([runs[i] for i in positions])
        for positions in tails.values()
        if len(positions) > 1
        for position in positions
    }


def _tails(runs: Sequence[EngineRun]) -> list[int]:
    """Positions of the runs that are the last on all of their GPUs."""
    last = {gpu: position for position, run in enumerate(runs) for gpu in run.gpus}
    return [i for i, run in enumerate(runs) if all(last[gpu] == i for gpu in run.gpus)]


def _common_end(runs: Sequence[EngineRun]) -> float:
    """The end at which runs with these starts do together what they do now."""
    work = sum(run.worked for run in runs)
    ready = sorted(run.start + run.job.load_seconds for run in runs)
    end = ready[0] + work
    for num in range(2, len(ready) + 1):
        if end > ready[num - 1]:
            end = (sum(ready[:num]) + work) / num
    return end


def _all_free(gpus_per_node: Sequence[int]) -> Floats:
    free_NG = np.full((len(gpus_per_node), max(gpus_per_node)), NEVER)
    for node, gpus in enumerate(gpus_per_node):
        free_NG[node, :gpus] = 0.0
    return free_NG
