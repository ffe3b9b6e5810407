"""Recipes that leave engines empty are warned of, with the setting that helps; others are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.pipeline.plan.engine_display import (
    engine_caption,
    engine_table,
    engines_by_step,
)
from persyn_ray.pipeline.plan.engine_warnings import empty_engines
from persyn_ray.pipeline.plan.forecasts.estimate import reckon
from persyn_ray.pipeline.plan.forecasts.known import Known
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.storage.records import Record

from .known import known_of

OnGpus = Callable[..., Recipe]
ENDPOINT = {"engine": {"kind": "openai", "model": "x"}, "resources": None, "size": None}
JOBS = Path(__file__).parents[3] / "jobs"


def warnings(known: Known, prompts: float, step: str = "collect", **later: bool) -> list[str]:
    asked = {teacher.name: prompts for teacher in known.teachers}
    return list(empty_engines({step: reckon(known, asked, **later)}, known.placed))


def test_too_few_rows_name_the_rows_the_slots_and_the_setting(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"a": {"resources": {"replicas": 1}}}))
    (collect,) = warnings(known, 40)
    assert "Engines stay empty in collect: a (40 prompts with 128 slots" in collect
    assert "prompts.num_parallel" in collect
    (later,) = warnings(known, 40, "synthesize")
    assert "prompts.limit, or fewer teachers" in later
    assert warnings(known, 4000) == []


def test_a_wide_engine_with_few_rows_is_told_of_a_narrower_layout(on_gpus: OnGpus) -> None:
    wide = {"resources": {"replicas": 1, "tensor_parallel": 4}}
    (warning,) = warnings(known_of(on_gpus({"a": wide})), 40)
    assert "tensor_parallel 1 for a, which holds it" in warning


def test_all_teachers_with_empty_engines_stand_in_one_warning(on_gpus: OnGpus) -> None:
    some = {"resources": {"replicas": 4, "arguments": {"max_num_seqs": 30}}}
    recipe = on_gpus({"a": {}, "b": some, "api": ENDPOINT})
    (warning,) = warnings(known_of(recipe), 100)
    assert "a (100 prompts with 128 slots" in warning
    assert "b (25 prompts for each of 4 engines with 30 slots" in warning
    assert "resources.replicas: 1 for b" in warning
    assert "api" not in warning


def test_a_cache_that_holds_less_than_half_of_the_slots_is_told_of(on_gpus: OnGpus) -> None:
    roomy = {"resources": {"arguments": {"max_num_seqs": 64}}}
    tight = {
        "sampling": {"max_tokens": 8000},
        "resources": {"arguments": {"max_num_seqs": 1024, "gpu_memory_utilization": 0.4}},
    }
    recipe = on_gpus({"roomy": roomy, "tight": tight})
    (warning,) = warnings(known_of(recipe), 20_000)
    assert warning.startswith("Teacher tight has KV cache for ")
    assert "of 1024 (max_num_seqs)" in warning
    assert "resources.tensor_parallel: 2" in warning


def test_an_endpoint_held_back_by_its_rate_is_told_of_once_it_is_measured(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"api": ENDPOINT}))
    assert warnings(known, 4000) == []
    use = {"running_mean": 11.0, "running_max": 40.0}
    counts = {"api": {"rows": 4000, "tokens": 400_000, "seconds": 900.0, "engine": use}}
    record = Record("collect", "", {}, {}, {"teachers": counts}, seconds=900.0)
    measured = replace(known, collect=record, before={})
    (warning,) = warnings(measured, 4000, "synthesize", is_later=True)
    assert "Teacher api is limited by its endpoint's rate: about 11 requests" in warning


def test_the_plan_shows_the_warnings(on_gpus: OnGpus) -> None:
    found = plan_run(on_gpus({"a": {}})).warnings
    assert any("empty in collect: a (12 prompts with 128 slots" in one for one in found)
    assert any("empty in synthesize: a (8 prompts" in one for one in found)


def test_the_paper_s_teachers_have_full_engines_in_both_halves() -> None:
    plan = plan_run(load_recipe(JOBS / "instruct.yaml"))
    assert plan.warnings == ()
    for step in plan.steps.values():
        engines: list[Any] = [one.engine for one in step.teachers.values()]
        assert len(engines) == 19
        assert min(one.filled for one in engines) > 0.7
        assert max(one.tail_share for one in engines) < 0.4


def test_steps_with_the_same_engines_are_shown_once(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"a": {}, "b": {}}))
    same = {step: reckon(known, {"a": 500, "b": 500}) for step in ("collect", "synthesize")}
    (title,) = engines_by_step(same)
    assert title == "collect and synthesize"
    apart = same | {"synthesize": reckon(known, {"a": 700, "b": 0})}
    found = engines_by_step(apart)
    assert [list(engines) for engines in found.values()] == [["a", "b"], ["a"]]
    assert engine_table(found["collect"]).row_count == 2
    caption = engine_caption(found["collect"].values())
    assert "max_num_seqs: the setting of vLLM" in caption
    assert "assumed" in caption
    assert engines_by_step({"collect": reckon(known, {"a": 0, "b": 0})}) == {}


@pytest.mark.parametrize("engines", [1, 3])
def test_the_rows_of_an_engine_are_its_share(on_gpus: OnGpus, engines: int) -> None:
    known = known_of(on_gpus({"a": {"resources": {"replicas": engines}}}))
    one = reckon(known, {"a": 6000}).teachers["a"].engine
    assert one is not None
    assert one.rows * one.engines == pytest.approx(6000)
