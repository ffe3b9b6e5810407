"""The plan counts what the run will do, and starts nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import ConfigError, DriftError
from persyn_ray.pipeline.integrity.ownership import claim
from persyn_ray.pipeline.plan.plan import on_cluster, plan_run
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import read_record
from persyn_ray.storage.usage import Usage

Make = Callable[..., Recipe]


def test_responses_are_counted_by_prompt_and_teacher(make_recipe: Make) -> None:
    plan = plan_run(make_recipe())
    assert plan.num_prompts == {"parallel": 12, "heldout": 4, "routed": 8}
    assert plan.responses_collect == 12 * 3
    assert plan.responses_routed == 8
    assert plan.responses_generate_then_select == 20 * 3
    assert {row.state for row in plan.rows} == {"to do"}


def test_references_with_students_of_their_own_cost_more(make_recipe: Make) -> None:
    every = plan_run(make_recipe({"compare.students": True, "compare.heldout": True}))
    assert every.responses_collect == (12 + 4 + 8) * 3
    assert every.responses_routed == 0
    some = plan_run(make_recipe({"compare.students": True, "compare.methods": ["random"]}))
    assert some.responses_routed == 8 * 2


def test_planning_leaves_no_trace(make_recipe: Make) -> None:
    recipe = make_recipe()
    plan_run(recipe)
    assert not run_of(recipe).root.exists()


def test_the_plan_counts_prompts_as_the_run_does(
    make_recipe: Make, quiet: Console, tmp_path: Path
) -> None:
    ours, apart = tmp_path / "prompts.jsonl", tmp_path / "apart.jsonl"
    recipe = make_recipe({"evaluate.path": str(apart)})
    lines = ours.read_text().splitlines()
    unanswered = json.dumps({"prompt": "Without an answer", "task": "none"})
    another = json.dumps({"prompt": "No. 99?", "answer": 1, "task": "x"})
    ours.write_text("\n".join([*lines, lines[0], unanswered]))
    apart.write_text("\n".join([lines[0], another]))
    planned = plan_run(recipe).num_prompts
    assert planned == {"parallel": 12, "heldout": 2, "routed": 11}
    run = run_recipe(recipe, quiet, until="prompts")
    record = read_record(run.records, "prompts")
    assert record is not None
    assert record.result["splits"] == planned
    assert plan_run(recipe).num_prompts == planned


def test_what_is_finished_is_said_to_be_done(
    make_recipe: Make, record_step: Callable[..., RunLayout], quiet: Console
) -> None:
    recipe = make_recipe()
    run_recipe(recipe, quiet, until="prompts")
    record_step(recipe, "collect")
    states = {row.step: row.state for row in plan_run(recipe).rows}
    assert [name for name, state in states.items() if state == "done"] == ["prompts", "collect"]


def test_a_change_that_was_asked_for_is_planned_and_another_refused(
    make_recipe: Make, quiet: Console
) -> None:
    run_recipe(make_recipe(), quiet, until="prompts")
    changed = make_recipe({"prompts.num_parallel": 10})
    with pytest.raises(DriftError):
        plan_run(changed)
    assert plan_run(changed, ("prompts.num_parallel=10",)).num_prompts["parallel"] == 10


def test_needs_are_said_per_step(make_recipe: Make) -> None:
    recipe = make_recipe(
        {
            "resources.collect": {"actors": 3, "cpus": 0.5, "gpus": 1},
            "resources.router": {"workers": 1, "cpus": 2},
        }
    )
    needs = {row.step: row.needs for row in plan_run(recipe).rows}
    assert needs["collect"] == "3 actors x 0.5 CPU + 1 GPU"
    assert needs["router"] == "1 worker x 2 CPU"
    assert needs["rewards"] == "this process"


def test_teachers_with_pools_of_their_own_are_counted_by_where_they_run(on_gpus: Make) -> None:
    endpoint = {"engine": {"kind": "openai", "model": "x"}, "resources": None}
    pools = {"a": {}, "b": {}, "api": endpoint, "slow": {"resources": {"gpus": 0}}}
    needs = {row.step: row.needs for row in plan_run(on_gpus(pools)).rows}
    assert needs["collect"] == "2 teachers on GPUs + 1 at endpoints + 1 on CPUs"
    shared = {"engine": {"kind": "scripted"}, "resources": None, "sampling": {}, "size": None}
    mixed = plan_run(on_gpus({"a": {}, "words": shared}))
    assert {row.step: row.needs for row in mixed.rows}["synthesize"] == (
        "1 teacher on GPUs + 1 actor x 1 CPU"
    )


def test_a_teacher_that_cannot_fit_is_refused(on_gpus: Make) -> None:
    recipe = on_gpus({"a": {}})
    plan_run(on_cluster(recipe, "1x1x20"))
    with pytest.raises(ConfigError, match=r"cannot hold:\n  Teacher 'a' needs 18\.0 GiB"):
        plan_run(on_cluster(recipe, "1x1x16"))


def test_a_cluster_stands_in_for_the_recipe_s(on_gpus: Make) -> None:
    hardware = on_cluster(on_gpus({"a": {}}), "4x2x141").hardware
    assert (hardware.nodes, hardware.gpus_per_node, hardware.gpu_memory_gib) == (4, 2, 141)
    assert hardware.gpu_hour_dollars == 2


@pytest.mark.parametrize("text", ["8x80", "0x8x80", "2x8", "2x8x80gb", "two"])
def test_what_is_no_cluster_is_refused(on_gpus: Make, text: str) -> None:
    with pytest.raises(ConfigError, match="NODESxGPUSxGIB"):
        on_cluster(on_gpus({"a": {}}), text)


def test_budgets_that_a_run_would_go_over_are_warned_of(on_gpus: Make) -> None:
    endpoint = {
        "engine": {"kind": "openai", "model": "x"},
        "price": {"response": 1000.0},
        "resources": None,
    }

    def warnings(budget: dict[str, float]) -> tuple[str, ...]:
        return plan_run(on_gpus({"api": endpoint | {"budget": budget}})).warnings

    # 12 + 8 prompts of at most 100 tokens at $1 a thousand tokens, and the prompts' own tokens.
    (tokens,) = warnings({"tokens": 2000})
    assert "Teacher api would take at most" in tokens
    assert "over its budget of 2,000" in tokens
    (dollars,) = warnings({"dollars": 1.99})
    assert "$2.00, over its budget of $1.99" in dollars
    assert warnings({"dollars": 2.5, "tokens": 100_000}) == ()
    # What the ledger says is spent counts before what is to come.
    recipe = on_gpus({"api": endpoint | {"budget": {"dollars": 2.5}}})
    claim(run_of(recipe))
    spending = run_of(recipe).spending_of(recipe.teachers[0])
    assert spending.more(Usage(0, 1000))
    assert spending.take(Usage(0, 1000))
    spending.settle(Usage(0, 1000), None)
    spending.rest()
    (dollars,) = plan_run(recipe).warnings
    assert "$2.00 beside $1.00 spent, over its budget of $2.50" in dollars


def test_an_engine_with_memory_for_few_responses_is_warned_of(on_gpus: Make) -> None:
    size = {"parameters": 34.0, "layers": 60, "kv_heads": 64, "head_dim": 128, "context": 2000}
    teacher = {"size": size, "sampling": {"max_tokens": 1900}}
    warnings = plan_run(on_gpus({"a": teacher})).warnings
    assert "Teacher a has memory for 1 long response at once" in warnings[0]


def test_an_evaluation_that_cuts_what_was_taught_is_warned_of(on_gpus: Make) -> None:
    def warnings(evaluated: int, longest: int, teacher: dict[str, Any]) -> tuple[str, ...]:
        changes = {"evaluate.max_tokens": evaluated, "finetune.max_length": longest}
        found = plan_run(on_gpus({"a": teacher, "b": {}}, changes)).warnings
        return tuple(text for text in found if "evaluate.max_tokens" in text)

    assert warnings(100, 4096, {}) == ()
    (cut,) = warnings(99, 4096, {})
    assert "of up to 100 tokens and are evaluated with at most 99" in cut
    retried = {"sampling": {"max_tokens": 100, "retry_tokens": 300}}
    (cut,) = warnings(299, 4096, retried)
    assert "Set evaluate.max_tokens to 300" in cut
    assert warnings(200, 200, retried) == ()  # longer examples are left out of training
    assert warnings(100, 4096, retried | {"retired": True}) == ()
