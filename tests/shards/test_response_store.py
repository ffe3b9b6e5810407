"""The response store: whatever changes around a finished response, no engine is called for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.data import selection
from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.pipeline.assign.assignments import write_assignments
from persyn_ray.pipeline.assign.constrained import limit_settings
from persyn_ray.pipeline.assign.methods import response_settings, settings_of
from persyn_ray.pipeline.dead_letters import failures
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompt ids of every request that reaches an engine."""
    asked: list[str] = []
    generate = ScriptedEngine.generate

    def counted(self: ScriptedEngine, requests: list[Request]) -> list[Completion]:
        asked.extend(request.prompt_id for request in requests)
        return generate(self, requests)

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    return asked


def collect(recipe: Recipe, *splits: str, methods: tuple[str, ...] | None = None) -> RunLayout:
    run, work = run_of(recipe), Collect(recipe, methods)
    for unit in units_of(shards_of(run, *(splits or ("parallel",)))):
        work(unit)
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"scoring.alpha": 0.9},
        {"student.name": "another"},
        {"router.epochs": 9},
        {"router.backbone.name": "another"},
        {"resources.collect.actors": 7},
        {"hardware.nodes": 3},
        {"teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in ("c", "a")]},
        {
            "teachers": [
                {
                    "name": name,
                    "engine": {"kind": "scripted"},
                    "resources": {"replicas": 2},
                    "price": {"response": 3},
                    "size": {
                        "parameters": 7,
                        "layers": 2,
                        "kv_heads": 2,
                        "head_dim": 8,
                        "context": 99,
                    },
                }
                for name in ("a", "b", "c")
            ]
        },
    ],
)
def test_nothing_is_asked_again_when_what_shapes_a_response_stays(
    make_recipe: Make, carry_out: CarryOut, calls: list[str], changes: dict[str, Any]
) -> None:
    carry_out(make_recipe(), until="collect")
    assert len(calls) == 12 * 3
    calls.clear()
    collect(make_recipe(changes))
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "num_asked"),
    [
        ({"prompts.num_parallel": 8}, 0),
        ({"prompts.shard_rows": 3}, 0),
        ({"prompts.num_parallel": 16}, 4 * 3),
    ],
)
def test_other_splits_and_shards_ask_only_for_what_is_new(
    make_recipe: Make,
    carry_out: CarryOut,
    calls: list[str],
    changes: dict[str, Any],
    num_asked: int,
) -> None:
    carry_out(make_recipe(), until="collect")
    calls.clear()
    other = make_recipe(changes)
    carry_out(other, until="prompts")
    run = collect(other)
    assert len(calls) == num_asked
    for teacher in other.teachers:
        for shard in shards_of(run, "parallel"):
            prompts = run.prompts.read_table(shard)
            found = existing(run.responses(teacher), shard, RESPONSES)
            found = selection.among(found, "prompt_id", prompts["prompt_id"])
            assert sorted(found["prompt_id"].to_pylist()) == sorted(
                prompts["prompt_id"].to_pylist()
            )


def test_runs_share_a_store(
    make_recipe: Make, carry_out: CarryOut, calls: list[str], tmp_path: Path
) -> None:
    shared = {"responses.store": str(tmp_path / "store")}
    first = make_recipe(shared)
    carry_out(first, until="collect")
    calls.clear()
    second = make_recipe(shared | {"run": str(tmp_path / "second"), "prompts.shard_rows": 4})
    carry_out(second, until="collect")
    assert calls == []
    assert not (run_of(second).root / "tables" / "responses").exists()


def test_the_parallel_sets_answers_serve_synthesis(
    make_recipe: Make, carry_out: CarryOut, calls: list[str], random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models)
    run = carry_out(recipe, until="route")
    calls.clear()
    collect(recipe, "parallel", "routed", methods=(PERSYN,))
    routed = [
        name
        for shard in shards_of(run, "routed")
        for name in run.prompts.read_table(shard)["prompt_id"].to_pylist()
    ]
    assert sorted(calls) == sorted(routed)
    write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
    calls.clear()
    collect(recipe, "parallel", "routed", methods=(PERSYN,))
    assert calls == []


def test_an_unavailable_answer_is_not_kept_and_is_asked_again(
    make_recipe: Make, carry_out: CarryOut, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    shard = shards_of(run, "parallel")[0]
    answering = ScriptedEngine.generate

    def away(self: ScriptedEngine, requests: list[Request]) -> list[Completion]:
        return [Completion.unavailable("nobody there") for _ in requests]

    monkeypatch.setattr(ScriptedEngine, "generate", away)
    progress = Collect(recipe)({"shard": shard})
    assert (progress.rows, progress.errors, progress.unavailable) == (15, 15, 15)
    letters = failures(response_settings(recipe), run, "collect").to_pylist()
    assert {row["reason"] for row in letters} == {"unavailable"}
    assert len(letters) == 15
    assert existing(run.responses(recipe.teachers[0]), shard, RESPONSES).num_rows == 0

    monkeypatch.setattr(ScriptedEngine, "generate", answering)
    progress = Collect(recipe)({"shard": shard})
    assert (progress.rows, progress.errors) == (15, 0)
    assert failures(response_settings(recipe), run, "collect").num_rows == 0
