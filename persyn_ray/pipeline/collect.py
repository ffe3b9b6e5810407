"""Steps collect and synthesize: runs each teacher's actor group within its resources and budget.

Teachers with resources of their own, vLLM and endpoints get a pool each and are scheduled over the
cluster; all others share one pool of actors, in which small models stand side by side. Before the
first pool starts every teacher is checked, so that a wrong key or path costs nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from rich.console import Console

from persyn_ray.data import selection
from persyn_ray.errors import ConfigError, DataError, StepError
from persyn_ray.escaping import plain
from persyn_ray.pipeline.choices import (
    ROWS_AT_ONCE,
    batch_rows,
    has_own_pool,
    resources_of,
    streams,
)
from persyn_ray.pipeline.plan.forecasts.expected_lengths import RowOrder, Stretches
from persyn_ray.pipeline.plan.forecasts.known import read_forecast
from persyn_ray.pipeline.progress import Watched, dollars_paid, follow
from persyn_ray.recipe.engines import OpenAIEngineConfig, RecordedEngineConfig, VllmEngineConfig
from persyn_ray.recipe.own_code import PythonEngineConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.collect import Collect, asked_of, assigned, probe_order
from persyn_ray.shards.part_files import ids_of_shard
from persyn_ray.shards.score import CollectAndScore
from persyn_ray.shards.units import Progress, Work, batches_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.results import Asked, EngineUse, TeacherProgress

if TYPE_CHECKING:
    from persyn_ray.runtime.actor_pools.follow_up import FollowUp
    from persyn_ray.runtime.placement import ActorGroup
    from persyn_ray.runtime.teacher_scheduler import GroupProgress

OpenRows = dict[str, list[int]]
"""Places of rows by the name of their shard."""
pc: Any = compute
SHARED = "shared pool"
UNKNOWN_SECONDS = 60.0  # per unit and per load, where nothing better is known


def check_teachers(teachers: Iterable[TeacherConfig], pool: TeacherPool) -> None:
    """Refuse teachers that cannot work, all of them in one message, before anything is spent.

    Raises:
        ConfigError: wrong model path, no chat template, no such model at an endpoint, wrong key, a
            recorded table that cannot be read.
    """
    from persyn_ray.engines.build import build_engine

    complaints: list[str] = []
    for teacher in teachers:
        try:
            build_engine(teacher, pool).check()
        except (ConfigError, DataError) as error:
            complaints.append(str(error))
    if complaints:
        raise ConfigError("\n".join(dict.fromkeys(complaints)))  # several may share a table


def ask(
    recipe: Recipe,
    run: RunLayout,
    step: str,
    shards: Sequence[str],
    methods: tuple[str, ...] | None,
    console: Console,
    follow_up: "FollowUp | None" = None,
) -> Asked:
    """Have the teachers answer what is unanswered of some shards, and count what they did.

    Args:
        methods: None asks every teacher for every prompt; otherwise for what is assigned to it.
        follow_up: what is done with responses meanwhile, where the cluster has room beside them.

    Raises:
        ConfigError: a teacher cannot work, or fits no node.
        StepError: a group failed, or an endpoint gave no answer at all.
    """
    from persyn_ray.runtime.actor_pools.follow_up import followed
    from persyn_ray.runtime.actor_pools.room import room_beside
    from persyn_ray.runtime.compaction import compact_tables
    from persyn_ray.runtime.teacher_scheduler import GroupProgress, cluster_nodes, run_actor_groups

    wanted = Wanted(recipe.teachers, run, methods, recipe.prompts.seed)
    rows = open_rows(recipe.teachers, run, shards, wanted)
    asked = [teacher for teacher in recipe.teachers if rows[teacher.name]]
    _make_ready(asked, recipe.pool, run, step)
    shared, forecast = getattr(recipe.resources, step), read_forecast(run, step).get("teachers", {})
    own, order = partial(Collect, recipe, methods), RowOrder(run)
    form = partial(actor_groups, recipe.teachers, rows, shared, forecast, own_work=own, order=order)
    groups, place, nodes = form(own), None, cluster_nodes()
    if follow_up is not None:
        place = room_beside(groups, follow_up.wanted, nodes)
        if follow_up.is_small and place is None:
            groups = form(partial(CollectAndScore, recipe))
    counts: dict[str, GroupProgress] = {}
    num_units = sum(len(group.units) for group in groups)
    paid = partial(dollars_paid, run.ledger, asked)
    watched = Watched(step, num_units, console, counts, _num_rows(rows), paid)
    with followed(follow_up, place):
        done = run_actor_groups(groups, nodes, step, run.records / "engines" / step, counts)
        total = follow(done, watched)
    compact_tables([run.responses(teacher) for teacher in asked])
    _tell_unavailable(recipe.teachers, run, step, counts, console)
    return _asked(total, {name: count for name, count in counts.items() if name != SHARED})


def _make_ready(
    asked: Sequence[TeacherConfig], pool: TeacherPool, run: RunLayout, step: str
) -> None:
    """Check teachers if one of them has to prove itself, and forget whom they could not answer."""
    unproven = RecordedEngineConfig | PythonEngineConfig
    if any(has_own_pool(one) or isinstance(one.engine, unproven) for one in asked):
        check_teachers(asked, pool)
    for teacher in asked:  # all of it is asked again
        run.remove(run.unavailable(step, teacher.name))


def _num_rows(rows: Mapping[str, OpenRows]) -> dict[str, int]:
    """Rows that each teacher has to answer."""
    return {name: sum(map(len, of.values())) for name, of in rows.items()}


def _tell_unavailable(
    teachers: Sequence[TeacherConfig],
    run: RunLayout,
    step: str,
    counts: "Mapping[str, GroupProgress]",
    console: Console,
) -> None:
    """Say which teachers left prompts open, and refuse one of which no answer came at all."""
    by_name = {teacher.name: teacher for teacher in teachers}
    for name, count in counts.items():
        nothing_came = count.done.rows and count.done.unavailable == count.done.rows
        if nothing_came and not run.responses(by_name[name]).names():
            raise StepError(_unreachable(run, step, name))
        if count.done.unavailable:
            console.print(plain(_open(run, step, name, count.done.unavailable), "yellow"))


def _asked(total: Progress, own: "Mapping[str, GroupProgress]") -> Asked:
    """What was done in all, and by the teachers with a group of their own."""
    return Asked(
        rows=total.rows,
        tokens=total.tokens,
        errors=total.errors,
        unavailable=total.unavailable,
        teachers={
            name: TeacherProgress(
                rows=count.done.rows,
                tokens=count.done.tokens,
                seconds=round(count.seconds, 1),
                engine=_engine_use(count.done),
            )
            for name, count in own.items()
        },
    )


def _engine_use(done: Progress) -> EngineUse | None:
    """How full a teacher's engines were; None where they do not tell."""
    if not done.engine_seconds:
        return None
    return EngineUse(
        running_mean=round(done.running_seconds / done.engine_seconds, 2),
        running_max=done.most_running,
        kv_use_mean=round(done.kv_seconds / done.engine_seconds, 4),
    )


def open_rows(
    teachers: Sequence[TeacherConfig], run: RunLayout, shards: Sequence[str], wanted_of: "Wanted"
) -> dict[str, OpenRows]:
    """For each teacher the places, by shard, of prompts which it has to answer and has not.

    A shard is read once for all teachers, and of a teacher's responses only the ids.
    """
    folders = {teacher.name: run.responses(teacher) for teacher in teachers}
    found: dict[str, OpenRows] = {name: {} for name in folders}
    for shard in shards:
        prompts = run.prompts.read_table(shard, ["prompt_id"])
        for name, wanted in wanted_of(shard, prompts).items():
            answered = pa.array(ids_of_shard(folders[name], shard), pa.string())
            is_open = pc.and_not(
                pc.is_in(prompts["prompt_id"], value_set=wanted),
                pc.is_in(prompts["prompt_id"], value_set=answered),
            )
            if places := np.flatnonzero(is_open.to_numpy()).tolist():
                found[name][shard] = places
    return found


class Wanted:
    """Ids of a shard's prompts for each teacher: what all are asked, or what is assigned to it."""

    def __init__(
        self,
        teachers: Sequence[TeacherConfig],
        run: RunLayout,
        methods: tuple[str, ...] | None,
        seed: int,
    ) -> None:
        self.teachers, self.run, self.methods = teachers, run, methods
        self.order = probe_order(run, teachers, seed)

    def __call__(self, shard: str, prompts: pa.Table) -> dict[str, pa.ChunkedArray]:
        if self.methods is None:
            return {t.name: asked_of(t, prompts, self.order)["prompt_id"] for t in self.teachers}
        table = assigned(self.run, shard, self.methods)
        return {
            t.name: selection.where(table, "teacher", t.name)["prompt_id"] for t in self.teachers
        }


def actor_groups(
    teachers: Sequence[TeacherConfig],
    open_rows: Mapping[str, OpenRows],
    shared_resources: StepResourcesConfig,
    forecast: Mapping[str, Mapping[str, float | None]],
    shared_work: Callable[..., Work],
    own_work: Callable[..., Work],
    order: Callable[[TeacherConfig, OpenRows], Stretches] | None = None,
) -> "list[ActorGroup]":
    """One group for each teacher with a pool of its own, and one for all others together.

    Args:
        forecast: the figures of each teacher, see `Forecast`.
        shared_work: makes the work of several teachers, from their names; where it is given only
            those, so does `own_work` of one.
        order: puts the rows of a teacher with a pool of its own into order; by default they stay.
    """
    from persyn_ray.runtime.placement import ActorGroup

    groups: list[ActorGroup] = []
    shared = [teacher for teacher in teachers if not has_own_pool(teacher)]
    together = _union([open_rows[teacher.name] for teacher in shared])
    if together:
        names = tuple(teacher.name for teacher in shared)
        todo = tuple(batches_of(together, _shared_batch(together, shared_resources.most)))
        groups.append(ActorGroup(SHARED, partial(shared_work, names), todo, shared_resources))
    for teacher in teachers:
        mine = open_rows[teacher.name]
        if has_own_pool(teacher) and mine:
            places = mine.items() if order is None else order(teacher, mine)
            known = forecast.get(teacher.name, {})
            groups.append(_own_group(teacher, places, known, partial(own_work, (teacher.name,))))
    return groups


def _own_group(
    teacher: TeacherConfig,
    places: Iterable[tuple[str, list[int]]],
    known: Mapping[str, float | None],
    work: Callable[..., Work],
) -> "ActorGroup":
    """The group of a teacher with a pool of its own.

    Args:
        places: of the rows that it has to answer, in the order in which it gets them.
        known: its forecast.
    """
    from persyn_ray.runtime.placement import BATCHES_IN_FLIGHT, ActorGroup

    size = batch_rows(teacher)
    units = tuple(unit for shard, some in places for unit in batches_of({shard: some}, size))
    load, seconds = _seconds(teacher, known, len(units))
    return ActorGroup(
        teacher.name,
        work,
        units,
        resources_of(teacher),
        isinstance(teacher.engine, OpenAIEngineConfig),
        load,
        seconds,
        _prefetch(teacher),
        BATCHES_IN_FLIGHT if streams(teacher) else 1,
    )


def _union(of: Sequence[OpenRows]) -> OpenRows:
    """Places that are open for any of some teachers, by shard."""
    shards = sorted({shard for rows in of for shard in rows})
    return {
        shard: sorted({place for rows in of for place in rows.get(shard, ())}) for shard in shards
    }


def _shared_batch(rows: OpenRows, actors: int) -> int:
    """Rows of a batch for the shared pool: two batches for each actor where there are few."""
    total = sum(len(places) for places in rows.values())
    return max(1, min(ROWS_AT_ONCE, math.ceil(total / (2 * actors)) if actors > 1 else total))


def _prefetch(teacher: TeacherConfig) -> Any:
    if not isinstance(teacher.engine, VllmEngineConfig):
        return None
    from persyn_ray.models.load import fetch_weights

    model = teacher.engine.model
    return partial(fetch_weights, model.name, model.revision)


def _seconds(
    teacher: TeacherConfig, known: Mapping[str, float | None], num_units: int
) -> tuple[float, float]:
    """Seconds to load an engine and for one engine to do all units, by forecast where there is
    one: only their proportions shape the schedule."""
    load = resources_of(teacher).load_seconds or known.get("load_seconds") or UNKNOWN_SECONDS
    load += known.get("tail_seconds") or 0.0  # which every engine has, however many share the work
    return load, known.get("engine_seconds") or UNKNOWN_SECONDS * num_units


def _unreachable(run: RunLayout, step: str, teacher: str) -> str:
    return (
        f"Teacher {teacher!r} could not be reached for a single prompt: "
        f"{_last_reason(run, step, teacher)}. All others are done; the same command asks it again."
    )


def _open(run: RunLayout, step: str, teacher: str, num: int) -> str:
    """What a user has to know of prompts that a teacher has left open."""
    return (
        f"  {num:,} prompts of teacher {teacher!r} are open: {_last_reason(run, step, teacher)}. "
        f"`--from {step}` asks for them again."
    )


def _last_reason(run: RunLayout, step: str, teacher: str) -> str:
    reasons = [
        row["detail"]
        for _, table in run.unavailable(step, teacher).tables()
        for row in table.to_pylist()
    ]
    return str(reasons[-1]).rstrip(".") if reasons else "no reason is known"
