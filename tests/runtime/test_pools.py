"""Actor pools: the same rows as a plain loop, clear failures, and work that survives its actor."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import ray.cloudpickle

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.runtime.pools import run_units
from persyn_ray.runtime.session import Cluster
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress, Unit, units_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.schemas import RESPONSES

pytestmark = pytest.mark.ray
ONE_ACTOR = StepResourcesConfig(actors=1, cpus=1)
# Workers cannot import a test module by its name.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Count:
    """Writes one file per unit; on the unit `deadly` it kills its process, the first time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, unit: Unit) -> Progress:
        name, mark = unit["shard"], self.folder / "died"
        if name == "deadly" and not mark.exists():
            mark.touch()
            os._exit(1)
        (self.folder / f"{name}.{os.getpid()}").touch()
        return Progress(rows=1)


class Refuse:
    """Fails as a user's mistake makes a stage fail."""

    def __call__(self, unit: Unit) -> Progress:
        raise ConfigError("teachers.a.model is wrong")


@pytest.fixture
def scripted_run(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Three scripted teachers on 30 parallel prompts in shards of 3."""
    changes = {"prompts.num_parallel": 30, "prompts.num_heldout": 0, "prompts.shard_rows": 3}
    recipe = make_recipe(changes, num_prompts=40)
    run = run_of(recipe)
    counts = write_prompts(recipe, run)
    write_record(run.records, Record("prompts", "x", {}, {}, counts.model_dump(mode="json")))
    return recipe


def test_a_pool_writes_the_rows_that_a_plain_loop_writes(
    cluster: Cluster, scripted_run: Recipe, tmp_path: Path
) -> None:
    run = run_of(scripted_run)
    units = units_of(shards_of(run, "parallel"))
    done = list(run_units(partial(Collect, scripted_run), units, ONE_ACTOR, "collect"))
    rows = [
        table.sort_by("prompt_id")
        for teacher in scripted_run.teachers
        for _, table in run.responses(teacher).tables()
    ]

    elsewhere = scripted_run.model_copy(update={"run": str(tmp_path / "loop")})
    twin = run_of(elsewhere)
    write_record(
        twin.records,
        Record("prompts", "x", {}, {}, write_prompts(elsewhere, twin).model_dump(mode="json")),
    )
    collect = Collect(elsewhere)
    for unit in units:
        collect(unit)
    expected = [
        table.sort_by("prompt_id")
        for teacher in elsewhere.teachers
        for _, table in twin.responses(teacher).tables()
    ]
    assert len(done) == len(units)
    assert [table.select(RESPONSES.names) for table in rows] == expected


def test_units_survive_the_death_of_their_actor(cluster: Cluster, tmp_path: Path) -> None:
    units = units_of(["a", "deadly", "b", "c"])
    done = list(run_units(partial(Count, tmp_path), units, ONE_ACTOR, "count"))
    assert sum(progress.rows for progress in done) == len(units)
    assert {file.stem for file in tmp_path.glob("*.*")} == {"a", "deadly", "b", "c"}


def test_a_mistake_reaches_the_user_as_one_message(cluster: Cluster) -> None:
    with pytest.raises(StepError, match=r"^Step collect failed\. teachers\.a\.model is wrong$"):
        list(run_units(Refuse, units_of(["a"]), ONE_ACTOR, "collect"))


def test_no_units_need_no_pool(cluster: Cluster) -> None:
    assert list(run_units(Refuse, [], ONE_ACTOR, "collect")) == []
