"""From tables to arrays and back: rows meet by key, unknown stays unknown."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.config import Recipe
from persyn_ray.layout import PERSYN, Run, run_of
from persyn_ray.method.rewards import combine
from persyn_ray.schemas import ASSIGNMENT, LEARNABILITY, QUALITY, RESPONSES
from persyn_ray.stages.tables import (
    by_teacher_PM,
    examples_of,
    heldout_mask,
    load_rewards,
    shard_rewards,
    shards_of,
)

Make = Callable[..., Recipe]
IDS = tuple(f"{number:032x}" for number in range(400))


def test_teachers_tables_become_columns_by_prompt_whatever_their_order() -> None:
    first = pa.table({"prompt_id": ["y", "x", "elsewhere"], "quality": [0.0, 1.0, 9.0]})
    second = pa.table({"prompt_id": ["x", "y"], "quality": pa.array([None, 2.0], pa.float64())})
    found = by_teacher_PM([first, second, first.slice(0, 0)], ["x", "y", "z"], "quality")
    expected = [[1.0, np.nan, np.nan], [0.0, 2.0, np.nan], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(found, expected)


def test_the_hold_out_depends_on_the_prompt_and_the_seed_alone() -> None:
    mask = dict(zip(IDS, heldout_mask(IDS, 0.3, seed=1), strict=True))
    shuffled = list(IDS)
    random.Random(0).shuffle(shuffled)
    assert dict(zip(shuffled, heldout_mask(shuffled, 0.3, seed=1), strict=True)) == mask
    part = IDS[::7]
    assert [mask[name] for name in part] == heldout_mask(part, 0.3, seed=1).tolist()
    assert heldout_mask(IDS, 0.3, seed=2).tolist() != list(mask.values())
    assert np.mean(list(mask.values())) == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_parts_of_a_small_parallel_set_have_a_prompt(fraction: float) -> None:
    for size in (2, 3, 5):
        mask = heldout_mask(IDS[:size], fraction, seed=0)
        assert 0 < mask.sum() < size


def prepared(recipe: Recipe, carry_out: Callable[..., Run]) -> tuple[Run, str, list[str]]:
    """A run with prompts only, one of its shards, and that shard's prompts."""
    run = carry_out(recipe, until="prompts")
    shard = shards_of(run, "parallel")[0]
    return run, shard, run.prompts.read_table(shard)["prompt_id"].to_pylist()


def write_signals(recipe: Recipe, shard: str, ids: list[str], values: dict[str, Any]) -> None:
    """Write each teacher's (quality, learnability) per prompt."""
    run = run_of(recipe)
    for teacher in recipe.teachers:
        pairs = list(zip(ids, values[teacher.name], strict=True))
        quality = [
            {"prompt_id": i, "teacher": teacher.name, "quality": q, "outcome": "scored"}
            for i, (q, _) in pairs
        ]
        learnability = [
            {"prompt_id": i, "teacher": teacher.name, "learnability": nats, "num_tokens": 1}
            for i, (_, nats) in pairs
        ]
        table = pa.Table.from_pylist(quality[::-1], schema=QUALITY)
        run.quality(recipe, teacher).write_table(shard, table)
        table = pa.Table.from_pylist(learnability, schema=LEARNABILITY)
        run.learnability(recipe, teacher).write_table(shard, table)


def test_rewards_are_the_scaled_signals_mixed_by_alpha(
    make_recipe: Make, carry_out: Callable[..., Run]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 2, "scoring.alpha": 0.25})
    run, shard, ids = prepared(recipe, carry_out)
    # By hand, min-max within each prompt: quality 0, 1, 1/2 and learnability 1, 0, 1/2.
    signals = {
        "a": [(1.0, -1.0), (0.0, -1.0)],
        "b": [(3.0, -3.0), (0.0, None)],
        "c": [(2.0, -2.0), (1.0, -2.0)],
    }
    write_signals(recipe, shard, ids, signals)
    run.rewards.write_table(shard, shard_rewards(recipe, shard))
    rewards = load_rewards(run, [shard], 3)
    assert rewards.prompt_ids == tuple(ids)
    np.testing.assert_allclose(rewards.rewards_PM[0], [0.25, 0.75, 0.5])
    np.testing.assert_allclose(rewards.rewards_PM[1], [0.25, np.nan, 0.75])
    np.testing.assert_array_equal(
        rewards.rewards_PM, combine(rewards.quality_PM, rewards.learnability_PM, 0.25, "minmax")
    )


def test_a_teacher_without_any_table_has_no_rewards(
    make_recipe: Make, carry_out: Callable[..., Run]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 1})
    _, shard, _ = prepared(recipe, carry_out)
    assert shard_rewards(recipe, shard)["rewards"].to_pylist() == [[None, None, None]]


def test_examples_end_with_the_assigned_teachers_response_and_losses_are_counted(
    make_recipe: Make, carry_out: Callable[..., Run]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 4})
    run, shard, ids = prepared(recipe, carry_out)
    outcomes = [("stop", "fine"), ("length", "cut sho"), ("error", None), ("stop", "")]
    for name in ("a", "b"):
        rows = [
            {
                "prompt_id": prompt_id,
                "teacher": name,
                "response": text and f"{name} {text}",
                "finish_reason": reason,
                "num_prompt_tokens": 0,
                "num_tokens": 0,
            }
            for prompt_id, (reason, text) in zip(ids, outcomes, strict=True)
        ]
        (teacher,) = [teacher for teacher in recipe.teachers if teacher.name == name]
        table = pa.Table.from_pylist(rows, schema=RESPONSES)
        run.responses(teacher).write_table(shard, table)
    assigned = [{"prompt_id": prompt_id, "teacher": "b"} for prompt_id in reversed(ids)]
    table = pa.Table.from_pylist(assigned, schema=ASSIGNMENT)
    run.assignment(PERSYN).write_table(shard, table)

    table, counts = examples_of(recipe, PERSYN, shard)
    assert (counts.kept, counts.truncated, counts.without_response) == (1, 1, 2)
    (row,) = table.to_pylist()
    assert (row["prompt_id"], row["teacher"]) == (ids[0], "b")
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][-1]["content"] == "b fine"

    keeping = recipe.model_copy(
        update={"finetune": recipe.finetune.model_copy(update={"keep_truncated": True})}
    )
    assert examples_of(keeping, PERSYN, shard)[1].kept == 2
