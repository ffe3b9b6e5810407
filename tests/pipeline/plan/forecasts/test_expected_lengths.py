"""The order in which open rows go to a teacher: by what it has written so far, and only by that."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.collect import Wanted, actor_groups, open_rows
from persyn_ray.pipeline.plan.forecasts.expected_lengths import BEGINNING, RowOrder
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import ASSIGNMENT, PROMPTS, RESPONSES

from ....conftest import leave_record

Make = Callable[..., Recipe]
ENDPOINT = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
PRICED = {"price": {"response": 1.0}, "budget": {"dollars": 5}}
PARALLEL, ROUTED = ["shard-000000.parquet", "shard-000001.parquet"], ["shard-000002.parquet"]
TASKS = ("short", "long", "middle", None)
TOKENS = {"short": 10, "middle": 100, "long": 1000, None: 100}
SHARED = "Once upon a time. " * (BEGINNING // 10)


def task_of(number: int) -> str | None:
    return TASKS[number % len(TASKS)]


def text_of(number: int) -> str:
    return f"{SHARED}And then? {number}" if number in (81, 84, 91) else f"What is {number:03d}?"


def prompts(numbers: range, split: str) -> pa.Table:
    rows = [
        {
            "prompt_id": f"p{n}",
            "messages": [
                {"role": "system", "content": "Say."},
                {"role": "user", "content": text_of(n)},
            ],
            "task": task_of(n),
            "source": "made",
            "split": split,
        }
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, schema=PROMPTS)


def said(table: pa.Table, teacher: str) -> pa.Table:
    """A response to every prompt, as long as its task says."""
    counts = {"response": "x", "finish_reason": "stop", "num_prompt_tokens": 9}
    rows = [
        counts | {"prompt_id": p, "teacher": teacher, "num_tokens": TOKENS[task]}
        for p, task in zip(table["prompt_id"].to_pylist(), table["task"].to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=RESPONSES)


@pytest.fixture
def routed(make_recipe: Make) -> tuple[Recipe, RunLayout]:
    """80 parallel prompts in two shards, answered by all but one; 20 routed to every teacher."""
    teachers: list[dict[str, Any]] = [
        {"name": "known", "engine": ENDPOINT, "resources": {"max_requests": 5}},
        {"name": "new", "engine": ENDPOINT},
        {"name": "priced", "engine": ENDPOINT, **PRICED},
        {"name": "shared", "engine": {"kind": "scripted"}},
    ]
    recipe = make_recipe({"teachers": teachers})
    tables = {
        PARALLEL[0]: prompts(range(40), "parallel"),
        PARALLEL[1]: prompts(range(40, 80), "parallel"),
        ROUTED[0]: prompts(range(80, 100), "routed"),
    }
    splits = {"parallel": PARALLEL, "heldout": [], "routed": ROUTED}
    result = PromptsResult(rows=100, splits={"parallel": 80}, sharding="made", shards=splits)
    run = leave_record(recipe, "prompts", result)
    for shard, table in tables.items():
        run.prompts.write_table(shard, table)
    for teacher in recipe.teachers:
        if teacher.name != "new":
            parts = {shard: said(tables[shard], teacher.name) for shard in PARALLEL}
            add_part(run.responses(teacher), parts)
    given = [
        {"prompt_id": p, "teacher": teacher.name, "margin": 1.0}
        for teacher in recipe.teachers
        for p in tables[ROUTED[0]]["prompt_id"].to_pylist()
    ]
    run.assignment(PERSYN).write_table(ROUTED[0], pa.Table.from_pylist(given, schema=ASSIGNMENT))
    return recipe, run


def places(recipe: Recipe, run: RunLayout, name: str, rows: list[int]) -> list[int]:
    teacher = recipe.teachers[recipe.pool.index(name)]
    return [p for _, some in RowOrder(run)(teacher, {ROUTED[0]: rows}) for p in some]


def test_prompts_of_tasks_with_long_responses_come_first(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    found = places(recipe, run, "known", list(range(20)))
    assert sorted(found) == list(range(20))
    # 1, 4 and 11 begin alike: what is expected of the longest of them is expected of all.
    assert found[:6] == [1, 4, 11, 5, 9, 13]
    lengths = [TOKENS[task_of(80 + place)] for place in found[6:]]
    assert lengths[:1] == [1000]
    assert lengths[1:] == sorted(lengths[1:], reverse=True)


def test_rows_stay_where_a_budget_chooses_or_teachers_share_actors(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    for name in ("priced", "shared"):
        assert places(recipe, run, name, [1, 3, 7, 11]) == [1, 3, 7, 11]


def test_before_anything_is_written_only_what_begins_alike_is_put_together(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    assert places(recipe, run, "new", [0, 1, 2, 3, 4, 11, 12]) == [0, 1, 4, 11, 2, 3, 12]


def test_a_task_that_was_never_answered_is_expected_to_be_average(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    table = run.prompts.read_table(ROUTED[0])
    tasks = [*table["task"].to_pylist()[:-1], "unheard of"]
    place = table.column_names.index("task")
    run.prompts.write_table(ROUTED[0], table.set_column(place, PROMPTS.field("task"), [tasks]))
    found = places(recipe, run, "known", [0, 5, 8, 12, 19])
    assert (found[0], found[1]) == (5, 19)


def test_batches_of_a_teacher_follow_its_order_and_hold_all_rows(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    wanted = Wanted(recipe.teachers, run, (PERSYN,), recipe.prompts.seed)
    rows = open_rows(recipe.teachers, run, shards_of(run, "routed"), wanted)
    shared = recipe.resources.synthesize

    def batches(**more: Any) -> dict[str, list[list[int]]]:
        build: Any = dict  # nothing is carried out
        groups = actor_groups(recipe.teachers, rows, shared, {}, build, build, **more)
        return {group.name: [unit.get("rows", []) for unit in group.units] for group in groups}

    plain, ordered = batches(), batches(order=RowOrder(run))
    assert plain["known"] == [list(range(n, n + 5)) for n in range(0, 20, 5)]
    assert sorted(place for some in ordered["known"] for place in some) == list(range(20))
    assert ordered["known"][0] == [1, 4, 11, 5, 9]
    assert (ordered["priced"], ordered["shared pool"]) == (plain["priced"], plain["shared pool"])
