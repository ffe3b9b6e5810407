"""Tokens, seconds and dollars of a number of prompts, against examples by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, reckon
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length, Stored
from persyn_ray.pipeline.plan.forecasts.known import Known
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.records import Record

from ..known import known_of

OnGpus = Callable[..., Recipe]
Make = Callable[..., Recipe]
ENDPOINT = {
    "engine": {"kind": "openai", "model": "x"},
    "price": {"prompt": 1.0, "response": 10.0},
    "resources": None,
    "size": None,
}
FIXED: dict[str, Any] = {
    "resources": {
        "tokens_per_second": 10.0,
        "load_seconds": 30.0,
        "replicas": 1,
        "arguments": {"max_num_seqs": 2},
    }
}
"""An engine with two slots whose steps take 0.2 s."""


def after_collect(known: Known, teachers: dict[str, Any], **counts: Any) -> Known:
    """The same with a record of step collect that took so long."""
    record = Record("collect", "", {}, {}, {"teachers": teachers, **counts}, seconds=100.0)
    before = {name: {"replicas": 2} for name in teachers}
    return replace(known, collect=record, before=before)


def test_a_teacher_on_one_gpu_by_hand(on_gpus: OnGpus) -> None:
    made = reckon(known_of(on_gpus({"a": FIXED})), {"a": 6})
    one = made.teachers["a"]
    # 6 prompts x 100 tokens at 10 tokens a second, after 30 seconds of loading; $2 an hour.
    assert (one.prompts, one.tokens, one.prompt_tokens, one.at_most) == (6, 600, 120, True)
    assert one.seconds == made.seconds == pytest.approx(90)
    assert (one.load_seconds, one.replicas) == (30, 1)
    assert one.engine_seconds == pytest.approx(60)
    assert one.gpu_seconds == pytest.approx(90)
    assert one.dollars == made.dollars == pytest.approx(90 / 3600 * 2)


def test_wide_engines_cost_all_their_gpus_and_replicas_share_the_work(on_gpus: OnGpus) -> None:
    wide = {"resources": FIXED["resources"] | {"tensor_parallel": 4}}
    assert reckon(known_of(on_gpus({"a": wide})), {"a": 6}).gpu_seconds == pytest.approx(4 * 90)
    # Six prompts are three fills of two slots: no more than three engines at once.
    many = {"resources": FIXED["resources"] | {"replicas": 8}}
    made = reckon(known_of(on_gpus({"a": many})), {"a": 6})
    assert made.schedule is not None
    assert made.teachers["a"].replicas <= 3
    assert made.seconds == pytest.approx(30 + 60 / 3, rel=0.02)


def test_more_teachers_than_gpus_come_one_after_the_other(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": FIXED, "b": FIXED}, {"hardware.nodes": 1, "hardware.gpus_per_node": 1})
    made = reckon(known_of(recipe), {"a": 6, "b": 6})
    assert made.seconds == pytest.approx(180)
    assert made.gpu_seconds == pytest.approx(180)
    assert reckon(known_of(recipe), {"a": 6, "b": 0}).seconds == pytest.approx(90)


def test_an_endpoint_costs_by_its_price_and_its_time_is_unknown_at_first(on_gpus: OnGpus) -> None:
    made = reckon(known_of(on_gpus({"api": ENDPOINT})), {"api": 1000})
    one = made.teachers["api"]
    assert one.dollars == pytest.approx(1000 * (20 * 1 + 100 * 10) / 1e6)
    assert one.seconds is made.seconds is None
    assert one.gpu_seconds == 0


def test_after_collect_an_endpoint_s_time_is_measured(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"api": ENDPOINT, "a": FIXED}))
    # Twelve requests side by side took 60 s for 50 tokens each; eight write up to 100 tokens.
    known = after_collect(known, {"api": {"rows": 12, "tokens": 600, "seconds": 60.0}})
    made = reckon(known, {"api": 8, "a": 0}, is_later=True)
    assert made.teachers["api"].seconds == made.seconds == pytest.approx(120)
    assert "speed of collect" in made.teachers["api"].source
    assert reckon(known, {"api": 8, "a": 0}).seconds is None


def test_after_collect_engines_on_gpus_go_at_the_speed_they_had(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"a": FIXED}))
    # Two replicas wrote 2,800 tokens in 100 s, of which 30 were loading: 20 tokens a second each.
    known = after_collect(known, {"a": {"rows": 28, "tokens": 2800, "seconds": 100.0}})
    made = reckon(known, {"a": 6}, is_later=True)
    assert made.teachers["a"].engine_seconds == pytest.approx(600 / 20)
    assert made.seconds == pytest.approx(30 + 600 / 20)
    assert reckon(known, {"a": 6}).teachers["a"].engine_seconds == pytest.approx(60)


def test_a_shared_pool_is_known_as_a_whole_only(make_recipe: Make) -> None:
    recipe = make_recipe(
        {"resources.collect": {"actors": 2}, "resources.synthesize": {"actors": 1}}
    )
    known, asked = known_of(recipe), dict.fromkeys("abc", 4.0)
    assert reckon(known, asked, is_later=True).seconds is None
    by_rows = after_collect(known, {}, rows=36)
    made = reckon(by_rows, asked, is_later=True)
    assert made.seconds == pytest.approx(100 * 12 / 36 * 2)
    assert {one.seconds for one in made.teachers.values()} == {None}
    by_tokens = after_collect(known, {}, rows=36, tokens=3 * 4 * 512)
    assert reckon(by_tokens, asked, is_later=True).seconds == pytest.approx(200)


def test_nothing_to_do_takes_no_time_and_no_money(on_gpus: OnGpus) -> None:
    made = reckon(known_of(on_gpus({"a": {}, "api": ENDPOINT})), {"a": 0, "api": 0})
    assert (made.seconds, made.dollars, made.tokens, made.at_most) == (0, 0, 0, False)
    assert made.schedule is None


def test_without_rates_there_is_no_money(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": FIXED}, {"hardware.gpu_hour_dollars": None})
    assert reckon(known_of(recipe), {"a": 6}).dollars is None


@pytest.mark.parametrize("prompts", [1, 100, 10_000])
def test_twice_the_prompts_take_twice_the_writing_at_full_slots(
    on_gpus: OnGpus, prompts: int
) -> None:
    known = known_of(on_gpus({"a": {}}))

    def engine(number: float) -> float:
        made: Forecast = reckon(known, {"a": number})
        seconds = made.teachers["a"].engine_seconds
        assert seconds is not None
        return seconds

    assert engine(2 * prompts) == pytest.approx(2 * engine(prompts))


def test_a_tail_costs_what_the_last_responses_take(on_gpus: OnGpus) -> None:
    # Three prompts in two slots: 40 s with a slot empty for half of it, where 30 would do.
    made = reckon(known_of(on_gpus({"a": FIXED})), {"a": 3}).teachers["a"]
    assert made.engine_seconds == pytest.approx(30)
    assert made.tail_seconds is not None
    assert 9 < made.tail_seconds <= 10  # a step with one response is a little shorter
    assert made.seconds == pytest.approx(30 + 30 + made.tail_seconds)


def test_stored_lengths_give_the_tail_that_they_have(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"a": FIXED}))
    stored = Stored(num_tokens=[10] * 19 + [400], num_prompt_tokens=[20] * 20)
    known = replace(known, stored={"a": stored}, lengths={"a": Length(20.0, 29.5, False)})
    made = reckon(known, {"a": 20}).teachers["a"]
    engine = made.engine
    assert engine is not None
    assert not engine.is_assumed
    even = replace(known, stored={"a": Stored(num_tokens=[30] * 20)})
    assert reckon(even, {"a": 20}).seconds == pytest.approx(30 + 20 * 30 * 0.1)
    assert made.seconds is not None
    assert made.seconds > 30 + 60


def test_how_full_engines_are_depends_on_their_rows(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"a": {"resources": {"replicas": 1}}}))
    fills: list[float] = []
    for rows in (8, 128, 1280, 12_800):
        engine = reckon(known, {"a": rows}).teachers["a"].engine
        assert engine is not None
        assert (engine.slots, engine.limited_by, engine.rows) == (128, "max_num_seqs", rows)
        assert engine.is_assumed
        fills.append(engine.filled)
    assert fills == sorted(fills)
    assert fills[0] < 0.05
    assert fills[-1] > 0.9


def test_a_small_cache_limits_the_slots(on_gpus: OnGpus) -> None:
    long = {"sampling": {"max_tokens": 8000}, "resources": {"arguments": {"max_num_seqs": 512}}}
    engine = reckon(known_of(on_gpus({"a": long})), {"a": 5000}).teachers["a"].engine
    assert engine is not None
    assert engine.limited_by == "KV cache"
    assert 8 < engine.slots < 512


def test_an_endpoint_that_used_few_of_its_requests_is_limited_by_its_rate(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"api": ENDPOINT}))
    assert reckon(known, {"api": 1000}).teachers["api"].engine is not None
    use = {"running_mean": 19.8, "running_max": 60.0}
    done = {"rows": 1000, "tokens": 100_000, "seconds": 500.0}
    limited = after_collect(known, {"api": done | {"engine": use}})
    made = reckon(limited, {"api": 1000}, is_later=True).teachers["api"]
    assert made.engine is not None
    assert (made.engine.slots, made.engine.limited_by) == (20, "rate")
    assert made.seconds == pytest.approx(500)
    free = after_collect(known, {"api": done | {"engine": use | {"running_mean": 200.0}}})
    engine = reckon(free, {"api": 1000}, is_later=True).teachers["api"].engine
    assert engine is not None
    assert (engine.slots, engine.limited_by) == (256, "max_requests")
