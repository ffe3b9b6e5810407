"""Tokens against an example worked by hand: two teachers, two parallel and two routed prompts."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.results.costs import dead_letters, tokens
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.response_store import hashed
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of
from persyn_ray.storage.schemas import (
    ASSIGNMENT,
    DEAD_LETTERS,
    LEARNABILITY,
    RESPONSE_HASH,
    RESPONSES,
    logits_schema,
)

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


@pytest.fixture
def pair(make_recipe: Make, carry_out: CarryOut) -> tuple[Recipe, RunLayout]:
    """Teachers a and b; p0, p1 are parallel, p2 is routed to a and p3 to b."""
    recipe = make_recipe(
        {
            "teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in ("a", "b")],
            "prompts.num_parallel": 2,
            "prompts.num_heldout": 0,
            "prompts.shard_rows": 2,
        },
        num_prompts=4,
    )
    run = carry_out(recipe, until="prompts")
    _, routed = shards_of(run, "parallel", "routed")
    rows = [
        {"prompt_id": prompt_id, "logits": logits, "candidates": [True, True]}
        for prompt_id, logits in zip(ids(run)[2:], ([1.0, 0.0], [0.0, 1.0]), strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=logits_schema(recipe.pool.names))
    run.logits.write_table(routed, table)
    assign(run, "a", "b")
    return recipe, run


def assign(run: RunLayout, *teachers: str) -> None:
    """Give p2 and p3 to these teachers."""
    rows = [
        {"prompt_id": prompt_id, "teacher": teacher}
        for prompt_id, teacher in zip(ids(run)[2:], teachers, strict=True)
    ]
    (routed,) = shards_of(run, "routed")
    run.assignment(PERSYN).write_table(routed, pa.Table.from_pylist(rows, schema=ASSIGNMENT))


def ids(run: RunLayout) -> list[str]:
    tables = [run.prompts.read_table(shard) for shard in shards_of(run, "parallel", "routed")]
    return [name for table in tables for name in table["prompt_id"].to_pylist()]


def respond(recipe: Recipe, run: RunLayout, teacher: str, *counts: int | None) -> None:
    """Write a teacher's responses to p0 … p3, by their tokens; None where it has not answered."""
    (settings,) = [one for one in recipe.teachers if one.name == teacher]
    names = ids(run)
    for shard, places in zip(shards_of(run, "parallel", "routed"), ((0, 1), (2, 3)), strict=True):
        rows = [
            response(names[place], teacher, counts[place])
            for place in places
            if counts[place] is not None
        ]
        table = pa.Table.from_pylist(rows, schema=RESPONSES)
        run.responses(settings).write_table(shard, table)


def response(prompt_id: str, teacher: str, num_tokens: int | None) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "teacher": teacher,
        "response": "x",
        "finish_reason": "stop",
        "num_prompt_tokens": 1,
        "num_tokens": num_tokens,
    }


def test_tokens_by_hand(pair: tuple[Recipe, RunLayout]) -> None:
    recipe, run = pair
    respond(recipe, run, "a", 10, 20, 40, None)
    respond(recipe, run, "b", 30, 50, None, 60)
    found = tokens(response_settings(recipe), recipe.measures_learnability, run)
    assert (found["collect"], found["synthesize"]) == (110, 100)
    assert found["route_then_generate"] == 210
    # a has written 70 tokens over three prompts and b 140: the fourth counts as their mean.
    assert found["generate_then_select"] == pytest.approx(70 + 70 / 3 + 140 + 140 / 3)
    assert found["saving_fraction"] == pytest.approx(0.25)
    assert found["estimated"] is True
    assert found["per_teacher"] == {"a": 70, "b": 140}
    assert found["unit"] == "teacher tokens"
    assert found["responses"] == {
        "collect": 4,
        "synthesize": 2,
        "route_then_generate": 6,
        "generate_then_select": 8,
    }


def test_who_was_asked_before_the_next_best_teacher_is_paid_too(
    pair: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = pair
    respond(recipe, run, "a", 10, 20, 40, None)
    respond(recipe, run, "b", 30, 50, 5, 60)
    assign(run, "b", "b")
    found = tokens(response_settings(recipe), recipe.measures_learnability, run)
    assert found["synthesize"] == 40 + 5 + 60
    assert found["per_teacher"] == {"a": 70, "b": 145}
    assert found["responses"]["synthesize"] == 3


def test_nothing_is_estimated_when_everything_was_written(pair: tuple[Recipe, RunLayout]) -> None:
    recipe, run = pair
    respond(recipe, run, "a", 10, 20, 40, 30)
    respond(recipe, run, "b", 30, 50, 60, 60)
    found = tokens(response_settings(recipe), recipe.measures_learnability, run)
    assert found["generate_then_select"] == 300
    assert found["route_then_generate"] == 210
    assert found["estimated"] is False


def test_responses_to_prompts_that_have_left_a_shard_are_not_counted(
    pair: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = pair
    respond(recipe, run, "a", 10, 20, 40, None)
    respond(recipe, run, "b", 30, 50, None, 60)
    before = tokens(response_settings(recipe), recipe.measures_learnability, run)
    folder, shard = run.responses(recipe.teachers[0]), shards_of(run, "parallel")[0]
    left = pa.Table.from_pylist([response("elsewhere", "a", 999)], schema=RESPONSES)
    folder.write_table(shard, pa.concat_tables([folder.read_table(shard), left]))
    assert tokens(response_settings(recipe), recipe.measures_learnability, run) == before


def test_recorded_answers_are_counted_in_the_students_tokens(
    pair: tuple[Recipe, RunLayout], make_recipe: Make
) -> None:
    _, run = pair
    engine = {"kind": "recorded", "path": "answers.jsonl"}
    recipe = make_recipe(
        {
            "teachers": [{"name": name, "engine": engine} for name in ("a", "b")],
            "prompts.num_parallel": 2,
        }
    )
    names, shard = ids(run), shards_of(run, "parallel")[0]
    for teacher, counts in zip(recipe.teachers, ((10, 20), (30, 60)), strict=True):
        rows = [
            {
                "prompt_id": i,
                "teacher": teacher.name,
                "log_likelihood": -1.0,
                "num_tokens": n,
                "is_truncated": False,
                "outcome": "scored",
            }
            for i, n in zip(names[:2], counts, strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=LEARNABILITY)
        said = pa.Table.from_pylist([response(i, teacher.name, 0) for i in names[:2]], RESPONSES)
        run.responses(teacher).write_table(shard, said)
        table = table.append_column(RESPONSE_HASH, hashed(said))
        run.learnability(teacher).write_table(shard, table)
    found = tokens(response_settings(recipe), recipe.measures_learnability, run)
    assert found["unit"] == "student tokens"
    assert found["collect"] == 120
    assert found["synthesize"] == 15 + 45  # routed responses are not scored: their means
    assert found["generate_then_select"] == 30 + 2 * 15 + 90 + 2 * 45


def test_dead_letters_are_counted_by_reason_and_teacher_over_all_steps(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    assert dead_letters(response_settings(recipe), parts_of(recipe.scoring), run)["num"] == 0
    for step, reason in (("prompts", "no_text"), ("route", "no_candidate")):
        rows = [{"step": step, "reason": reason, "teacher": None}] * 2
        table = pa.Table.from_pylist(rows, schema=DEAD_LETTERS)
        run.dead_letters(step).write_table("x.parquet", table)
    for split, name in (("parallel", "a"), ("routed", "b")):
        (shard, *_), (teacher,) = (
            shards_of(run, split),
            [t for t in recipe.teachers if t.name == name],
        )
        asked = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        failed = [response(i, name, 0) | {"finish_reason": "error"} for i in asked[:2]]
        run.responses(teacher).write_table(shard, pa.Table.from_pylist(failed, schema=RESPONSES))
        rows = [{"prompt_id": i, "teacher": name, "margin": None} for i in asked]
        run.assignment(PERSYN).write_table(shard, pa.Table.from_pylist(rows, schema=ASSIGNMENT))
    found = dead_letters(response_settings(recipe), parts_of(recipe.scoring), run)
    assert found["num"] == 8
    assert found["by_reason"] == {"no_text": 2, "error": 4, "no_candidate": 2}
    assert found["by_teacher"] == {"a": 2, "b": 2}
    assert len(found["examples"]) == 5
