"""Forecasts of odd clusters and pools: sizes that are not known, single prompts, a million."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from persyn_ray.pipeline.plan.engine_display import engine_caption, engine_table, engines_by_step
from persyn_ray.pipeline.plan.engine_warnings import empty_engines
from persyn_ray.pipeline.plan.forecasts.engines import EngineForecast, teacher_engine
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, TeacherForecast, reckon
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length, Stored
from persyn_ray.pipeline.plan.forecasts.known import Known, forecast_settings, gather_known
from persyn_ray.pipeline.plan.forecasts.score import Reader, forecast_score
from persyn_ray.pipeline.plan.forecasts.steps import forecast_step
from persyn_ray.pipeline.plan.placement import deployment_of, place_known, place_teachers
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import HardwareConfig, StepResourcesConfig
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import Record

OnGpus = Callable[..., Recipe]
Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
SPLITS = {"parallel": 12, "heldout": 4, "routed": 8}
ENDPOINT: dict[str, Any] = {
    "engine": {"kind": "openai", "model": "x"},
    "price": {"prompt": 1.0, "response": 10.0},
    "resources": {"gpus": 0, "cpus": 0, "max_requests": 16, "tokens_per_second": 800.0},
    "size": None,
}
BATCHES: dict[str, Any] = {
    "engine": {"kind": "transformers", "model": {"name": "nowhere/small"}, "batch_size": 8},
    "resources": {"gpus": 0, "tokens_per_second": 80.0},
    "size": None,
}


def known_of(recipe: Recipe, **splits: int) -> Known:
    counted, placed = Counted(SPLITS | splits, 20.0), place_teachers(deployment_of(recipe))
    return gather_known(forecast_settings(recipe), run_of(recipe), counted, placed, ())


def with_stored(known: Known, num_tokens: list[int], *teachers: str) -> Known:
    of = Stored(num_tokens=num_tokens, num_prompt_tokens=[20] * len(num_tokens))
    length = Length(20.0, float(np.mean(num_tokens)), False)
    stored = known.stored | dict.fromkeys(teachers, of)
    return replace(known, stored=stored, lengths=known.lengths | dict.fromkeys(teachers, length))


def engine_of(one: TeacherForecast) -> EngineForecast:
    assert one.engine is not None
    return one.engine


def test_one_prompt_fills_one_slot_and_is_all_tail(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"gpu": {}, "api": ENDPOINT, "batch": BATCHES})
    made = reckon(known_of(recipe), {"gpu": 1, "api": 1, "batch": 1})
    for name, slots in (("gpu", 128), ("api", 16), ("batch", 8)):
        one = made.teachers[name]
        engine = engine_of(one)
        assert (engine.slots, engine.engines, engine.rows) == (slots, 1, 1)
        assert engine.running_mean == pytest.approx(1)
        assert engine.filled == pytest.approx(1 / slots)
        assert one.seconds is not None
        assert one.seconds > 0
    assert engine_of(made.teachers["gpu"]).tail_share == pytest.approx(1, abs=0.1)


def test_an_endpoint_with_a_rate_takes_as_long_as_its_tokens_at_that_rate(on_gpus: OnGpus) -> None:
    known = with_stored(known_of(on_gpus({"api": ENDPOINT})), [50] * 10, "api")
    one = reckon(known, {"api": 1600}).teachers["api"]
    assert one.seconds == pytest.approx(1600 * 50 / 800)
    assert one.dollars == pytest.approx(1600 * (20 * 1 + 50 * 10) / 1e6)
    assert engine_of(one).filled == pytest.approx(1)
    # Three rows beyond the last fill: a step takes as long, whatever share of its slots is filled.
    assert reckon(known, {"api": 160}).seconds == pytest.approx(10)
    assert reckon(known, {"api": 163}).seconds == pytest.approx(11)


def test_a_batch_is_as_long_as_its_longest_response(on_gpus: OnGpus) -> None:
    known = with_stored(known_of(on_gpus({"batch": BATCHES})), [10] * 8, "batch")
    one = reckon(known, {"batch": 20}).teachers["batch"]
    # Steps of 0.1 s: three batches of ten steps each, the last of four rows.
    assert one.seconds == pytest.approx(3 * 10 * 0.1)
    assert engine_of(one).running_mean == pytest.approx(20 / 3)
    assert engine_of(one).limited_by == "batch_size"
    # Many batches are not simulated one by one, and take as long as if they were.
    many = reckon(known, {"batch": 100_003}).teachers["batch"]
    assert many.seconds == pytest.approx(12_501 * 10 * 0.1)
    assert engine_of(many).running_mean == pytest.approx(100_003 / 12_501)
    uneven = with_stored(known, [10] * 9 + [110], "batch")
    longest = 110 - 100 * 0.9**8  # tokens of the longest of eight, on average
    seconds = reckon(uneven, {"batch": 80_000}).teachers["batch"].seconds
    assert seconds == pytest.approx(10_000 * longest * 0.1, rel=0.05)


@pytest.mark.parametrize(("nodes", "gpus"), [(1, 1), (3, 3), (7, 1), (1, 5)])
def test_odd_clusters_do_all_work_on_gpus_that_they_have(
    on_gpus: OnGpus, nodes: int, gpus: int
) -> None:
    hardware = {"hardware.nodes": nodes, "hardware.gpus_per_node": gpus}
    recipe = on_gpus({name: {"resources": {"replicas": 4}} for name in "abcde"}, hardware)
    made = reckon(known_of(recipe), dict.fromkeys("abcde", 3000.0))
    assert made.schedule is not None
    assert made.seconds is not None
    parts = made.schedule.parts
    for name in "abcde":
        assert sum(part.share for part in parts if part.job == name) == pytest.approx(1)
        assert engine_of(made.teachers[name]).engines <= max(4, nodes * gpus)
    used = {gpu for part in parts for gpu in part.gpus}
    assert len(used) <= nodes * gpus
    for gpu in used:  # one engine after the other
        spans = sorted((part.start, part.end) for part in parts if gpu in part.gpus)
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(spans))
    assert made.gpu_seconds <= made.seconds * nodes * gpus * (1 + 1e-9)
    assert made.dollars == pytest.approx(made.gpu_seconds / 3600 * 2)


def test_a_teacher_whose_size_nobody_knows_has_tokens_and_no_time(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"known": {}, "unknown": {"size": None}})
    placed, refused = place_known(deployment_of(recipe))
    assert list(placed) == ["known"]
    assert refused
    known = gather_known(
        forecast_settings(recipe), run_of(recipe), Counted(SPLITS, 20.0), placed, ()
    )
    made = forecast_step(known, "collect")
    one = made.teachers["unknown"]
    assert (one.prompts, one.tokens, one.seconds, one.dollars) == (12, 1200, None, None)
    assert made.teachers["known"].seconds is not None
    assert made.seconds is None  # not that of the others alone
    engine = engine_of(one)
    assert (engine.slots, engine.limited_by) == (128, "max_num_seqs")
    (warning,) = empty_engines({"collect": made}, placed)
    assert "unknown (12 prompts with 128 slots" in warning


@pytest.mark.parametrize("kind", ["gpus", "endpoints", "batches"])
def test_a_million_prompts_of_nineteen_teachers_are_forecast_in_seconds(
    on_gpus: OnGpus, kind: str
) -> None:
    given: dict[str, Any] = {
        "gpus": {"resources": {"replicas": 8}},
        "endpoints": ENDPOINT,
        "batches": BATCHES,
    }[kind]
    names = [f"t{number}" for number in range(19)]
    known = known_of(on_gpus(dict.fromkeys(names, given)), parallel=1_000_000)
    start = time.process_time()
    made = forecast_step(known, "collect")
    assert time.process_time() - start < 5
    assert made.tokens == 19 * 1_000_000 * 100
    assert made.seconds is not None
    assert made.seconds > 1000
    for one in made.teachers.values():
        assert 0.3 < engine_of(one).filled <= 1 + 1e-9
        assert engine_of(one).tail_share < 0.01


def test_a_resumed_step_is_forecast_for_what_is_left_alone(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    parallel = run.responses(recipe.teachers[0])
    lost = parallel.names(".parquet")[0]
    num_lost = parallel.num_rows(lost)
    parallel.remove(lost)
    known = gather_known(forecast_settings(recipe), run, Counted(SPLITS, 20.0), {}, ("prompts",))
    made = forecast_step(known, "collect")
    assert [one.prompts for one in made.teachers.values()] == [num_lost, 0, 0]
    assert not made.at_most  # its own responses that are there say how long they are
    assert [one.seconds for one in made.teachers.values()][1:] == [0.0, 0.0]
    assert known.collect is None  # a step that is not done has no speed
    assert forecast_step(known, "synthesize").seconds is None


def test_speeds_of_collect_that_say_nothing_are_not_used(on_gpus: OnGpus) -> None:
    known = known_of(on_gpus({"api": ENDPOINT}))
    plain = reckon(known, {"api": 100}, is_later=True).teachers["api"]
    for done in (
        {"rows": 0, "tokens": 0, "seconds": 9.0},
        {"rows": 9, "tokens": 9, "seconds": 0.0},
    ):
        record = Record("collect", "", {}, {}, {"teachers": {"api": done}}, seconds=9.0)
        later = reckon(replace(known, collect=record), {"api": 100}, is_later=True)
        assert later.teachers["api"] == plain


def test_a_teacher_that_writes_nothing_has_no_engine(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": {}})
    placed = place_teachers(deployment_of(recipe))["a"]
    assert teacher_engine(recipe.teachers[0], placed, Length(9.0, 0.0, False), Stored()) is None
    idle = reckon(known_of(recipe), {"a": 0}).teachers["a"]
    assert (idle.engine, idle.seconds, idle.tokens, idle.gpu_seconds) == (None, 0.0, 0, 0)


def shown(slots: int, limited_by: str, *, is_assumed: bool = False) -> Forecast:
    engine = EngineForecast(slots, limited_by, 2, 1234.0, slots / 4, 0.125, is_assumed)
    one = TeacherForecast(2468, 1.0, 1.0, False, 1.0, None, "", engine=engine)
    return Forecast({"a": one, "idle": replace(one, engine=None)}, 1.0, None)


def test_steps_with_the_same_engines_stand_together_and_those_without_do_not() -> None:
    same, other = shown(64, "KV cache"), shown(64, "max_num_seqs")
    nothing = Forecast({}, None, None)
    assert engines_by_step({"collect": nothing, "synthesize": nothing}) == {}
    assert list(engines_by_step({"collect": same, "synthesize": same})) == [
        "collect and synthesize"
    ]
    apart = engines_by_step({"collect": same, "score": nothing, "synthesize": other})
    assert list(apart) == ["collect", "synthesize"]
    assert list(apart["collect"]) == ["a"]
    endpoints = {"collect": shown(256, "max_requests"), "synthesize": shown(40, "rate")}
    assert engines_by_step(endpoints) == {}
    cells = [list(column.cells) for column in engine_table(apart["collect"]).columns]
    assert cells == [["a"], ["64"], ["KV cache"], ["2"], ["1,234"], ["25\u00a0%"], ["12\u00a0%"]]


def test_the_caption_explains_the_limits_that_are_there_and_what_is_assumed() -> None:
    def caption(*steps: Forecast) -> str:
        return engine_caption(engine_of(step.teachers["a"]) for step in steps)

    both = caption(shown(8, "max_num_seqs"), shown(8, "batch_size"))
    assert "the setting of vLLM" in both
    assert "a batch ends before another" in both
    assert "memory beside the weights" not in both
    assert "the lengths that are stored" in both
    assert "assumed" in caption(shown(8, "batch_size"), shown(8, "KV cache", is_assumed=True))


@pytest.mark.parametrize(
    ("nodes", "per_node", "gpus", "actors"),
    [
        (2, 8, 3.0, 4),
        (2, 1, 0.4, 4),
        (1, 8, 1.0, 8),
        (3, 2, 0.5, 12),
        (1, 2, 4.0, 0),
        (0, 8, 1.0, 50),
    ],
)
def test_actors_of_a_scoring_model_lie_within_one_node(
    on_gpus: OnGpus, nodes: int, per_node: int, gpus: float, actors: int
) -> None:
    collected = reckon(known_of(on_gpus({"a": {}})), {"a": 10})
    hardware = HardwareConfig.model_validate({"nodes": nodes, "gpus_per_node": per_node})
    resources = StepResourcesConfig(actors=50, cpus=1.0, gpus=gpus, threads=None)
    reader = Reader(ModelConfig(name="nowhere/x"), resources, True)
    (made,) = forecast_score(collected, [reader], hardware)
    assert made.actors == actors


def test_nothing_collected_or_lengths_unknown_forecast_no_scoring(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": {}, "b": {}})
    known = known_of(recipe)
    reader = Reader(
        ModelConfig(name="nowhere/x"),
        StepResourcesConfig(actors=1, cpus=1.0, gpus=1.0, threads=None),
        True,
    )
    assert forecast_score(reckon(known, {"a": 0, "b": 0}), [reader], recipe.hardware) == ()
    one = reckon(known, {"a": 6, "b": 0})
    (made,) = forecast_score(one, [reader], recipe.hardware)
    assert (made.responses, made.tokens) == (6, 6 * (100 + 20))
    unknown = replace(known, lengths=known.lengths | {"b": Length(0.0, 0.0, False)})
    assert forecast_score(reckon(unknown, {"a": 6, "b": 6}), [reader], recipe.hardware) == ()
