"""Step evaluate: held-out problems and students in, batches for actor pools or engine groups out.

Students that vLLM answers for get a pool each, scheduled over the cluster as teachers are; all
others share `resources.evaluate`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from persyn_ray.pipeline.choices import VLLM_SEQUENCES, assigned_methods
from persyn_ray.pipeline.progress import Watched, follow
from persyn_ray.pipeline.score import OnPool
from persyn_ray.recipe.own_code import PythonQualityConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.training import EvaluateConfig, EvaluateVllmConfig
from persyn_ray.shards.evaluate import without_rows
from persyn_ray.shards.students.harness import RESULTS, EvaluateByHarness, Metrics, metrics_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress, Unit, Work, batches_of
from persyn_ray.storage.layout import BEFORE, RunLayout, quality_identity
from persyn_ray.storage.records import Settings

if TYPE_CHECKING:
    from persyn_ray.runtime.placement import ActorGroup

PROBLEMS_AT_ONCE = 256
"""Problems of a batch for an engine that takes one batch after the other."""


def answering(section: EvaluateConfig) -> Settings:
    """What the recipe says about how students answer and are checked."""
    names = {"max_tokens", "temperature", "top_p", "seed", "check", "limit"}
    engine = section.engine.model_dump(mode="json", exclude={"resources"})
    said = section.model_dump(mode="json", include=names) | {"engine": engine}
    if isinstance(section.check, PythonQualityConfig):
        said["check"] = quality_identity(section.check)
    if section.lm_eval is not None:
        said["lm_eval"] = section.lm_eval.model_dump(mode="json")
    return said


def reading_settings(section: EvaluateConfig) -> Settings:
    """What decides which held-out problems there are: code of one's own refuses none."""
    said = section.model_dump(mode="json", include={"path", "check"})
    if isinstance(section.check, PythonQualityConfig):
        said["check"] = {"kind": section.check.kind}
    return said


def open_units(
    run: RunLayout, students: Sequence[str], limit: int | None, size: int = PROBLEMS_AT_ONCE
) -> list[Unit]:
    """Batches of the held-out problems that students have to answer and have not."""
    return [
        Unit(shard=unit["shard"], rows=unit.get("rows", []), student=student)
        for student in students
        for unit in batches_of(_open_problems(run, student, limit), size)
    ]


def student_groups(
    run: RunLayout,
    students: Sequence[str],
    limit: int | None,
    engine: EvaluateVllmConfig,
    build: Callable[..., Work],
) -> "list[ActorGroup]":
    """One group of engines for each student, with batches of as many rows as one works on.

    Args:
        build: makes the work of an actor from the placement group of its engine's workers.
    """
    from persyn_ray.runtime.placement import BATCHES_IN_FLIGHT, ActorGroup

    size = int(engine.resources.arguments.get("max_num_seqs", VLLM_SEQUENCES))
    groups: list[ActorGroup] = []
    for student in students:
        units = tuple(open_units(run, [student], limit, size))
        if units:
            resources, at_once = engine.resources, BATCHES_IN_FLIGHT
            groups.append(ActorGroup(student, build, units, resources, in_flight=at_once))
    return groups


def on_groups(groups: "Sequence[ActorGroup]", run: RunLayout, console: Console) -> Progress:
    """Carry out the groups of all students over the cluster.

    Raises:
        ConfigError: an engine fits no node.
        StepError: a student could not be evaluated; the others are.
    """
    from persyn_ray.runtime.teacher_scheduler import cluster_nodes, run_actor_groups

    marks = run.records / "engines" / "evaluate"
    done = run_actor_groups(groups, cluster_nodes(), "evaluate", marks, {})
    return follow(done, Watched("evaluate", sum(len(group.units) for group in groups), console))


def by_harness(recipe: Recipe, run: RunLayout, on_pool: OnPool) -> dict[str, Metrics]:
    """Evaluate all students by the evaluation harness; metrics by student.

    Raises:
        StepError: the harness failed; students that are done stay done.
    """
    students = (BEFORE, *assigned_methods(recipe.compare))
    left = [name for name in students if metrics_of(run, name) is None]
    units = [Unit(shard=RESULTS, student=name) for name in left]
    on_pool(partial(EvaluateByHarness, recipe), units, recipe.resources.evaluate, "lm_eval")
    found = {name: metrics_of(run, name) for name in students}
    return {name: of for name, of in found.items() if of is not None}


def put_together(run: RunLayout, students: Sequence[str]) -> None:
    """Compact the tables of answers, where a run of many batches has left many parts."""
    from persyn_ray.runtime.compaction import compact_tables

    compact_tables([run.evaluations(student) for student in students])


def _open_problems(run: RunLayout, student: str, limit: int | None) -> dict[str, list[int]]:
    """Places of the held-out problems, by shard, that a student has to answer and has not."""
    left, found = limit, dict[str, list[int]]()
    for shard in shards_of(run, "heldout"):
        rows = run.prompts.num_rows(shard)
        if left is not None:
            rows = min(rows, left)
            left -= rows
        places = without_rows(run, run.evaluations(student), shard)
        found[shard] = [place for place in places if place < rows]
    return found
