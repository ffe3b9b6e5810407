"""Assignments: every prompt once, by every method from the same tables, and never by order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.config import Recipe
from persyn_ray.errors import DataError
from persyn_ray.layout import PERSYN, Run
from persyn_ray.method.metrics import regret
from persyn_ray.pipeline.assigning import (
    method_teachers,
    require_preferences,
    strong_teacher,
    write_assignments,
)
from persyn_ray.schemas import logits_schema, rewards_schema
from persyn_ray.stages.tables import Rewards, shards_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., Run]
METHODS = (PERSYN, "random", "best_constant", "strong", "oracle")
IDS = tuple(f"{number:032x}" for number in range(60))


def scripted(*names: str) -> dict[str, Any]:
    return {"teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in names]}


def rewards(values_PM: np.ndarray, ids: tuple[str, ...] = IDS) -> Rewards:
    return Rewards(ids, values_PM, values_PM, values_PM)


def write_rewards(recipe: Recipe, run: Run, value: Callable[[int, int], float | None]) -> None:
    """Rewards of the parallel set: a value for each place of a prompt and of a teacher."""
    schema = rewards_schema(recipe.pool.names)
    for shard in shards_of(run, "parallel"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        table = [[value(p, m) for m in range(len(recipe.pool))] for p in range(len(ids))]
        columns = {"prompt_id": ids, "learnability": table, "quality": table, "rewards": table}
        run.rewards.write_table(shard, pa.table(columns, schema=schema))


def write_logits(recipe: Recipe, run: Run, seed: int = 0) -> None:
    """Random logits, equal by the dozen; the first teacher can take no prompt at an odd place."""
    names = recipe.pool.names
    rng = np.random.default_rng(seed)
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        rows = [
            {
                "prompt_id": prompt_id,
                "logits": rng.integers(0, 2, len(names)).astype(float).tolist(),
                "candidates": [place % 2 == 0] + [True] * (len(names) - 1),
            }
            for place, prompt_id in enumerate(ids)
        ]
        run.logits.write_table(shard, pa.Table.from_pylist(rows, schema=logits_schema(names)))


def test_nothing_is_fitted_when_all_rewards_are_tied(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: 0.5)
    with pytest.raises(DataError, match="No preference can be made") as refused:
        require_preferences(recipe, run)
    assert "of 12 prompts x 3 teachers, 0 rewards are unknown and 36 pairs are tied" in str(
        refused.value
    )


def test_nothing_is_fitted_when_all_rewards_are_unknown(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: None)
    with pytest.raises(DataError, match="36 rewards are unknown"):
        require_preferences(recipe, run)


def test_one_preference_is_enough_and_one_teacher_needs_none(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float(p == m == 0))
    require_preferences(recipe, run)
    single = make_recipe(scripted("a") | {"run": f"{recipe.run}-single"})
    run = carry_out(single, until="prompts")
    write_rewards(single, run, lambda p, m: 0.5)
    require_preferences(single, run)


@pytest.mark.parametrize("method", METHODS)
def test_permuting_the_pool_permutes_the_assignment_ties_included(
    make_recipe: Make, method: str
) -> None:
    names, order = ("a", "b", "c"), [2, 0, 1]
    rng = np.random.default_rng(1)
    logits_PM = rng.integers(0, 2, (60, 3)).astype(float)
    true_PM = rng.integers(0, 2, (60, 3)).astype(float)
    able_PM = rng.random((60, 3)) < 0.8

    def assigned(chosen: list[int]) -> list[str | None]:
        recipe = make_recipe(scripted(*(names[m] for m in chosen)))
        teacher_P, _ = method_teachers(
            method,
            recipe,
            IDS,
            logits_PM[:, chosen],
            able_PM[:, chosen],
            rewards(true_PM[:, chosen]),
            true_PM[:, chosen],
        )
        return [recipe.pool.names[m] if m >= 0 else None for m in teacher_P]

    assert assigned([0, 1, 2]) == assigned(order)


@pytest.mark.parametrize("method", METHODS)
def test_only_candidates_are_chosen_and_prompts_without_any_are_left_out(
    make_recipe: Make, method: str
) -> None:
    rng = np.random.default_rng(2)
    true_PM, able_PM = rng.random((60, 3)), rng.random((60, 3)) < 0.5
    teacher_P, _ = method_teachers(
        method, make_recipe(), IDS, rng.random((60, 3)), able_PM, rewards(true_PM), true_PM
    )
    assert ((teacher_P >= 0) == able_PM.any(axis=1)).all()
    assert able_PM[teacher_P >= 0, teacher_P[teacher_P >= 0]].all()


def test_the_oracle_has_no_regret_and_persyn_with_true_logits_is_the_oracle(
    make_recipe: Make,
) -> None:
    true_PM = np.random.default_rng(3).integers(0, 3, (60, 3)).astype(float)
    able_PM = np.ones_like(true_PM, dtype=bool)
    recipe, parallel = make_recipe(), rewards(true_PM)
    oracle_P, _ = method_teachers("oracle", recipe, IDS, true_PM, able_PM, parallel, true_PM)
    persyn_P, margin_P = method_teachers(PERSYN, recipe, IDS, true_PM, able_PM, parallel, None)
    np.testing.assert_array_equal(regret(true_PM, oracle_P), np.zeros(60))
    np.testing.assert_array_equal(persyn_P, oracle_P)
    assert (margin_P >= 0).all()


def test_the_oracle_needs_true_rewards(make_recipe: Make) -> None:
    values_PM = np.zeros((60, 3))
    with pytest.raises(DataError, match="every teacher's reward"):
        method_teachers(
            "oracle", make_recipe(), IDS, values_PM, values_PM == 0, rewards(values_PM), None
        )


def test_the_strong_teacher_is_the_named_one_or_the_best_by_quality(make_recipe: Make) -> None:
    quality_PM = np.tile([0.1, 0.2, 0.9], (60, 1))
    parallel = Rewards(IDS, quality_PM, quality_PM, quality_PM[:, ::-1])
    assert strong_teacher(make_recipe(), parallel) == 2
    assert strong_teacher(make_recipe({"compare.strong": "b"}), parallel) == 1


def test_every_prompt_is_assigned_once_by_every_method_and_counted(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe({"compare.students": True})
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float((p + m) % 3))
    write_logits(recipe, run)
    methods = (PERSYN, "random", "best_constant", "strong")
    counts = write_assignments(recipe, run, methods)
    shards = shards_of(run, "parallel", "routed")
    expected = [
        i for shard in shards for i in run.prompts.read_table(shard)["prompt_id"].to_pylist()
    ]
    for method in methods:
        rows = [row for _, table in run.assignment(method).tables() for row in table.to_pylist()]
        assert sorted(row["prompt_id"] for row in rows) == sorted(expected)
        teachers = [row["teacher"] for row in rows]
        assert counts["assigned"][method] == {name: teachers.count(name) for name in "abc"}
    assert (counts["rows"], counts["errors"]) == (20, 0)


def test_assigning_again_gives_the_same(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float(m))
    write_logits(recipe, run)
    counts = write_assignments(recipe, run, (PERSYN, "random"))
    before = dict(run.assignment("random").tables())
    assert write_assignments(recipe, run, (PERSYN, "random")) == counts
    assert dict(run.assignment("random").tables()) == before


def test_a_single_teacher_gets_everything(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe(scripted("a"))
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: 0.0)
    schema = logits_schema(("a",))
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        rows = [{"prompt_id": i, "logits": [0.1], "candidates": [True]} for i in ids]
        run.logits.write_table(shard, pa.Table.from_pylist(rows, schema=schema))
    counts = write_assignments(recipe, run, (PERSYN, "random", "best_constant", "strong"))
    assert all(shares == {"a": 20} for shares in counts["assigned"].values())
