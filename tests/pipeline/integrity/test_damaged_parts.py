"""Part files of several shards that cannot be read: which step is open again, and what is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.integrity.recovery import Damage, find_damage
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.compaction import compact
from persyn_ray.shards.part_files import existing, ids_of_shard, parts_in
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import RESPONSES

from .test_recovery import WAYS, damage

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def answers(recipe: Recipe, run: RunLayout, shard: str) -> pa.Table:
    """A response of the first teacher to every prompt of a shard."""
    ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
    row = {"teacher": recipe.teachers[0].name, "response": "#### 1", "finish_reason": "stop"}
    counts = {"num_prompt_tokens": 3, "num_tokens": 2}
    return pa.Table.from_pylist([row | counts | {"prompt_id": n} for n in ids], schema=RESPONSES)


def found(recipe: Recipe) -> list[Damage]:
    return list(find_damage(run_of(recipe), recipe.teachers, recipe.compare))


def only_part(folder: Folder) -> str:
    (part,) = parts_in(folder)
    assert part.has_many_shards
    return part.name


@pytest.mark.parametrize(
    ("splits", "compare", "step"),
    [
        (("parallel",), {}, "collect"),
        (("routed",), {}, "synthesize"),
        (("parallel", "routed"), {}, "collect"),  # the steps after it are done again too
        (("heldout", "routed"), {"heldout": True}, "collect"),
        (("heldout", "routed"), {}, "synthesize"),
        (("heldout", "routed"), {"methods": ["oracle"], "students": True}, "collect"),
    ],
)
def test_a_part_of_several_shards_is_made_anew_by_the_first_step_that_asks_for_any(
    make_recipe: Make,
    carry_out: CarryOut,
    splits: tuple[str, ...],
    compare: dict[str, Any],
    step: str,
) -> None:
    recipe = make_recipe({"compare": compare})
    run = carry_out(recipe, until="prompts")
    folder = run.responses(recipe.teachers[0])
    add_part(folder, {shard: answers(recipe, run, shard) for shard in shards_of(run, *splits)})
    assert found(recipe) == []
    name = only_part(folder)
    damage(folder, name)
    (one,) = found(recipe)
    assert (one.name, one.step, one.folder.address) == (name, step, folder.address)


def test_parts_of_another_sharding_open_no_step_of_this_run(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    other = make_recipe({"prompts.shard_rows": 3})
    run = carry_out(other, until="prompts")
    folder = run.responses(other.teachers[0])
    add_part(folder, {shard: answers(other, run, shard) for shard in shards_of(run, "parallel")})
    damage(folder, only_part(folder), "half")
    recipe = make_recipe({"prompts.shard_rows": 5})
    assert run_of(recipe).root.address == run.root.address
    carry_out(recipe, until="prompts")
    assert [one.step for one in found(recipe)] == [None]


@pytest.mark.parametrize("way", list(WAYS))
def test_only_what_a_damaged_part_held_is_asked_again(
    make_recipe: Make, carry_out: CarryOut, way: str
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    shards, folders = shards_of(run, "parallel"), [run.responses(t) for t in recipe.teachers]
    before = [existing(folders[0], shard, RESPONSES) for shard in shards]
    for folder in folders:
        compact(folder)
    path = damage(folders[0], only_part(folders[0]), way)
    assert [ids_of_shard(folders[0], shard) for shard in shards] == [[], [], []]
    for one in found(recipe):
        assert one.step == "collect"
        one.set_aside()
    assert found(recipe) == []
    assert Path(f"{path}.damaged").exists()
    assert [Collect(recipe)(unit).rows for unit in units_of(shards)] == [5, 5, 2]
    key = [("prompt_id", "ascending")]
    for shard, table in zip(shards, before, strict=True):
        assert existing(folders[0], shard, RESPONSES).sort_by(key) == table.sort_by(key)


def test_a_sound_part_beside_a_damaged_one_keeps_its_rows(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    folder, shards = run.responses(recipe.teachers[0]), shards_of(run, "parallel")
    add_part(folder, {shard: answers(recipe, run, shard).slice(0, 2) for shard in shards})
    sound = only_part(folder)
    add_part(folder, {shard: answers(recipe, run, shard).slice(2) for shard in shards[:2]})
    (broken,) = {part.name for part in parts_in(folder)} - {sound}
    damage(folder, broken, "zeros")
    assert [one.name for one in found(recipe)] == [broken]
    collect = Collect(recipe, teachers=(recipe.teachers[0].name,))
    assert [collect(unit).rows for unit in units_of(shards)] == [3, 3, 0]
    mine = [existing(folder, s, RESPONSES)["response"].to_pylist().count("#### 1") for s in shards]
    assert mine == [2, 2, 2]
