"""Expected lengths and shares: from limits, from what is stored, from rewards and assignments."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.pipeline.assign.methods import settings_of
from persyn_ray.pipeline.plan.forecasts.expected_tokens import (
    PROMPT_TOKENS,
    Length,
    Stored,
    expected_length,
    expected_share,
    most_tokens,
    open_collect,
    open_synthesize,
    prompt_tokens,
    stored_prompt_tokens,
    stored_responses,
)
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
SPLITS = {"parallel": 12, "heldout": 4, "routed": 8}


def teacher(**changes: Any) -> TeacherConfig:
    engine = {"kind": "vllm", "model": {"name": "nowhere/x"}}
    return TeacherConfig.model_validate({"name": "a", "engine": engine, **changes})


def respond(
    run: RunLayout, one: TeacherConfig, shard: str, *responses: tuple[int, str, int]
) -> None:
    """Store responses: the prompt's place in the shard, finish reason, tokens."""
    ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
    rows = [
        {
            "prompt_id": ids[place],
            "teacher": one.name,
            "response": "x",
            "finish_reason": reason,
            "num_prompt_tokens": 10,
            "num_tokens": tokens,
        }
        for place, reason, tokens in responses
    ]
    run.responses(one).write_table(shard, pa.Table.from_pylist(rows, schema=RESPONSES))


def test_before_any_response_the_limit_stands_in() -> None:
    assert expected_length(teacher(), Stored(), 50.0) == Length(50.0, 512.0, True)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"sampling": {"max_tokens": 100}}, 100),
        ({"sampling": {"max_tokens": 100, "retry_tokens": 300}}, 400),
        (
            {
                "sampling": {"max_tokens": 9000},
                "size": {
                    "parameters": 1,
                    "layers": 1,
                    "kv_heads": 1,
                    "head_dim": 64,
                    "context": 4096,
                },
            },
            4096,
        ),
        ({"engine": {"kind": "openai", "model": "x"}, "sampling": {"max_tokens": 9000}}, 9000),
    ],
)
def test_the_limit_counts_a_second_attempt_and_ends_with_the_context(
    changes: dict[str, Any], most: int
) -> None:
    assert most_tokens(teacher(**changes)) == most


def test_recorded_answers_cost_nothing() -> None:
    recorded = teacher(engine={"kind": "recorded", "path": "x.jsonl"})
    assert expected_length(recorded, Stored(), 50.0) == Length(0.0, 0.0, False)


def test_stored_responses_give_means_without_failures(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run, one = carry_out(recipe, until="prompts"), recipe.teachers[0]
    assert stored_responses(recipe.teachers, run)["a"].num_tokens == []
    first, second, *_ = shards_of(run, "parallel")
    respond(run, one, first, (0, "stop", 30), (1, "length", 90), (2, "error", 0))
    respond(run, one, second, (0, "loop", 60))
    (heldout,) = shards_of(run, "heldout")
    respond(run, one, heldout, (0, "stop", 7000))
    stored = stored_responses(recipe.teachers, run)
    assert expected_length(one, stored["a"], 50.0) == Length(10.0, 60.0, False)
    # A failure is answered all the same: it is not asked again.
    assert stored["a"].num_answered == {"parallel": 4, "heldout": 1, "routed": 0}
    assert {s: np.flatnonzero(at).tolist() for s, at in stored["a"].answered.items()} == {
        first: [0, 1, 2],
        second: [0],
        heldout: [0],
    }
    assert open_collect(recipe.compare, SPLITS, stored) == {"a": 8, "b": 12, "c": 12}


def test_nothing_is_stored_before_the_prompts(make_recipe: Make) -> None:
    from persyn_ray.storage.layout import run_of

    recipe = make_recipe()
    stored = stored_responses(recipe.teachers, run_of(recipe))
    assert open_collect(recipe.compare, SPLITS, stored) == {"a": 12, "b": 12, "c": 12}


def test_shares_are_equal_at_first_and_as_many_as_methods_ask(make_recipe: Make) -> None:
    from persyn_ray.storage.layout import run_of

    recipe = make_recipe()
    share = expected_share(settings_of(recipe), run_of(recipe), False, False)
    assert share.of == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert "assumed" in share.source
    several = make_recipe({"compare.students": True, "compare.methods": ["random"]})
    twice = expected_share(settings_of(several), run_of(several), False, False)
    assert twice.of == pytest.approx(dict.fromkeys("abc", 2 / 3))


def test_shares_follow_the_rewards_and_then_the_assignment(
    finished: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = finished
    share = expected_share(settings_of(recipe), run, False, True)
    rewards_PM = load_rewards(run, shards_of(run, "parallel"), 3).rewards_PM
    assert sum(share.of.values()) == pytest.approx(1)
    best_PM = rewards_PM == rewards_PM.max(axis=1, keepdims=True)
    for m, name in enumerate("abc"):
        sure = (best_PM[:, m] & (best_PM.sum(axis=1) == 1)).mean()
        assert sure - 1e-9 <= share.of[name] <= best_PM[:, m].mean() + 1e-9

    assigned = expected_share(settings_of(recipe), run, True, True)
    counts = dict.fromkeys("abc", 0)
    for shard in shards_of(run, "routed"):
        for name in run.assignment(PERSYN).read_table(shard)["teacher"].to_pylist():
            counts[name] += 1
    assert assigned.of == pytest.approx({name: count / 8 for name, count in counts.items()})
    assert np.isclose(sum(assigned.of.values()), 1)


def test_what_synthesis_asks_shrinks_with_what_is_stored(
    finished: tuple[Recipe, RunLayout], make_recipe: Make
) -> None:
    recipe, run = finished
    share, nothing = (
        expected_share(settings_of(recipe), run, True, True),
        {n: Stored() for n in "abc"},
    )
    asked = open_synthesize(recipe.compare, run, SPLITS, nothing, share, True)
    assert asked == pytest.approx({name: 8 * share.of[name] for name in "abc"})
    assert asked == pytest.approx(
        open_synthesize(recipe.compare, run, SPLITS, nothing, share, False)
    )
    stored = stored_responses(recipe.teachers, run)
    assert sum(open_synthesize(recipe.compare, run, SPLITS, stored, share, True).values()) == 0
    every = make_recipe({"compare.students": True})  # the oracle has all routed prompts collected
    assert sum(open_synthesize(every.compare, run, SPLITS, nothing, share, False).values()) == 0


def test_prompts_are_measured_by_their_text(finished: tuple[Recipe, RunLayout]) -> None:
    def table(*texts: str) -> pa.Table:
        return pa.table({"messages": [[{"role": "user", "content": text}] for text in texts]})

    assert prompt_tokens(table("x" * 40, "y" * 80)) == 15
    assert prompt_tokens(table().slice(0, 0)) == PROMPT_TOKENS
    assert stored_prompt_tokens(finished[1]) > 1
