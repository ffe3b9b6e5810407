"""From tables to arrays and back: rows meet by key, unknown stays unknown."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.method.rewards import combine
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.response_store import hashed, responses_of
from persyn_ray.shards.tables import (
    ExampleCounts,
    by_teacher_PM,
    examples_of,
    heldout_mask,
    load_rewards,
    outcomes_PM,
    shards_of,
)
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of, run_of
from persyn_ray.storage.schemas import ASSIGNMENT, LEARNABILITY, QUALITY, RESPONSE_HASH, RESPONSES

from ..conftest import rewards_of

Make = Callable[..., Recipe]
Ending = tuple[str, str | None] | None
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


def prepared(
    recipe: Recipe, carry_out: Callable[..., RunLayout]
) -> tuple[RunLayout, str, list[str]]:
    """A run with prompts only, one of its shards, and that shard's prompts."""
    run = carry_out(recipe, until="prompts")
    shard = shards_of(run, "parallel")[0]
    return run, shard, run.prompts.read_table(shard)["prompt_id"].to_pylist()


def scores_as_filed(rows: list[dict[str, Any]], schema: pa.Schema, text: str = "4") -> pa.Table:
    """Scores that were made for responses of one text."""
    said = pa.table({"response": [text] * len(rows)})
    return pa.Table.from_pylist(rows, schema=schema).append_column(RESPONSE_HASH, hashed(said))


def write_signals(recipe: Recipe, shard: str, ids: list[str], values: dict[str, Any]) -> None:
    """Write each teacher's (quality, learnability) per prompt, for responses that say 4."""
    run = run_of(recipe)
    for teacher in recipe.teachers:
        write_responses(recipe, shard, ids, teacher.name, [("stop", "4")] * len(ids))
        pairs = list(zip(ids, values[teacher.name], strict=True))
        quality = [
            {"prompt_id": i, "teacher": teacher.name, "quality": q, "outcome": "scored"}
            for i, (q, _) in pairs
        ]
        learnability = [
            {
                "prompt_id": i,
                "teacher": teacher.name,
                "log_likelihood": nats,
                "rank_surprisal": None if nats is None else 5 + nats,
                "num_tokens": 1,
                "is_truncated": False,
                "outcome": "scored",
            }
            for i, (_, nats) in pairs
        ]
        table = scores_as_filed(quality[::-1], QUALITY)
        (part,) = parts_of(recipe.scoring)
        run.quality(teacher, part).write_table(shard, table)
        table = scores_as_filed(learnability, LEARNABILITY)
        run.learnability(teacher).write_table(shard, table)


def test_rewards_are_the_scaled_signals_mixed_by_alpha(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
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
    run.rewards.write_table(shard, rewards_of(recipe, shard))
    rewards = load_rewards(run, [shard], 3)
    assert rewards.prompt_ids == tuple(ids)
    np.testing.assert_allclose(rewards.rewards_PM[0], [0.25, 0.75, 0.5])
    np.testing.assert_allclose(rewards.rewards_PM[1], [0.25, np.nan, 0.75])
    np.testing.assert_array_equal(
        rewards.rewards_PM, combine(rewards.quality_PM, rewards.learnability_PM, 0.25, "minmax")
    )


def test_several_qualities_are_scaled_and_weighed_over_complete_responses(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    check, other = {"kind": "exact_match"}, {"kind": "exact_match", "marker": "="}
    parts = [
        {"name": "right", "quality": check, "weight": 3},
        {"name": "good", "quality": other},
    ]
    quality = {"kind": "several", "parts": parts}
    changes = {"prompts.shard_rows": 3, "scoring.alpha": 0.0, "scoring.quality": quality}
    recipe = make_recipe(changes)
    run, shard, ids = prepared(recipe, carry_out)
    # By prompt and teacher; the third prompt's last response is cut, whatever it scored.
    values = {
        "right": [(1.0, 0.0, 1.0), (0.0, None, 1.0), (0.0, 1.0, 9.0)],
        "good": [(-3.0, 1.0, -1.0), (4.0, 9.0, 2.0), (1.0, 2.0, 99.0)],
    }
    for part in parts_of(recipe.scoring):
        for m, teacher in enumerate(recipe.teachers):
            table = [
                {"prompt_id": i, "teacher": teacher.name, "quality": row[m], "outcome": "scored"}
                for i, row in zip(ids, values[part.name], strict=True)
            ]
            folder = run.quality(teacher, part)
            folder.write_table(shard, scores_as_filed(table, QUALITY))
    for name, last in (("a", "stop"), ("b", "stop"), ("c", "length")):
        write_responses(recipe, shard, ids, name, [("stop", "4"), ("stop", "4"), (last, "4")])
    table = rewards_of(recipe, shard)
    expected = [[0.75, 0.25, 0.875], [0.25, None, 0.75], [0.0, 1.0, None]]
    assert table["quality"].to_pylist() == expected
    even = make_recipe(changes | {"scoring.scaling": "none"})
    assert rewards_of(even, shard)["quality"].to_pylist()[0] == [0.0, 0.25, 0.5]


def test_a_teacher_without_any_table_has_no_rewards(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 1})
    _, shard, _ = prepared(recipe, carry_out)
    assert rewards_of(recipe, shard)["rewards"].to_pylist() == [[None, None, None]]


def write_responses(
    recipe: Recipe, shard: str, ids: list[str], teacher: str, ends: Sequence[Ending]
) -> None:
    """One teacher's (finish reason, text) per prompt; None where it was not asked."""
    rows = [
        {
            "prompt_id": prompt_id,
            "teacher": teacher,
            "response": end[1],
            "finish_reason": end[0],
            "num_prompt_tokens": 0,
            "num_tokens": 0,
        }
        for prompt_id, end in zip(ids, ends, strict=True)
        if end is not None
    ]
    (settings,) = [one for one in recipe.teachers if one.name == teacher]
    table = pa.Table.from_pylist(rows, schema=RESPONSES)
    run_of(recipe).responses(settings).write_table(shard, table)


def with_responses(recipe: Recipe, **settings: Any) -> Recipe:
    """The same run under other rules for responses."""
    return recipe.model_copy(update={"responses": recipe.responses.model_copy(update=settings)})


ENDS: list[Ending] = [
    ("stop", "fine"),
    ("length", "cut sho"),
    ("error", None),
    ("stop", ""),
    ("loop", "so so so"),
    ("unavailable", None),
    None,
]


def test_what_counts_as_complete(make_recipe: Make, carry_out: Callable[..., RunLayout]) -> None:
    recipe = make_recipe({"prompts.shard_rows": 12})
    run, shard, ids = prepared(recipe, carry_out)
    write_responses(recipe, shard, ids[:7], "b", ENDS)
    found = ["complete", "truncated", "absent", "absent", "looped", "unasked", "unasked"]
    said = responses_of(run, recipe.teachers, shard)
    outcomes = outcomes_PM(said, recipe.responses, ids[:7])
    assert outcomes[:, 1].tolist() == found
    assert set(outcomes[:, [0, 2]].ravel()) == {"unasked"}
    keeping = with_responses(recipe, incomplete="keep")
    found[1] = "complete"
    assert outcomes_PM(said, keeping.responses, ids[:7])[:, 1].tolist() == found
    assert outcomes_PM(said, recipe.responses, []).shape == (0, 3)


def test_responses_that_are_not_complete_have_no_reward(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 3, "scoring.scaling": "none"})
    _, shard, ids = prepared(recipe, carry_out)
    write_signals(recipe, shard, ids, {name: [(1.0, -1.0)] * 3 for name in "abc"})
    write_responses(recipe, shard, ids, "a", [("stop", "4"), ("length", "4"), ("loop", "4")])
    known, unknown = [0.2] * 3, [None, 0.2, 0.2]
    for rules, expected in (
        ({"incomplete": "drop"}, [known, unknown, unknown]),
        ({"incomplete": "next_best"}, [known, unknown, unknown]),
        ({"incomplete": "keep"}, [known, known, unknown]),
    ):
        table = rewards_of(with_responses(recipe, **rules), shard)
        rewards = table["rewards"].to_pylist()
        assert [[r if r is None else round(r, 9) for r in row] for row in rewards] == expected
        for signal in ("quality", "learnability"):
            values = table[signal].to_pylist()
            assert [[v is None for v in row] for row in values] == [
                [r is None for r in row] for row in expected
            ]


def test_examples_end_with_the_assigned_teachers_response_and_losses_are_counted(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 12})
    run, shard, ids = prepared(recipe, carry_out)
    for name in ("a", "b"):
        ends = [end and (end[0], end[1] and f"{name} {end[1]}") for end in ENDS]
        write_responses(recipe, shard, ids[:7], name, ends)
    assigned = [{"prompt_id": prompt_id, "teacher": "b"} for prompt_id in reversed(ids[:7])]
    table = pa.Table.from_pylist(assigned, schema=ASSIGNMENT)
    run.assignment(PERSYN).write_table(shard, table)

    table, counts = examples_of(run, recipe.teachers, recipe.responses, PERSYN, shard)
    assert counts == ExampleCounts(
        kept=1, without_response=4, truncated=1, looped=1, without_teacher=5, kept_truncated=0
    )
    (row,) = table.to_pylist()
    assert (row["prompt_id"], row["teacher"]) == (ids[0], "b")
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][-1]["content"] == "b fine"

    keeping = with_responses(recipe, incomplete="keep").responses
    table, counts = examples_of(run, recipe.teachers, keeping, PERSYN, shard)
    assert (counts.kept, counts.kept_truncated, counts.truncated, counts.looped) == (2, 1, 0, 1)
    assert "b cut sho" in {row["messages"][-1]["content"] for row in table.to_pylist()}


def test_examples_are_what_the_student_sees(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe({"prompts.shard_rows": 3, "responses.think_tags": ["[", "]"]})
    run, shard, ids = prepared(recipe, carry_out)
    thought: list[Ending] = [("stop", "[2+2]\n 4"), ("stop", "[2+3"), ("stop", "5")]
    write_responses(recipe, shard, ids, "a", thought)
    table = pa.Table.from_pylist(
        [{"prompt_id": prompt_id, "teacher": "a"} for prompt_id in ids], schema=ASSIGNMENT
    )
    run.assignment(PERSYN).write_table(shard, table)

    def answers(rules: Recipe) -> tuple[list[str], int]:
        table, counts = examples_of(run, rules.teachers, rules.responses, PERSYN, shard)
        texts = [row["messages"][-1]["content"] for row in table.to_pylist()]
        return texts, counts.without_response

    # Thinking that never ends holds no answer.
    assert answers(recipe) == (["[2+2]\n 4", "5"], 1)
    assert answers(with_responses(recipe, thinking="strip")) == (["4", "5"], 1)


def test_counts_add_up() -> None:
    total = ExampleCounts(1, 2, 3, 4, 5, 6) + ExampleCounts(kept=10, looped=1)
    assert total == ExampleCounts(11, 2, 3, 5, 5, 6)


def test_the_measure_that_the_recipe_names_counts_and_more_is_better(
    make_recipe: Make, carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe({"scoring.alpha": 1.0})
    _, shard, ids = prepared(recipe, carry_out)
    n = len(ids)
    nats = {"a": -1.0, "b": -2.0, "c": -3.0}
    write_signals(recipe, shard, ids, {t: [(1.0, value)] * n for t, value in nats.items()})
    ratio = make_recipe({"scoring.alpha": 1.0, "scoring.learnability": "rank_surprisal"})
    likely, ranked = rewards_of(recipe, shard), rewards_of(ratio, shard)
    assert likely["learnability"].to_pylist()[0] == [-1.0, -2.0, -3.0]
    assert likely["rewards"].to_pylist()[0] == [1.0, 0.5, 0.0]
    # The ratios are 4, 3 and 2, and a small one is good.
    assert ranked["learnability"].to_pylist()[0] == [-4.0, -3.0, -2.0]
    assert ranked["rewards"].to_pylist()[0] == [0.0, 0.5, 1.0]
