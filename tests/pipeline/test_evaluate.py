"""Students evaluated by engines that stream: groups like teachers', rows once, gone on with."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from persyn_ray.engines.base import Completion, Done, Request
from persyn_ray.pipeline.evaluate import answering, open_units, student_groups
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.training import EvaluateVllmConfig
from persyn_ray.runtime.placement import Node, place_actor_groups
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.part_files import all_rows
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Unit
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import EVALUATIONS

from ..engines.streaming import StreamingEngine

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
NUM_HELDOUT = 30
PATIENCE = 120.0


class Meeting(StreamingEngine):
    """An engine that answers nothing until two calls are there."""

    def __init__(self) -> None:
        self.met, self.asked = threading.Barrier(2), list[str]()

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        self.met.wait(PATIENCE)
        for place, request in enumerate(requests):
            self.asked.append(request.prompt_id)
            done(place, Completion("#### 1", "stop", 1, 2))


def heldout(make_recipe: Make, **engine: Any) -> Recipe:
    sizes = {"prompts.num_heldout": NUM_HELDOUT, "prompts.shard_rows": 20}
    return make_recipe(sizes | {"evaluate.engine": {"kind": "vllm"} | engine}, num_prompts=60)


def groups_of(recipe: Recipe, run: RunLayout, limit: int | None = None) -> list[Any]:
    engine = recipe.evaluate.engine
    assert isinstance(engine, EvaluateVllmConfig)
    build = partial(EvaluateShard, recipe)
    return student_groups(run, ["before", "persyn"], limit, engine, build)


def test_batches_of_a_student_go_on_together_and_each_problem_is_answered_once(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, engine = heldout(make_recipe), Meeting()
    run = carry_out(recipe, until="prompts")
    monkeypatch.setattr("persyn_ray.stages.generate.build_engine", lambda *_: engine)
    units = open_units(run, ["before"], None, size=5)
    assert len(units) == 6
    work = EvaluateShard(recipe)
    with ThreadPoolExecutor(2) as threads:  # one after the other would wait for ever
        done = list(threads.map(work, units[:4]))
    assert sum(one.rows for one in done) == 20
    assert sum(one.tokens for one in done) == 40
    again = open_units(run, ["before"], None, size=5)  # and what was left is found
    assert sum(len(unit.get("rows", [])) for unit in again) == 10
    with ThreadPoolExecutor(2) as threads:
        rows = sum(one.rows for one in threads.map(EvaluateShard(recipe), [*units[:2], *again]))
    assert rows == 10
    ids = all_rows(run.evaluations("before"), EVALUATIONS)["prompt_id"].to_pylist()
    asked = [
        name
        for shard in shards_of(run, "heldout")
        for name in run.prompts.read_table(shard)["prompt_id"].to_pylist()
    ]
    assert sorted(ids) == sorted(asked) == sorted(engine.asked)
    assert open_units(run, ["before"], None) == []


def test_each_student_gets_engines_of_its_own_across_gpus(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    resources = {"tensor_parallel": 2, "arguments": {"max_num_seqs": 8}}
    recipe = heldout(make_recipe, resources=resources)
    run = carry_out(recipe, until="prompts")
    groups = groups_of(recipe, run)
    assert [group.name for group in groups] == ["before", "persyn"]
    for group in groups:
        sizes = [len(unit["rows"]) for unit in group.units]
        assert max(sizes) == 8  # as many as the engine works on at once
        assert sum(sizes) == NUM_HELDOUT
        assert {unit["student"] for unit in group.units} == {group.name}
    tasks = place_actor_groups(groups, [Node("n", 8.0, 4.0)])
    assert {task.group.name for task in tasks} == {"before", "persyn"}
    assert all(len(task.place.bundles) == 2 for task in tasks)  # two GPUs in a placement group
    assert all(task.place.in_flight > 1 for task in tasks)
    limited = groups_of(recipe, run, limit=9)
    assert [sum(len(u["rows"]) for u in group.units) for group in limited] == [9, 9]


def test_where_students_are_evaluated_is_no_part_of_what_they_say(make_recipe: Make) -> None:
    said = answering(heldout(make_recipe).evaluate)
    many = heldout(make_recipe, resources={"tensor_parallel": 8})
    assert answering(many.evaluate) == said
    assert answering(heldout(make_recipe, dtype="float16").evaluate) != said
    sampled = make_recipe({"evaluate.temperature": 0.7, "evaluate.engine": {"kind": "vllm"}})
    assert answering(sampled.evaluate) != said
    assert answering(make_recipe().evaluate)["engine"] == {"kind": "transformers"}


def test_a_unit_of_another_student_takes_its_place(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, made = heldout(make_recipe), list[str]()
    run = carry_out(recipe, until="prompts")

    def build(teacher: Any, *_: Any) -> Any:
        made.append(teacher.engine.model.name)
        engine = Meeting()
        engine.met = threading.Barrier(1)
        return engine

    monkeypatch.setattr("persyn_ray.stages.generate.build_engine", build)
    work, shard = EvaluateShard(recipe), shards_of(run, "heldout")[0]
    for student in ("before", "persyn"):
        assert work(Unit(shard=shard, rows=[0, 1], student=student)).rows == 2
    assert made == [recipe.student.name, run.student("persyn").address]
