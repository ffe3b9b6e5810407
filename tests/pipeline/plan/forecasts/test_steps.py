"""Forecasts that a step leaves, and what the report makes of them."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.pipeline.plan.forecasts.known import forecast_settings, gather_known, read_forecast
from persyn_ray.pipeline.plan.forecasts.steps import (
    forecast_against_actual,
    forecast_anew,
    forecast_everything,
    forecast_step,
    write_forecast,
)
from persyn_ray.pipeline.plan.placement import deployment_of, place_teachers
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.pipeline.results.explain import state
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.content import complete
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import Record

OnGpus = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
SPLITS = {"parallel": 12, "heldout": 4, "routed": 8}
UNKNOWN = {"forecast": None, "actual": None}


def record(step: str, **counts: Any) -> dict[str, Record | None]:
    return {step: Record(step, "", {}, {}, counts, seconds=50.0)}


def test_steps_and_generate_then_select_ask_as_many_prompts_as_the_method_says(
    on_gpus: OnGpus,
) -> None:
    recipe = on_gpus({"a": {}, "b": {}})
    known = gather_known(
        forecast_settings(recipe),
        run_of(recipe),
        Counted(SPLITS, 20.0),
        place_teachers(deployment_of(recipe)),
        (),
    )
    collect, later = (forecast_step(known, step) for step in ("collect", "synthesize"))
    assert [one.prompts for one in collect.teachers.values()] == [12, 12]
    assert [one.prompts for one in later.teachers.values()] == [4, 4]
    assert [one.prompts for one in forecast_everything(known).teachers.values()] == [20, 20]
    assert [part.tokens for part in forecast_anew(known)] == [collect.tokens, later.tokens]


def test_a_step_leaves_what_the_scheduler_and_the_report_need(
    on_gpus: OnGpus, carry_out: CarryOut
) -> None:
    recipe = on_gpus({"a": {"resources": {"tokens_per_second": 10, "load_seconds": 30}}})
    run = carry_out(recipe, until="prompts")
    write_forecast(forecast_settings(recipe), run, "collect")
    made = read_forecast(run, "collect")
    one = made["teachers"]["a"]
    assert (one["prompts"], one["tokens"], one["at_most"]) == (12, 1200, True)
    assert (one["load_seconds"], one["engine_seconds"]) == (30, 120)
    assert one["seconds"] == made["seconds"] > 30
    assert one["dollars"] == pytest.approx(one["gpu_seconds"] / 3600 * 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware.nodes": 0},
        {"hardware.gpus_per_node": 1, "teachers.0.resources": {"tensor_parallel": 4}},
    ],
)
def test_a_run_is_never_refused_by_its_forecast(
    on_gpus: OnGpus, carry_out: CarryOut, changes: dict[str, Any]
) -> None:
    resources = changes.pop("teachers.0.resources", {})
    recipe = on_gpus({"a": {"resources": resources}, "unknown": {"size": None}}, changes)
    run = carry_out(recipe, until="prompts")
    write_forecast(forecast_settings(recipe), run, "collect")
    made = read_forecast(run, "collect")
    assert made["seconds"] is None
    assert made["teachers"]["a"]["engine_seconds"] > 0
    assert made["teachers"]["unknown"]["engine_seconds"] is None
    assert made["teachers"]["unknown"]["tokens"] == 1200


def test_a_finished_run_has_both_steps_beside_their_records(
    finished: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = finished
    found = forecast_against_actual(
        recipe.teachers, recipe.hardware.gpu_hour_dollars, run, dict(state(run))
    )
    assert found is not None
    collect, later = found["steps"]["collect"], found["steps"]["synthesize"]
    assert collect["at_most"] is True
    assert collect["tokens"]["forecast"] == 3 * 16 * 512
    assert 0 < collect["tokens"]["actual"] < collect["tokens"]["forecast"]
    # By then all lengths and the assignment are known: only the spread of lengths is left.
    assert later["at_most"] is False
    assert later["tokens"]["actual"] == pytest.approx(later["tokens"]["forecast"], rel=0.5)
    assert sum(one["prompts"]["forecast"] for one in later["teachers"].values()) == 8
    # They share a pool, so their seconds are not known apart.
    assert {str(one["seconds"]) for one in collect["teachers"].values()} == {str(UNKNOWN)}
    assert complete({"forecast": found})["forecast"] == found


def test_actual_figures_come_from_the_record(on_gpus: OnGpus, carry_out: CarryOut) -> None:
    slots = {"max_num_seqs": 4}
    fast = {
        "resources": {
            "tokens_per_second": 10,
            "load_seconds": 30,
            "replicas": 1,
            "arguments": slots,
        }
    }
    endpoint = {
        "engine": {"kind": "openai", "model": "x"},
        "price": {"prompt": 1.0, "response": 10.0},
    }
    recipe = on_gpus({"a": fast, "api": endpoint})
    run = carry_out(recipe, until="prompts")
    write_forecast(forecast_settings(recipe), run, "collect")
    counts = {
        "a": {
            "rows": 12,
            "tokens": 600,
            "seconds": 75.0,
            "engine": {"running_mean": 3.5, "running_max": 4, "kv_use_mean": 0.25},
        },
        "api": {"rows": 12, "tokens": 500, "seconds": 20.0},
    }
    found = forecast_against_actual(
        recipe.teachers,
        recipe.hardware.gpu_hour_dollars,
        run,
        record("collect", rows=24, tokens=1100, teachers=counts),
    )
    assert found is not None
    step = found["steps"]["collect"]
    one, api = step["teachers"]["a"], step["teachers"]["api"]
    assert one["tokens"] == {"forecast": 1200, "actual": 600}
    assert one["seconds"] == {"forecast": pytest.approx(150), "actual": 75}
    assert one["dollars"] == {
        "forecast": pytest.approx(150 / 3600 * 2),
        "actual": pytest.approx(75 / 3600 * 2),
    }
    prompt_tokens = read_forecast(run, "collect")["teachers"]["api"]["prompt_tokens"]
    assert api["dollars"]["actual"] == pytest.approx((prompt_tokens + 5000) / 1e6)
    assert api["seconds"] == {"forecast": None, "actual": 20}
    assert one["slots"] == 4
    assert one["running"]["actual"] == 3.5
    assert 2 < one["running"]["forecast"] < 4
    assert one["kv_use"] == {"forecast": None, "actual": 0.25}
    assert api["running"]["actual"] is None
    assert step["tokens"] == {"forecast": 2400, "actual": 1100}
    assert step["dollars"]["actual"] == pytest.approx(
        one["dollars"]["actual"] + api["dollars"]["actual"]
    )
    assert step["seconds"] == {"forecast": None, "actual": 50}


def test_without_forecast_or_record_there_is_nothing(on_gpus: OnGpus, carry_out: CarryOut) -> None:
    recipe = on_gpus({"a": {}})
    run = carry_out(recipe, until="prompts")
    assert (
        forecast_against_actual(
            recipe.teachers, recipe.hardware.gpu_hour_dollars, run, record("collect")
        )
        is None
    )
    write_forecast(forecast_settings(recipe), run, "collect")
    assert (
        forecast_against_actual(
            recipe.teachers, recipe.hardware.gpu_hour_dollars, run, {"collect": None}
        )
        is None
    )


def test_a_forecast_covers_what_is_not_stored_yet(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, run = finished
    known = gather_known(
        forecast_settings(recipe),
        run,
        Counted(SPLITS, 20.0),
        {},
        ("prompts", "collect", "rewards", "route"),
    )
    for step in ("collect", "synthesize"):
        assert sum(one.prompts for one in forecast_step(known, step).teachers.values()) == 0
    assert sum(one.prompts for part in forecast_anew(known) for one in part.teachers.values()) == (
        pytest.approx(16 * 3 + 8)
    )
