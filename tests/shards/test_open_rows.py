"""The places that are open for each teacher, against sets of ids, and the batches made of them."""

import random
from collections.abc import Callable
from itertools import chain
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.collect import OpenRows, Wanted, actor_groups, open_rows
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Unit, Work, units_of
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import ASSIGNMENT, RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
SPLITS = ("parallel", "heldout", "routed")
PROBE = 5


def pool(**changes: dict[str, Any]) -> dict[str, Any]:
    names = ("all", "probe", "retired", "other")
    settings = {"probe": {"num_probe": PROBE}, "retired": {"retired": True}} | changes
    made = [{"name": n, "engine": {"kind": "scripted"}, **settings.get(n, {})} for n in names]
    return {"teachers": made}


def opened(recipe: Recipe, methods: tuple[str, ...] | None, *splits: str) -> dict[str, OpenRows]:
    run = run_of(recipe)
    wanted = Wanted(recipe.teachers, run, methods, recipe.prompts.seed)
    return open_rows(recipe.teachers, run, shards_of(run, *splits), wanted)


def prompts_of(run: RunLayout, *splits: str) -> dict[str, list[str]]:
    """Ids by shard, in their places."""
    of = run.prompts.read_table
    return {s: of(s, ["prompt_id"])["prompt_id"].to_pylist() for s in shards_of(run, *splits)}


def respond(teacher: str, *ids: str, reason: str = "stop") -> pa.Table:
    row = {"teacher": teacher, "response": "yes", "num_prompt_tokens": 1, "num_tokens": 1}
    rows = [row | {"prompt_id": name, "finish_reason": reason} for name in ids]
    return pa.Table.from_pylist(rows, schema=RESPONSES)


def file_at_random(recipe: Recipe, run: RunLayout, draw: random.Random) -> set[tuple[str, str]]:
    """Parts of one or several shards, some rows twice, failures too; returns who answered what."""
    answered: set[tuple[str, str]] = set()
    prompts = prompts_of(run, *SPLITS)
    for teacher in recipe.teachers:
        for _ in range(draw.randint(0, 4)):
            part: dict[str, pa.Table] = {}
            for shard in draw.sample(sorted(prompts), draw.randint(1, len(prompts))):
                ids = draw.sample(prompts[shard], draw.randint(0, min(3, len(prompts[shard]))))
                reason = draw.choice(("stop", "length", "error"))
                part[shard] = respond(teacher.name, *ids, reason=reason)
                answered |= {(teacher.name, name) for name in ids}
            add_part(run.responses(teacher), part)
    return answered


def places(prompts: dict[str, list[str]], wanted: set[str]) -> OpenRows:
    """The independent writing: ids to places, shards without any left out."""
    by_shard = {
        s: [n for n, name in enumerate(ids) if name in wanted] for s, ids in prompts.items()
    }
    return {shard: found for shard, found in by_shard.items() if found}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_open_of_collect_is_what_is_asked_and_unanswered(
    make_recipe: Make, carry_out: CarryOut, seed: int
) -> None:
    recipe = make_recipe(pool())
    run = carry_out(recipe, until="prompts")
    probed = {
        n
        for s, at in opened(recipe, None, "parallel")["probe"].items()
        for n in (prompts_of(run, "parallel")[s][place] for place in at)
    }
    assert len(probed) == PROBE
    answered = file_at_random(recipe, run, random.Random(seed))
    prompts = prompts_of(run, *SPLITS)
    everything, parallel = (
        set(chain(*of.values())) for of in (prompts, prompts_of(run, "parallel"))
    )
    asked = {
        "all": everything,
        "other": everything,
        "probe": everything - (parallel - probed),
        "retired": set[str](),
    }
    for name, found in opened(recipe, None, *SPLITS).items():
        done = {prompt_id for teacher, prompt_id in answered if teacher == name}
        assert found == places(prompts, asked[name] - done)


def test_what_is_open_is_what_a_call_answers_and_then_nothing_is(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe(pool())
    run = carry_out(recipe, until="prompts")
    file_at_random(recipe, run, random.Random(1))
    before = opened(recipe, None, *SPLITS)
    for teacher in recipe.teachers:
        collect = Collect(recipe, teachers=(teacher.name,))
        made = {u["shard"]: collect(u).rows for u in units_of(shards_of(run, *SPLITS))}
        asked = {shard: len(found) for shard, found in before[teacher.name].items()}
        assert {shard: rows for shard, rows in made.items() if rows} == asked
    assert all(found == {} for found in opened(recipe, None, *SPLITS).values())


@pytest.mark.parametrize("seed", range(4))
def test_several_methods_ask_a_teacher_once_for_what_any_of_them_gives_it(
    make_recipe: Make, carry_out: CarryOut, seed: int
) -> None:
    recipe, draw = make_recipe(pool()), random.Random(seed)
    run = carry_out(recipe, until="prompts")
    answered = file_at_random(recipe, run, draw)
    prompts = prompts_of(run, "parallel", "routed")
    given: dict[str, set[tuple[str, str]]] = {"persyn": set(), "random": set(), "car": set()}
    for method, pairs in given.items():
        for shard, ids in prompts.items():
            chosen = [(draw.choice(recipe.pool.names), name) for name in ids if draw.random() < 0.8]
            draw.shuffle(chosen)
            rows = [{"prompt_id": name, "teacher": teacher} for teacher, name in chosen]
            run.assignment(method).write_table(shard, pa.Table.from_pylist(rows, schema=ASSIGNMENT))
            pairs |= set(chosen)
    for methods in (("persyn",), ("random", "persyn"), ("persyn", "random", "car")):
        wanted = set.union(*(given[method] for method in methods)) - answered
        found = opened(recipe, methods, "parallel", "routed")
        for name in recipe.pool.names:  # a retired one too: who assigned to it has to know
            mine = {prompt_id for teacher, prompt_id in wanted if teacher == name}
            assert found[name] == places(prompts, mine)


def test_what_is_answered_in_other_shards_is_open_and_costs_nothing(
    make_recipe: Make, carry_out: CarryOut, tmp_path: Any
) -> None:
    store = {"responses.store": str(tmp_path / "store"), "run": str(tmp_path / "first")}
    carry_out(make_recipe(store), until="collect")
    recipe = make_recipe(store | {"run": str(tmp_path / "second"), "prompts.shard_rows": 7})
    run = carry_out(recipe, until="prompts")
    prompts = prompts_of(run, "parallel")
    assert opened(recipe, None, "parallel") == {
        name: places(prompts, set(chain(*prompts.values()))) for name in recipe.pool.names
    }
    assert [Collect(recipe)(unit).rows for unit in units_of(list(prompts))] == [0] * len(prompts)
    assert opened(recipe, None, "parallel") == {name: {} for name in recipe.pool.names}


def no_work(*_: Any) -> Work:
    raise AssertionError("groups are made, not started")


def pairs_of(units: tuple[Unit, ...]) -> list[tuple[str, int]]:
    return [(unit["shard"], place) for unit in units for place in unit.get("rows", [])]


@pytest.mark.parametrize("actors", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_batches_of_shared_pools_hold_every_open_place_once(
    make_recipe: Make, actors: int, seed: int
) -> None:
    draw = random.Random(seed)
    recipe = make_recipe(pool(other={"resources": {"gpus": 0, "replicas": 1}}))
    shards = [f"shard-{number:06d}.parquet" for number in range(4)]
    rows: dict[str, OpenRows] = {
        name: {s: sorted(draw.sample(range(900), draw.randint(1, 600))) for s in shards[:keep]}
        for name, keep in zip(recipe.pool.names, (2, 3, 0, 4), strict=True)
    }
    resources = StepResourcesConfig(actors=actors, cpus=1.0, gpus=0.0, threads=None)
    shared, own = actor_groups(recipe.teachers, rows, resources, {}, no_work, no_work)
    assert own.name == "other"
    assert pairs_of(own.units) == [(s, place) for s, of in rows["other"].items() for place in of]
    union = {(s, p) for name in ("all", "probe") for s, of in rows[name].items() for p in of}
    assert sorted(pairs_of(shared.units)) == sorted(union)
    sizes = [len(unit.get("rows", [])) for unit in shared.units]
    assert max(sizes) <= 256
    assert len(sizes) >= 2 * actors
    assert min(sizes) > 0


def test_few_rows_are_shared_out_and_no_work_makes_no_group(make_recipe: Make) -> None:
    recipe = make_recipe(pool())
    four = StepResourcesConfig(actors=4, cpus=1.0, gpus=0.0, threads=None)
    nothing: dict[str, OpenRows] = {name: {} for name in recipe.pool.names}

    def units(rows: dict[str, OpenRows]) -> list[list[int]]:
        groups = actor_groups(recipe.teachers, rows, four, {}, no_work, no_work)
        return [unit.get("rows", []) for group in groups for unit in group.units]

    assert units(nothing) == []
    assert units(nothing | {"all": {"shard-000000.parquet": [3]}}) == [[3]]
    some: dict[str, OpenRows] = nothing | {"probe": {"shard-000000.parquet": list(range(16))}}
    assert units(some) == [[n, n + 1] for n in range(0, 16, 2)]
