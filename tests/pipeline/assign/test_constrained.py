"""PerSyn within limits: against another solver, by hand, and what is left when limits go."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.assign.assignments import (
    asked_by_persyn,
    num_reassigned,
    reassign,
    write_assignments,
)
from persyn_ray.pipeline.assign.constrained import (
    after_reassigning,
    gather_constraints,
    limit_settings,
    write_within_limits,
)
from persyn_ray.pipeline.assign.costs import expected_costs
from persyn_ray.pipeline.assign.methods import response_settings, settings_of
from persyn_ray.pipeline.plan.placement import deployment_of
from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.content import complete
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.records import read_record, write_record
from persyn_ray.storage.results import SynthesizeResult
from persyn_ray.storage.schemas import RESPONSES, logits_schema, rewards_schema

Make = Callable[..., Recipe]
RecordStep = Callable[..., RunLayout]
TOKENS = {"a": 400, "b": 100, "c": 10}
NUM = 20  # parallel and routed prompts


@pytest.fixture
def routed(
    make_recipe: Make, finished: tuple[Recipe, RunLayout]
) -> Callable[..., tuple[Recipe, RunLayout]]:
    """A recipe with limits whose prompts have logits; `a` is the best of most prompts."""

    def make(
        limits: dict[str, Any], changes: dict[str, Any] | None = None
    ) -> tuple[Recipe, RunLayout]:
        recipe = make_recipe({"assignment": limits} | (changes or {}))
        run = with_prompts(recipe, finished[1])
        names = recipe.pool.names
        for shard in shards_of(run, "parallel", "routed"):
            rows = [
                {"prompt_id": one, "logits": logits_of(one, names), "candidates": [True] * 3}
                for one in ids_of(run, shard)
            ]
            schema = logits_schema(names)
            run.logits.write_table(shard, pa.Table.from_pylist(rows, schema=schema))
        for shard in shards_of(run, "parallel"):
            ids = ids_of(run, shard)
            columns: dict[str, Any] = {"prompt_id": ids}
            columns |= dict.fromkeys(("learnability", "quality", "rewards"), [[0.5] * 3] * len(ids))
            schema = rewards_schema(names)
            run.rewards.write_table(shard, pa.table(columns, schema=schema))
            for name in names:
                answer(recipe, run, shard, name, dict.fromkeys(ids, "stop"))
        return recipe, run

    return make


def with_prompts(recipe: Recipe, done: RunLayout) -> RunLayout:
    """A run that has come as far as its prompts: those of a run over the same file."""
    run = run_of(recipe)
    for name, table in done.prompts.tables():
        run.prompts.write_table(name, table)
    record = read_record(done.records, "prompts")
    assert record is not None
    write_record(run.records, record)
    return run


def logits_of(prompt_id: str, names: tuple[str, ...]) -> list[float]:
    logits_M = np.random.default_rng(int(prompt_id[:8], 16)).normal([1.5, 0.5, 0.0])
    of = dict(zip("abc", logits_M.tolist(), strict=True))
    return [of[name] for name in names]


def ids_of(run: RunLayout, shard: str) -> list[str]:
    return run.prompts.read_table(shard, ["prompt_id"])["prompt_id"].to_pylist()


def answer(recipe: Recipe, run: RunLayout, shard: str, name: str, endings: dict[str, str]) -> None:
    folder = run.responses(recipe.teachers[recipe.pool.index(name)])
    rows = [
        {
            "prompt_id": prompt_id,
            "teacher": name,
            "response": "text",
            "finish_reason": ending,
            "num_prompt_tokens": 7,
            "num_tokens": TOKENS[name],
        }
        for prompt_id, ending in endings.items()
    ]
    folder.write_table(shard, pa.Table.from_pylist(rows, schema=RESPONSES))


def chosen(run: RunLayout, method: str = PERSYN) -> dict[str, str]:
    rows = [row for _, table in run.assignment(method).tables() for row in table.to_pylist()]
    return {row["prompt_id"]: row["teacher"] for row in rows}


def margins(run: RunLayout) -> dict[str, float]:
    rows = [row for _, table in run.assignment(PERSYN).tables() for row in table.to_pylist()]
    return {row["prompt_id"]: row["margin"] for row in rows}


def best(run: RunLayout) -> dict[str, str]:
    """Who has the greatest logit."""
    ids = [one for shard in shards_of(run, "parallel", "routed") for one in ids_of(run, shard)]
    return {one: "abc"[int(np.argmax(logits_of(one, tuple("abc"))))] for one in ids}


def win_share(logits: np.ndarray, m: int) -> float:
    return float(np.mean([expit(logits[m] - logits[j]) for j in range(3) if j != m]))


def test_without_limits_nothing_is_different(routed: Any, make_recipe: Make) -> None:
    recipe, run = routed({})
    counts = write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
    assert counts.constraints is None
    assert chosen(run) == best(run)
    assert not run.within_limits.exists()
    (route,) = [one for one in planned_steps(recipe, run) if one.step.name == "route"]
    assert "assignment" not in route.settings


def test_limits_that_do_not_bind_change_no_teacher(routed: Any) -> None:
    recipe, run = routed({"max_tokens": 1e6, "capacity": {"a": NUM}})
    counts = write_assignments(
        settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random")
    ).constraints
    assert chosen(run) == best(run)
    assert min(margins(run).values()) >= 0
    assert counts.gap == 0
    assert counts.value == counts.bound == pytest.approx(counts.unconstrained_value)
    tokens = sum(TOKENS[name] for name in best(run).values())
    assert counts.used == {
        "max_tokens": tokens,
        "prompts of a": list(best(run).values()).count("a"),
    }


@pytest.mark.parametrize("loss", ["bradley_terry", "regression"])
def test_capacities_give_the_optimum_of_another_solver(routed: Any, loss: str) -> None:
    recipe, run = routed({"capacity": {"a": 3, "b": 6}}, {"router.loss": loss})
    counts = write_assignments(
        settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random")
    ).constraints
    slots = [0] * 3 + [1] * 6 + [2] * NUM
    logits_PM = np.array([logits_of(one, tuple("abc")) for one in best(run)])
    value_PM = logits_PM
    if loss != "regression":
        value_PM = np.array([[win_share(row, m) for m in range(3)] for row in logits_PM])
    rows, columns = linear_sum_assignment(value_PM[:, slots], maximize=True)
    best_value = float(value_PM[:, slots][rows, columns].sum())
    assert counts.value == pytest.approx(best_value)
    assert best_value <= counts.bound + 1e-9
    assert counts.unconstrained_value == pytest.approx(
        value_PM[np.arange(NUM), logits_PM.argmax(axis=1)].sum()
    )
    assert counts.used == {"prompts of a": 3, "prompts of b": 6}
    assert sum(counts.prompts.values()) == NUM == len(chosen(run))


def test_only_persyn_is_limited_and_moved_prompts_have_margins_below_zero(routed: Any) -> None:
    methods = (PERSYN, "best_constant", "random")
    recipe, run = routed({})
    write_assignments(settings_of(recipe), limit_settings(recipe), run, methods)
    before = {method: chosen(run, method) for method in methods}
    limited = recipe.model_copy(
        update={"assignment": recipe.assignment.model_copy(update={"max_tokens": 2000.0})}
    )
    counts = write_assignments(settings_of(limited), limit_settings(limited), run, methods)
    for method in methods[1:]:
        assert chosen(run, method) == before[method]
    moved = {one for one, name in chosen(run).items() if name != before[PERSYN][one]}
    assert moved == {one for one, margin in margins(run).items() if margin < 0} != set()
    used = sum(TOKENS[name] for name in chosen(run).values())
    constraints = counts.constraints
    assert constraints.used == {"max_tokens": used}
    assert used <= 2000
    assert constraints.value < constraints.unconstrained_value
    # With a single limit at most one prompt's range of values is lost.
    assert 0 <= constraints.gap <= 1
    assert counts.assigned[PERSYN] == constraints.prompts


def test_the_front_runs_from_the_cheapest_to_the_best(routed: Any) -> None:
    recipe, run = routed({"min_share": 0.2})
    constraints = write_within_limits(limit_settings(recipe), recipe.pool, recipe.prompts.seed, run)
    assert constraints is not None
    front = constraints.pareto
    costs, rewards = ([getattr(one, key) for one in front] for key in ("cost", "reward"))
    assert costs[0] == NUM * TOKENS["c"]
    assert rewards[-1] == pytest.approx(constraints.unconstrained_value)
    assert rewards == sorted(rewards)
    assert {one.unit for one in front} == {"tokens"}
    assert constraints.used["min_share"] >= 0.2
    assert min(constraints.prompts.values()) == round(NUM * constraints.used["min_share"])


def test_the_order_of_the_teachers_changes_nothing(routed: Any) -> None:
    limits = {"max_tokens": 2000, "min_share": 0.15}
    found: list[dict[str, str]] = []
    for order in ("abc", "cab"):
        teachers = [{"name": name, "engine": {"kind": "scripted"}} for name in order]
        recipe, run = routed(limits, {"teachers": teachers})
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
        found.append(chosen(run))
    assert found[0] == found[1]


def test_a_limit_that_no_assignment_keeps_is_refused_by_its_name(routed: Any) -> None:
    recipe, run = routed({"max_tokens": NUM * TOKENS["c"] - 1})
    with pytest.raises(ConfigError, match=r"assignment\.max_tokens"):
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
    recipe, run = routed({"capacity": {"a": 3, "b": 3, "c": 3}})
    with pytest.raises(ConfigError, match=r"assignment\.capacity has room for 9"):
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))


def endpoint(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "engine": {"kind": "openai", "model": name}, **changes}


def test_dollars_are_prices_of_mean_lengths(routed: Any) -> None:
    teachers = [
        endpoint("a", price={"prompt": 2.0, "response": 10.0}),
        endpoint("b", price={"prompt": 0.0, "response": 1.0}),
        endpoint("c"),
    ]
    recipe, run = routed({"max_dollars": 0.02}, {"teachers": teachers})
    costs = expected_costs(recipe.assignment, deployment_of(recipe), run)
    # Prompts have 7 tokens.
    np.testing.assert_allclose(costs["max_dollars"], [4014e-6, 100e-6, 0.0])
    np.testing.assert_array_equal(costs["max_tokens"], [400, 100, 10])
    constraints = write_within_limits(limit_settings(recipe), recipe.pool, recipe.prompts.seed, run)
    assert constraints is not None
    prompts = constraints.prompts
    assert constraints.used["max_dollars"] == pytest.approx(
        4014e-6 * prompts["a"] + 100e-6 * prompts["b"]
    )
    assert prompts["a"] == 4


def test_gpu_seconds_are_those_of_the_plan_and_cost_by_the_hour(
    routed: Any, on_gpus: Callable[..., Recipe]
) -> None:
    fast = {"resources": {"tokens_per_second": 50.0, "tensor_parallel": 4}}
    slow = {"resources": {"tokens_per_second": 10.0}}
    made = on_gpus({"a": fast, "b": slow}).model_dump(mode="json")
    teachers = [*made["teachers"], endpoint("c")]
    limits = {"max_gpu_seconds": 300, "max_dollars": 1}
    recipe, run = routed(limits, {"teachers": teachers, "hardware": made["hardware"]})
    costs = expected_costs(recipe.assignment, deployment_of(recipe), run)
    # 400 tokens at 50 a second on 4 GPUs; 100 at 10 on one; $2 an hour.
    np.testing.assert_allclose(costs["max_gpu_seconds"], [32.0, 10.0, 0.0])
    np.testing.assert_allclose(costs["max_dollars"], [64 / 3600, 20 / 3600, 0.0])
    constraints = write_within_limits(limit_settings(recipe), recipe.pool, recipe.prompts.seed, run)
    assert constraints is not None
    assert 250 < constraints.used["max_gpu_seconds"] <= 300


def test_costs_that_nobody_knows_are_refused(routed: Any) -> None:
    recipe, run = routed({"max_gpu_seconds": 5}, {"hardware.nodes": 1})
    with pytest.raises(ConfigError, match=r"assignment\.max_gpu_seconds.*of no teacher"):
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
    recorded = [{"name": name, "engine": {"kind": "recorded", "path": "x.jsonl"}} for name in "abc"]
    # Recorded responses have no token counts; none has been scored here.
    recipe, run = routed({"max_tokens": 5}, {"teachers": recorded})
    with pytest.raises(ConfigError, match=r"assignment\.max_tokens.*of no teacher"):
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))


def test_recorded_teachers_are_counted_by_the_student(
    finished: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = finished
    (one, *others) = recipe.teachers
    data = {"kind": "recorded", "path": "x.jsonl"}
    recorded = type(one).model_validate({"name": "a", "engine": data})
    mixed = recipe.model_copy(update={"teachers": (recorded, *others)})
    tokens_M = expected_costs(mixed.assignment, deployment_of(mixed), run)["max_tokens"]
    assert np.isnan(tokens_M[0])  # its responses are not those that were scored
    assert (tokens_M[1:] > 0).all()


def test_the_next_best_is_asked_beyond_the_limits_and_that_is_recorded(
    routed: Any, record_step: RecordStep
) -> None:
    changes = {"responses.incomplete": "next_best"}
    recipe, run = routed({"capacity": {"a": 4}, "max_tokens": 4000}, changes)
    counts = write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random"))
    record_step(recipe, "route", counts)
    first = chosen(run)
    assert list(first.values()).count("a") == 4
    assert reassign(response_settings(recipe), run, (PERSYN,)) == 0
    later = after_reassigning(run)
    assert later is not None
    assert later.exceeded == {}
    assert later.used == counts.constraints.used
    # Nobody but a ends well.
    for shard in shards_of(run, "parallel", "routed"):
        for name in "bc":
            answer(recipe, run, shard, name, dict.fromkeys(ids_of(run, shard), "length"))
    assert reassign(response_settings(recipe), run, (PERSYN,)) == NUM - 4
    assert set(chosen(run).values()) == {"a"}
    assert reassign(response_settings(recipe), run, (PERSYN,)) == 0
    assert num_reassigned(settings_of(recipe), run, PERSYN) == NUM - 4
    later = after_reassigning(run)
    assert later is not None
    assert later.exceeded == {"prompts of a": NUM - 4, "max_tokens": NUM * 400 - 4000}
    for shard in shards_of(run, "routed"):
        asked = asked_by_persyn(settings_of(recipe), run, shard)
        for prompt_id in ids_of(run, shard):
            assert prompt_id in asked[first[prompt_id]]
            assert prompt_id in asked["a"]
    route = read_record(run.records, "route")
    assert route is not None
    section = gather_constraints(
        route, replace(route, result=SynthesizeResult(constraints=later).model_dump(mode="json"))
    )
    assert section is not None
    assert section["used"] == later.used


def test_the_report_shows_what_step_route_recorded(routed: Any, record_step: RecordStep) -> None:
    recipe, run = routed({"max_tokens": 3000})
    counts = write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN,))
    record_step(recipe, "route", counts)
    route = read_record(run.records, "route")
    assert route is not None
    section = gather_constraints(route, None)
    shown = complete({"constraints": section})["constraints"]
    assert section is not None
    assert shown == section
    assert gather_constraints(replace(route, result={"rows": 1}), None) is None


def test_limits_are_part_of_step_route_and_prices_where_dollars_are_limited(
    make_recipe: Make,
) -> None:
    def route(limits: dict[str, Any], price: float) -> str:
        teachers = [endpoint("a", price={"response": price}), endpoint("b")]
        recipe = make_recipe({"teachers": teachers, "assignment": limits})
        (planned,) = [
            one for one in planned_steps(recipe, run_of(recipe)) if one.step.name == "route"
        ]
        return planned.identity

    assert route({}, 1.0) == route({}, 2.0)
    assert route({"max_tokens": 9}, 1.0) == route({"max_tokens": 9}, 2.0) != route({}, 1.0)
    assert route({"max_dollars": 9}, 1.0) != route({"max_dollars": 9}, 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assignment.max_tokens": 0}, r"assignment\.max_tokens"),
        ({"assignment.capacity": {"a": -1}}, r"assignment\.capacity\.a"),
        ({"assignment.capacity": {"z": 1}}, r"assignment\.capacity has 'z', no teacher"),
        ({"assignment.min_share": 0.4}, r"assignment\.min_share 0\.4 .* at most 0\.3333"),
        ({"assignment.max_dollars": 5}, r"assignment\.max_dollars needs what a teacher costs"),
        ({"assignment.max_gpu_seconds": 5}, r"assignment\.max_gpu_seconds needs hardware"),
        ({"assignment.max_token": 5}, r"assignment\.max_token"),
    ],
)
def test_limits_without_meaning_are_refused(
    make_recipe: Make, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_recipe(changes)
