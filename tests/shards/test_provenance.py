"""Rows with their provenance, held against the tables that they come from."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.errors import DataError
from persyn_ray.recipe.data import COLUMNS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.provenance import RoutedRows, Split, choice_probabilities
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import ROUTED, logits_schema

Finished = tuple[Recipe, RunLayout]


def rows_of(finished: Finished, split: Split) -> list[dict[str, Any]]:
    recipe, run = finished
    source = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
    return [row for batch in source.batches(split) for row in batch.to_pylist()]


def stored(folder) -> list[dict[str, Any]]:
    return [row for _, table in folder.tables() for row in table.to_pylist()]


def test_the_recipe_offers_exactly_the_columns_that_there_are() -> None:
    assert list(COLUMNS) == ROUTED.names


def test_train_rows_are_the_examples(finished: Finished) -> None:
    rows = rows_of(finished, "train")
    examples = {row["prompt_id"]: row for row in stored(finished[1].examples(PERSYN))}
    assert len(rows) == len(examples) == 20
    for row in rows:
        assert row["messages"] == examples[row["prompt_id"]]["messages"]
        assert row["teacher"] == examples[row["prompt_id"]]["teacher"]
    assert len({row["id"] for row in rows}) == 20


def test_each_response_carries_what_was_measured_of_it(finished: Finished) -> None:
    recipe, run = finished
    rewards = {row["prompt_id"]: row for row in stored(run.rewards)}
    prompts = {row["prompt_id"]: row for row in stored(run.prompts)}
    said = {
        (row["prompt_id"], teacher.name): row
        for teacher in recipe.teachers
        for row in stored(run.responses(teacher))
    }
    rows = rows_of(finished, "parallel")
    assert len(rows) == 12 * 3
    for row in rows:
        place = recipe.pool.index(row["teacher"])
        of = rewards[row["prompt_id"]]
        assert row["reward"] == of["rewards"][place]
        assert row["learnability"] == of["learnability"][place]
        assert row["quality"] == of["quality"][place]
        assert row["quality_parts"] == [{"name": "quality", "value": row["quality"]}]
        for name in ("task", "source", "reference"):
            assert row[name] == prompts[row["prompt_id"]][name]
        response = said[row["prompt_id"], row["teacher"]]
        assert row["messages"][-1]["content"] == response["response"]
        for name in ("finish_reason", "num_tokens", "num_prompt_tokens"):
            assert row[name] == response[name]
    assert any(row["reward"] is not None for row in rows)


def test_prompts_that_wait_for_a_response_have_a_teacher_and_probabilities(
    finished: Finished,
) -> None:
    _, run = finished
    assigned = {row["prompt_id"]: row for row in stored(run.assignment(PERSYN))}
    logits = {row["prompt_id"]: row["logits"] for row in stored(run.logits)}
    rows = rows_of(finished, "assigned")
    assert {row["prompt_id"]: row["teacher"] for row in rows} == {
        prompt_id: row["teacher"] for prompt_id, row in assigned.items()
    }
    for row in rows:
        assert row["messages"][-1]["role"] == "user"
        assert row["margin"] == assigned[row["prompt_id"]]["margin"]
        chances = {one["teacher"]: one["probability"] for one in row["router_probabilities"]}
        assert sum(chances.values()) == pytest.approx(1)
        a, b, _ = logits[row["prompt_id"]]
        assert chances["a"] / chances["b"] == pytest.approx(math.exp(a - b))


def test_heldout_rows_are_prompts_alone(finished: Finished) -> None:
    rows = rows_of(finished, "heldout")
    assert len(rows) == 4
    assert {(row["teacher"], row["messages"][-1]["role"]) for row in rows} == {(None, "user")}
    trained = {row["prompt_id"] for row in rows_of(finished, "train")}
    assert trained.isdisjoint(row["prompt_id"] for row in rows)


def test_a_margin_belongs_to_the_assigned_teacher_alone(finished: Finished) -> None:
    assigned = {row["prompt_id"]: row["teacher"] for row in stored(finished[1].assignment(PERSYN))}
    rows = rows_of(finished, "parallel")
    for row in rows:
        assert (row["margin"] is not None) == (row["teacher"] == assigned[row["prompt_id"]])


def test_probabilities_of_candidates_alone() -> None:
    table = pa.table(
        {
            "prompt_id": ["x", "y", "z"],
            "logits": [[0.0, math.log(3), 800.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]],
            "candidates": [[True, True, False], [True, True, True], [False, False, False]],
        },
        schema=logits_schema(("a", "b", "c")),
    )
    first, second, third = choice_probabilities(table, ("a", "b", "c"))
    assert {one["teacher"]: round(one["probability"], 9) for one in first} == {"a": 0.25, "b": 0.75}
    assert np.allclose([one["probability"] for one in second], 1 / 3)
    assert third == []


def test_ids_are_the_same_in_another_run_and_differ_by_response(
    finished: Finished, make_recipe, carry_out, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    other = make_recipe(models | {"prompts.shard_rows": 3, "compare.heldout": True})
    run = carry_out(other, until="rewards")
    ids = {row["id"] for row in rows_of((other, run), "parallel")}
    assert ids == {row["id"] for row in rows_of(finished, "parallel")}
    assert len(ids) == 36


def test_a_text_that_is_no_utf8_is_refused(make_recipe, carry_out) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    for shard, table in list(run.prompts.tables()):
        surrogates = pa.array([b"\xed\xa0\x80"] * table.num_rows).view(pa.string())
        place = table.schema.get_field_index("source")
        run.prompts.write_table(shard, table.set_column(place, "source", surrogates))
    with pytest.raises(DataError, match="no valid UTF-8"):
        rows_of((recipe, run), "heldout")
