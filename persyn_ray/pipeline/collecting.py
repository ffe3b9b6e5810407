"""Ask the teachers: steps collect and synthesize as crews, each teacher within what it may take.

Teachers with resources of their own, vLLM and endpoints get a pool each and are scheduled over the
cluster; all others share one pool of actors, in which small models stand side by side. Before the
first pool starts every teacher is checked, so that a wrong key or path costs nothing.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from persyn_ray import rows
from persyn_ray.config import Recipe
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.layout import Run
from persyn_ray.pipeline.progress import follow
from persyn_ray.schemas import RESPONSES
from persyn_ray.stages.store import existing
from persyn_ray.stages.work import Collect, CollectAndScore, Unit, Work, units_of
from persyn_ray.teachers import OpenAIEngine, Teacher, TeacherResources, VllmEngine

SHARED = "shared pool"
UNKNOWN_SECONDS = 60.0  # per unit and per load, where nothing better is known


def has_own_pool(teacher: Teacher) -> bool:
    """Whether a teacher is run by itself: it says so, or its engine overlaps requests."""
    return teacher.resources is not None or isinstance(teacher.engine, VllmEngine | OpenAIEngine)


def resources_of(teacher: Teacher) -> TeacherResources:
    """A teacher's own resources, or what its kind of engine takes by default."""
    if teacher.resources is not None:
        return teacher.resources
    if isinstance(teacher.engine, OpenAIEngine):
        return TeacherResources(gpus=0, cpus=0, in_flight=4)
    return TeacherResources()


def check_teachers(teachers: Iterable[Teacher], recipe: Recipe) -> None:
    """Refuse teachers that cannot work, all of them in one message, before anything is spent.

    Raises:
        ConfigError: wrong model path, no chat template, no such model at an endpoint, wrong key.
    """
    from persyn_ray.engines.build import build_engine

    complaints: list[str] = []
    for teacher in teachers:
        try:
            build_engine(teacher, recipe.pool).check()
        except ConfigError as error:
            complaints.append(str(error))
    if complaints:
        raise ConfigError("\n".join(complaints))


def ask(
    recipe: Recipe,
    run: Run,
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
        StepError: a crew failed, or an endpoint gave no answer at all.
    """
    from persyn_ray.runtime.crews import CrewCounts, cluster_nodes, run_crews

    units = {t.name: _open_units(run, t, shards, methods) for t in recipe.teachers}
    asked = [teacher for teacher in recipe.teachers if units[teacher.name]]
    if any(has_own_pool(teacher) for teacher in asked):
        check_teachers(asked, recipe)
    crews = _crews(recipe, run, step, units, methods)
    counts: dict[str, CrewCounts] = {}
    done = run_crews(crews, cluster_nodes(), step, run.records / "engines" / step, counts)
    total = follow(done, step, sum(len(crew.units) for crew in crews), console)
    for name, count in counts.items():
        if count.done.rows and count.done.unavailable == count.done.rows:
            raise StepError(_unreachable(run, step, name))
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
    run: Run, teacher: Teacher, shards: Sequence[str], methods: tuple[str, ...] | None
) -> tuple[Unit, ...]:
    """Shards that hold a prompt which this teacher has to answer and has not."""
    folder, found = run.responses(teacher), list[str]()
    for shard in shards:
        if methods is None:
            wanted = run.prompts.read_table(shard, ["prompt_id"])
        else:
            tables = [run.assignment(method).read_table(shard) for method in methods]
            assigned = [rows.where(table, "teacher", teacher.name) for table in tables]
            wanted = rows.stack(table.select(["prompt_id"]) for table in assigned)
        answered = existing(folder, shard, RESPONSES)["prompt_id"]
        if rows.without(wanted, "prompt_id", answered).num_rows:
            found.append(shard)
    return tuple(units_of(found))


def _crews(
    recipe: Recipe,
    run: Run,
    step: str,
    units: dict[str, tuple[Unit, ...]],
    methods: tuple[str, ...] | None,
) -> list[Any]:
    """One crew for each teacher with a pool of its own, and one for all others together."""
    from persyn_ray.runtime.placing import Crew

    crews: list[Crew] = []
    shared = [teacher for teacher in recipe.teachers if not has_own_pool(teacher)]
    together = sorted({unit["shard"] for teacher in shared for unit in units[teacher.name]})
    if together:
        names = tuple(teacher.name for teacher in shared)
        build = partial(_shared_work, recipe, methods, names)
        resources = getattr(recipe.resources, step)
        crews.append(Crew(SHARED, build, tuple(units_of(together)), resources))
    for teacher in recipe.teachers:
        if has_own_pool(teacher) and units[teacher.name]:
            load, work = _seconds(run, step, teacher, len(units[teacher.name]))
            crews.append(
                Crew(
                    teacher.name,
                    partial(Collect, recipe, methods, (teacher.name,)),
                    units[teacher.name],
                    resources_of(teacher),
                    isinstance(teacher.engine, OpenAIEngine),
                    load,
                    work,
                    _prefetch(teacher),
                )
            )
    return crews


def _shared_work(
    recipe: Recipe, methods: tuple[str, ...] | None, names: tuple[str, ...], placement: Any
) -> Work:
    if methods is None and recipe.resources.score_with_collect:
        return CollectAndScore(recipe, names)
    return Collect(recipe, methods, names, placement)


def _prefetch(teacher: Teacher) -> Any:
    if not isinstance(teacher.engine, VllmEngine):
        return None
    from persyn_ray.models.load import fetch_weights

    model = teacher.engine.model
    return partial(fetch_weights, model.name, model.revision)


def _seconds(run: Run, step: str, teacher: Teacher, num_units: int) -> tuple[float, float]:
    """Seconds to load an engine and for one engine to do all units, by forecast where there is
    one: only their proportions shape the schedule."""
    resources = resources_of(teacher)
    name = f"forecast-{step}.json"
    forecast = run.records.read_json(name)["teachers"] if run.records.exists(name) else {}
    known = forecast.get(teacher.name, {})
    load = resources.load_seconds or known.get("load_seconds") or UNKNOWN_SECONDS
    work = known.get("engine_seconds") or UNKNOWN_SECONDS * num_units
    return load, work


def _unreachable(run: Run, step: str, teacher: str) -> str:
    reasons = [
        row["detail"]
        for name in run.dead_letters(step).names(f".{teacher}.parquet")
        for row in run.dead_letters(step).read_table(name).to_pylist()
    ]
    return (
        f"Teacher {teacher!r} could not be reached for a single prompt: {reasons[-1:]}. All others "
        "are done; the same command asks it again."
    )
