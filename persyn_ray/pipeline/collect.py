"""Steps collect and synthesize: runs each teacher's actor group within its resources and budget.

Teachers with resources of their own, vLLM and endpoints get a pool each and are scheduled over the
cluster; all others share one pool of actors, in which small models stand side by side. Before the
first pool starts every teacher is checked, so that a wrong key or path costs nothing.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from rich.console import Console

from persyn_ray.data import selection
from persyn_ray.errors import ConfigError, DataError, StepError
from persyn_ray.escaping import plain
from persyn_ray.pipeline.choices import has_own_pool, resources_of
from persyn_ray.pipeline.plan.estimate import read_forecast
from persyn_ray.pipeline.progress import follow
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import (
    OpenAIEngineConfig,
    RecordedEngineConfig,
    TeacherConfig,
    VllmEngineConfig,
)
from persyn_ray.shards.collect import Collect, assigned
from persyn_ray.shards.response_store import existing, shards_in
from persyn_ray.shards.units import Unit, Work, units_of
from persyn_ray.shards.work import CollectAndScore
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import RESPONSES

SHARED = "shared pool"
UNKNOWN_SECONDS = 60.0  # per unit and per load, where nothing better is known


def check_teachers(teachers: Iterable[TeacherConfig], recipe: Recipe) -> None:
    """Refuse teachers that cannot work, all of them in one message, before anything is spent.

    Raises:
        ConfigError: wrong model path, no chat template, no such model at an endpoint, wrong key, a
            recorded table that cannot be read.
    """
    from persyn_ray.engines.build import build_engine

    complaints: list[str] = []
    for teacher in teachers:
        try:
            build_engine(teacher, recipe.pool).check()
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
) -> dict[str, Any]:
    """Have the teachers answer what is unanswered of some shards, and count what they did.

    Args:
        methods: None asks every teacher for every prompt; otherwise for what is assigned to it.

    Raises:
        ConfigError: a teacher cannot work, or fits no node.
        StepError: a group failed, or an endpoint gave no answer at all.
    """
    from persyn_ray.runtime.teacher_scheduler import GroupProgress, cluster_nodes, run_actor_groups

    units = _open_units(recipe, run, shards, methods)
    asked = [teacher for teacher in recipe.teachers if units[teacher.name]]
    if any(has_own_pool(t) or isinstance(t.engine, RecordedEngineConfig) for t in asked):
        check_teachers(asked, recipe)
    groups = _actor_groups(recipe, run, step, units, methods)
    counts: dict[str, GroupProgress] = {}
    done = run_actor_groups(groups, cluster_nodes(), step, run.records / "engines" / step, counts)
    total = follow(done, step, sum(len(group.units) for group in groups), console)
    for name, count in counts.items():
        nothing_came = count.done.rows and count.done.unavailable == count.done.rows
        if nothing_came and not run.responses(recipe.teachers[recipe.pool.index(name)]).names():
            raise StepError(_unreachable(run, step, name))
        if count.done.unavailable:
            console.print(plain(_open(run, step, name, count.done.unavailable), "yellow"))
    return {
        "rows": total.rows,
        "tokens": total.tokens,
        "errors": total.errors,
        "unavailable": total.unavailable,
        "teachers": {
            name: {
                "rows": count.done.rows,
                "tokens": count.done.tokens,
                "seconds": round(count.seconds, 1),
            }
            for name, count in counts.items()
            if name != SHARED
        },
    }


def _open_units(
    recipe: Recipe, run: RunLayout, shards: Sequence[str], methods: tuple[str, ...] | None
) -> dict[str, tuple[Unit, ...]]:
    """For each teacher the shards with a prompt which it has to answer and has not.

    A shard is read once for all teachers, and a teacher's responses only where there are some.
    """
    folders = {teacher.name: run.responses(teacher) for teacher in recipe.teachers}
    filed = {name: shards_in(folder) for name, folder in folders.items()}
    found: dict[str, list[str]] = {name: [] for name in folders}
    for shard in shards:
        for name, wanted in _wanted(recipe, run, shard, methods).items():
            if shard in filed[name]:
                answered = existing(folders[name], shard, RESPONSES, ["prompt_id"])
                wanted = selection.without(wanted, "prompt_id", answered["prompt_id"])
            if wanted.num_rows:
                found[name].append(shard)
    return {name: tuple(units_of(of_teacher)) for name, of_teacher in found.items()}


def _wanted(
    recipe: Recipe, run: RunLayout, shard: str, methods: tuple[str, ...] | None
) -> dict[str, pa.Table]:
    """Ids of a shard's prompts for each teacher: all of them, or those assigned to it."""
    if methods is None:
        prompts = run.prompts.read_table(shard, ["prompt_id"])
        return dict.fromkeys(recipe.pool.names, prompts)
    table = assigned(run, shard, methods)
    return {name: selection.where(table, "teacher", name) for name in recipe.pool.names}


def _actor_groups(
    recipe: Recipe,
    run: RunLayout,
    step: str,
    units: dict[str, tuple[Unit, ...]],
    methods: tuple[str, ...] | None,
) -> list[Any]:
    """One group for each teacher with a pool of its own, and one for all others together."""
    from persyn_ray.runtime.placement import ActorGroup

    groups: list[ActorGroup] = []
    forecast = read_forecast(run, step).get("teachers", {})
    shared = [teacher for teacher in recipe.teachers if not has_own_pool(teacher)]
    together = sorted({unit["shard"] for teacher in shared for unit in units[teacher.name]})
    if together:
        names = tuple(teacher.name for teacher in shared)
        build = partial(_shared_work, recipe, methods, names)
        resources = getattr(recipe.resources, step)
        groups.append(ActorGroup(SHARED, build, tuple(units_of(together)), resources))
    for teacher in recipe.teachers:
        if has_own_pool(teacher) and units[teacher.name]:
            known = forecast.get(teacher.name, {})
            load, work = _seconds(teacher, known, len(units[teacher.name]))
            groups.append(
                ActorGroup(
                    teacher.name,
                    partial(Collect, recipe, methods, (teacher.name,)),
                    units[teacher.name],
                    resources_of(teacher),
                    isinstance(teacher.engine, OpenAIEngineConfig),
                    load,
                    work,
                    _prefetch(teacher),
                )
            )
    return groups


def _shared_work(
    recipe: Recipe, methods: tuple[str, ...] | None, names: tuple[str, ...], placement: Any
) -> Work:
    if methods is None and recipe.resources.score_with_collect:
        return CollectAndScore(recipe, names)
    return Collect(recipe, methods, names, placement)


def _prefetch(teacher: TeacherConfig) -> Any:
    if not isinstance(teacher.engine, VllmEngineConfig):
        return None
    from persyn_ray.models.load import fetch_weights

    model = teacher.engine.model
    return partial(fetch_weights, model.name, model.revision)


def _seconds(teacher: TeacherConfig, known: dict[str, Any], num_units: int) -> tuple[float, float]:
    """Seconds to load an engine and for one engine to do all units, by forecast where there is
    one: only their proportions shape the schedule."""
    load = resources_of(teacher).load_seconds or known.get("load_seconds") or UNKNOWN_SECONDS
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
