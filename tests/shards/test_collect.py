"""Who is asked what: everybody everything, but for probes and for those who have retired."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect, probe_order
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.layout import RunLayout, run_of

from ..conftest import rewards_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def teachers(**settings: dict[str, Any]) -> dict[str, Any]:
    engine = {"kind": "scripted"}
    return {
        "teachers": [{"name": n, "engine": engine, **settings.get(n, {})} for n in ("a", "b", "c")]
    }


def collected(recipe: Recipe, run: RunLayout, *splits: str) -> dict[str, set[str]]:
    """Ids of the prompts that each teacher has answered."""
    collect = Collect(recipe)
    for unit in units_of(shards_of(run, *splits)):
        collect(unit)
    return {
        teacher.name: {
            prompt_id
            for _, table in run.responses(teacher).tables(["prompt_id"])
            for prompt_id in table["prompt_id"].to_pylist()
        }
        for teacher in recipe.teachers
    }


def ids_of(run: RunLayout, *splits: str) -> set[str]:
    tables = [run.prompts.read_table(shard, ["prompt_id"]) for shard in shards_of(run, *splits)]
    return {prompt_id for table in tables for prompt_id in table["prompt_id"].to_pylist()}


def test_a_probe_is_drawn_by_hash_and_shared(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe(teachers(b={"num_probe": 3}, c={"num_probe": 5}))
    run = carry_out(recipe, until="prompts")
    answered = collected(recipe, run, "parallel", "heldout")
    parallel, heldout = ids_of(run, "parallel"), ids_of(run, "heldout")
    assert answered["a"] == parallel | heldout
    assert len(answered["b"] & parallel) == 3
    assert len(answered["c"] & parallel) == 5
    assert answered["b"] <= answered["c"]  # they meet one another
    assert answered["b"] >= heldout  # a probe is of the parallel set alone
    order = probe_order(run, recipe.teachers, recipe.prompts.seed)
    assert set(order) == parallel
    assert answered["b"] & parallel == set(order[:3])


def test_another_seed_or_other_shards_move_the_probe_or_do_not(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe(teachers(b={"num_probe": 3}))
    run = carry_out(recipe, until="prompts")
    order = probe_order(run, recipe.teachers, recipe.prompts.seed)
    cut = make_recipe(teachers(b={"num_probe": 3}) | {"prompts.shard_rows": 2})
    cut_run = carry_out(cut, until="prompts")
    assert probe_order(cut_run, cut.teachers, cut.prompts.seed) == order
    in_tables = [
        name
        for shard in shards_of(run, "parallel")
        for name in run.prompts.read_table(shard)["prompt_id"].to_pylist()
    ]
    assert order != in_tables
    assert order != sorted(order)


def test_a_probe_that_grows_asks_for_the_rest_alone(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe(teachers(b={"num_probe": 3}))
    run = carry_out(recipe, until="prompts")
    few = collected(recipe, run, "parallel")["b"]
    larger = make_recipe(teachers(b={"num_probe": 7}))
    units = units_of(shards_of(run, "parallel"))
    collect = Collect(larger)
    assert sum(collect(unit).rows for unit in units) == 4
    more = collected(larger, run, "parallel")["b"]
    assert few < more
    assert len(more) == 7


def test_a_retired_teacher_is_not_asked_and_keeps_its_answers(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe(teachers(c={"retired": True}))
    run = carry_out(recipe, until="prompts")
    assert collected(recipe, run, "parallel")["c"] == set()
    before = make_recipe(teachers())
    whole = collected(before, run_of(before), "parallel")
    assert whole["c"] == ids_of(run, "parallel")
    assert collected(recipe, run, "parallel") == whole


def test_what_a_probe_leaves_out_is_unknown(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe(teachers(b={"num_probe": 3}) | {"student.name": random_llama})
    run = carry_out(recipe, until="prompts")
    collected(recipe, run, "parallel")
    score, shards = Score(recipe), shards_of(run, "parallel")
    for shard in shards:
        score({"shard": shard})
        run.rewards.write_table(shard, rewards_of(recipe, shard))
    rewards = load_rewards(run, shards, 3)
    known = ~(rewards.rewards_PM != rewards.rewards_PM)
    asked = set(probe_order(run, recipe.teachers, recipe.prompts.seed)[:3])
    assert known[:, 1].tolist() == [name in asked for name in rewards.prompt_ids]
    assert known[:, [0, 2]].all()


@pytest.mark.parametrize("changes", [{"retired": True}, {"num_probe": 2}])
def test_neither_moves_a_stored_response(make_recipe: Make, changes: dict[str, Any]) -> None:
    places = [
        [run_of(recipe).stored_responses(teacher).address for teacher in recipe.teachers]
        for recipe in (make_recipe(teachers()), make_recipe(teachers(b=changes)))
    ]
    assert places[0] == places[1]
