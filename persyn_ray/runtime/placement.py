"""Places actor groups on nodes and orders them: groups and nodes in, tasks with dependencies out.

Groups with GPUs are scheduled over the nodes' GPUs (scheduling/), the others over the CPUs that
are left; groups that only talk to an endpoint take nothing and start at once. Pure: no Ray here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.scheduling.schedule import Job, JobPart, schedule
from persyn_ray.shards.units import Unit

BATCHES_IN_FLIGHT = 16
"""Batches, each of as many rows as an engine works on at once, in the hands of a streaming engine.
A batch ends with its longest response; with 16 the others keep the engine full while responses are
up to some ten times as long as their mean (benchmarks/streaming.py)."""


@dataclass(frozen=True)
class Node:
    """One node of the cluster and its logical resources."""

    id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Place:
    """A pool of equal actors: how many, what each takes, and where."""

    size: int
    """Most of them."""
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1
    in_flight: int = 1
    """Batches of rows that one actor works on at once."""
    nodes: tuple[str, ...] = ()
    """Node of the actor, or of each bundle of its placement group; anywhere if empty."""
    bundles: tuple[dict[str, float], ...] = ()
    """Resources of the workers in a placement group of their own."""
    max_deaths: int = 3
    fewest: int = 0
    """Actors that the pool needs; 0 where it has `size` of them all the time."""
    is_across_nodes: bool = False
    """Whether the bundles may stand in different nodes."""


@dataclass(frozen=True)
class ActorGroup:
    """Units for one kind of actor: one teacher's, or those of all teachers that share a pool."""

    name: str
    build: Callable[[Any], Any]
    """Makes the work in the actor; its argument is the placement group or None."""
    units: tuple[Unit, ...]
    resources: TeacherResourcesConfig | StepResourcesConfig
    is_remote: bool = False
    """Whether it only talks to an endpoint."""
    load_seconds: float = 60.0
    work_seconds: float = 60.0
    """Estimate for one engine that carries out all units."""
    prefetch: Callable[[], None] | None = None
    """Brings weights to the node it runs on."""
    in_flight: int = 1
    """Batches that one actor works on at once: `BATCHES_IN_FLIGHT` where its engine streams."""


@dataclass(frozen=True)
class Task:
    """One pool of one group: its units, its place, and the tasks that must end before."""

    group: ActorGroup
    units: tuple[Unit, ...]
    """The share that the schedule reckons with. The pools of a group pull from all its units, so
    that shares move while they run: to faster engines, and from a part that is late to the next."""
    place: Place
    after: tuple[int, ...] = ()


def place_actor_groups(groups: Sequence[ActorGroup], nodes: Sequence[Node]) -> list[Task]:
    """Tasks in the order of their planned start; `after` are positions in this list.

    Raises:
        ConfigError: a group fits no node, with its need and what there is.
    """
    busy = [group for group in groups if group.units]
    remote = [group for group in busy if group.is_remote]
    on_gpus = [group for group in busy if not group.is_remote and group.resources.gpus]
    on_cpus = [group for group in busy if not group.is_remote and not group.resources.gpus]
    tasks = [Task(group, group.units, _everywhere(group)) for group in remote]
    cpus_per_gpu = max(
        (group.resources.cpus * _engines_per_slot(group) for group in on_gpus), default=0.0
    )
    _require_cpus(on_gpus, nodes)
    gpus = [math.floor(node.gpus) for node in nodes]
    tasks += _scheduled(on_gpus, nodes, gpus, len(tasks))
    # The CPUs that come with each GPU are set aside before others are counted on.
    cpus = [math.floor(node.cpus - cpus_per_gpu * node.gpus + 1e-9) for node in nodes]
    if len(on_cpus) == 1:
        return [*tasks, Task(on_cpus[0], on_cpus[0].units, _everywhere(on_cpus[0]))]
    for group in on_cpus:
        if _slots(group) > max(cpus, default=0):
            raise ConfigError(
                f"{group.name!r} takes {_slots(group)} CPUs in one node; beside the GPUs' own, the "
                f"largest node has {max(cpus, default=0)}. Lower its `resources.cpus`."
            )
    return tasks + _scheduled(on_cpus, nodes, cpus, len(tasks))


def _workers(group: ActorGroup) -> int:
    return group.resources.workers if isinstance(group.resources, TeacherResourcesConfig) else 1


def _slots(group: ActorGroup) -> int:
    """GPUs of one engine, or CPUs where it has no GPU."""
    each = group.resources.gpus or group.resources.cpus
    return max(1, math.ceil(each * _workers(group) - 1e-9))


def _job(group: ActorGroup) -> Job:
    resources, slots = group.resources, _slots(group)
    if isinstance(resources, StepResourcesConfig):
        return Job(group.name, slots, slots, group.load_seconds, group.work_seconds, resources.most)
    apart = resources.across_nodes and _in_placement_group(group)
    return Job(
        group.name,
        slots,
        slots // resources.pipeline_parallel if apart else slots,
        group.load_seconds,
        group.work_seconds,
        math.ceil(resources.replicas / _engines_per_slot(group)),
    )


def _scheduled(
    groups: Sequence[ActorGroup], nodes: Sequence[Node], slots: Sequence[int], first: int
) -> list[Task]:
    """Tasks of a schedule; a part whose replicas stand in different nodes becomes several."""
    if not groups:
        return []
    parts = schedule([_job(group) for group in groups], slots).parts
    of = {group.name: group for group in groups}
    units = _share_units(parts, of)
    tasks: list[Task] = []
    tasks_of_part: list[list[int]] = []
    for part, mine in zip(parts, units, strict=True):
        after = tuple(number for before in part.after for number in tasks_of_part[before])
        group, numbers = of[part.job], []
        for place, portion in _pools(group, part, mine, nodes):
            numbers.append(first + len(tasks))
            tasks.append(Task(group, portion, place, after))
        tasks_of_part.append(numbers or list(after))
    return tasks


def _share_units(parts: Sequence[JobPart], groups: dict[str, ActorGroup]) -> list[tuple[Unit, ...]]:
    """Each part's units: consecutive ones, in proportion to its share of the work."""
    done = dict.fromkeys(groups, 0.0)
    found: list[tuple[Unit, ...]] = []
    for part in parts:
        units, start = groups[part.job].units, done[part.job]
        done[part.job] = end = min(1.0, start + part.share)
        found.append(units[round(start * len(units)) : round(end * len(units))])
    return found


def _pools(
    group: ActorGroup, part: JobPart, units: tuple[Unit, ...], nodes: Sequence[Node]
) -> list[tuple[Place, tuple[Unit, ...]]]:
    """One pool for the replicas of a part that stand in the same node, with its units.

    An engine with a placement group of its own is a pool by itself.
    """
    width = len(part.gpus) // part.replicas
    replicas = [part.gpus[r * width : (r + 1) * width] for r in range(part.replicas)]
    places = sorted(tuple(nodes[node].id for node, _ in replica) for replica in replicas)
    sizes = [1] * len(places)
    if not _in_placement_group(group):
        sizes = [places.count(place) for place in sorted(set(places))]
        places = sorted(set(places))
    pools: list[tuple[Place, tuple[Unit, ...]]] = []
    start = 0
    for place, size in zip(places, sizes, strict=True):
        end = start + size
        portion = units[
            round(start * len(units) / part.replicas) : round(end * len(units) / part.replicas)
        ]
        start = end
        if portion:
            size = min(size * _engines_per_slot(group), _most(group), len(portion))
            pools.append((replace(_standing(group, place), size=size, fewest=0), portion))
    return pools


def _engines_per_slot(group: ActorGroup) -> int:
    """Engines that share the one GPU which the schedule reckons with."""
    gpus = group.resources.gpus
    return int(1 / gpus + 1e-9) if 0 < gpus < 1 and _workers(group) == 1 else 1


def _most(group: ActorGroup) -> int:
    """Most engines of a group at once."""
    resources = group.resources
    return resources.most if isinstance(resources, StepResourcesConfig) else resources.replicas


def _in_placement_group(group: ActorGroup) -> bool:
    """Whether an engine's workers stand in a placement group of their own."""
    resources = group.resources
    return (
        isinstance(resources, TeacherResourcesConfig)
        and resources.workers > 1
        and resources.gpus > 0
        and resources.executor == "ray"
    )


def place_of(resources: StepResourcesConfig, size: int) -> Place:
    """A pool of at most `size` of a step's actors, anywhere in the cluster."""
    threads = resources.threads or max(1, int(resources.cpus))
    fewest = min(resources.fewest, size)
    return Place(size, resources.cpus, resources.gpus, threads, fewest=fewest)


def _standing(group: ActorGroup, nodes: tuple[str, ...]) -> Place:
    """What one actor takes, in given nodes (one id per worker) or anywhere."""
    resources = group.resources
    if isinstance(resources, StepResourcesConfig):
        return replace(place_of(resources, resources.most), nodes=nodes[:1])
    if group.is_remote:
        return Place(1, 0.0, 0.0, 1, group.in_flight, max_deaths=resources.max_deaths)
    workers, deaths = resources.workers, resources.max_deaths
    if _in_placement_group(group):
        bundle = {"GPU": 1.0, "CPU": resources.cpus} if resources.cpus else {"GPU": 1.0}
        bundles = tuple(bundle for _ in range(workers))
        apart = resources.across_nodes and resources.pipeline_parallel > 1
        place = Place(1, 0.0, 0.0, 1, group.in_flight, nodes, bundles, deaths)
        return replace(place, is_across_nodes=apart)
    cpus, gpus = resources.cpus * workers, resources.gpus * workers
    threads = max(1, int(cpus))
    return Place(1, cpus, gpus, threads, group.in_flight, nodes[:1], max_deaths=deaths)


def _everywhere(group: ActorGroup) -> Place:
    """A pool that is not pinned to any node."""
    size = 1 if group.is_remote else min(_most(group), len(group.units))
    place = replace(_standing(group, ()), size=size)
    if isinstance(group.resources, StepResourcesConfig) or group.is_remote:
        return replace(place, fewest=min(place.fewest, size))
    return replace(place, fewest=1)  # `replicas` is how many a teacher may have, not must


def _require_cpus(groups: Sequence[ActorGroup], nodes: Sequence[Node]) -> None:
    """Each GPU needs its CPUs in the same node, or placement groups wait for ever."""
    for group in groups:
        need = group.resources.cpus * _engines_per_slot(group)
        for node in nodes:
            have = node.cpus / node.gpus if node.gpus >= 1 else math.inf
            if need > have + 1e-9:
                raise ConfigError(
                    f"Teacher {group.name!r} takes {need:g} CPUs with each GPU; node "
                    f"{node.id[:8]} has {node.cpus:g} CPUs for {node.gpus:g} GPUs. Lower "
                    "its `resources.cpus`."
                )
