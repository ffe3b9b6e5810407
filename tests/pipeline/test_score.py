"""Step score: checks go along with the student, models apart; only what is open is asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.results.costs import dead_letters, spending, spending_text
from persyn_ray.pipeline.results.run import gather
from persyn_ray.pipeline.score import check_routed, is_one_check, score
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.report.sections.dead_letters import DeadLetters
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import ids_of_shard
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress, Unit, Work
from persyn_ray.storage.layout import RunLayout, parts_of

from ..conftest import leave_record, rewards_of
from ..engines.openai.fault_server import Call, FaultServer, Reply, answer, failure

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
CHECK = {"kind": "exact_match", "marker": "####"}


def judge(server: FaultServer, **settings: Any) -> dict[str, Any]:
    address = {"base_url": server.base_url, "api_key_env": None, "attempts": 1}
    return {"kind": "judge", "engine": {"kind": "openai", "model": "tiny"} | address | settings}


def several(**parts: dict[str, Any]) -> dict[str, Any]:
    named = [{"name": name, "quality": quality} for name, quality in parts.items()]
    return {"kind": "several", "parts": named}


def graded(call: Call) -> Reply | None:
    """Every grade is 4."""
    message = {"role": "assistant", "content": "Score: 4"}
    return answer(call, message=message) if call.method == "POST" else None


class Pools:
    """Carries units out here, and keeps which pool had how many."""

    def __init__(self) -> None:
        self.units: list[tuple[str, float, int]] = []
        self.in_flight: dict[str, int] = {}

    def __call__(
        self,
        build: Callable[[], Work],
        units: Sequence[Unit],
        resources: StepResourcesConfig,
        step: str,
        in_flight: int = 1,
    ) -> Progress:
        self.units.append((step, resources.cpus, len(units)))
        self.in_flight[step] = in_flight
        total = Progress()
        if units:
            work = build()
            for unit in units:
                total += work(unit)
        return total


def test_one_check_is_told_from_several_and_from_models(make_recipe: Make) -> None:
    assert is_one_check(make_recipe().scoring)
    two = several(one=CHECK, two=CHECK | {"marker": "="})
    assert not is_one_check(make_recipe({"scoring.quality": two}).scoring)


def test_routed_responses_are_checked_by_the_first_check(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe({"compare.methods": ["random"]})
    run = carry_out(recipe, until="prompts")
    routed, pools = shards_of(run, "routed"), Pools()
    for shard in routed:
        Collect(recipe, teachers=("a",))({"shard": shard})
    check_routed(recipe, run, routed, pools)
    assert pools.units == [("synthesize", 1.0, 2)]
    (part,) = parts_of(recipe.scoring)
    folder = run.quality(recipe.teachers[0], part)
    assert sum(len(ids_of_shard(folder, shard)) for shard in routed) == 8
    assert run.learnability(recipe.teachers[0]).names() == []
    check_routed(recipe, run, routed, pools)
    assert pools.units[1:] == [("synthesize", 1.0, 0)]


def test_checks_go_with_the_student_and_models_apart(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    with FaultServer(graded) as server:
        quality = several(right=CHECK, good=judge(server))
        changes = {"student.name": random_llama, "resources.quality": {"cpus": 0.5}}
        recipe = make_recipe(changes | {"scoring.quality": quality})
        run = carry_out(recipe, until="collect")
        shards, pools = shards_of(run, "parallel"), Pools()
        counts = score(recipe, run, shards, pools)
        assert pools.units == [("score", 1.0, 3), ("quality", 0.5, 3)]
        assert pools.in_flight["score"] == 1  # one student
        assert pools.in_flight["quality"] > 1  # an endpoint answers many at once
        assert (counts.rows, counts.nulls) == (36, 0)
        assert len(server.prompts) == 36
        # Another judge beside them opens the models' pool alone.
        third = judge(server) | {"rubric": "{prompt} {response}"}
        wider = make_recipe(
            changes | {"scoring.quality": several(a=CHECK, b=judge(server), c=third)}
        )
        pools = Pools()
        score(wider, run, shards, pools)
        assert pools.units == [("score", 1.0, 0), ("quality", 0.5, 3)]
        assert len(server.prompts) == 72
        # And a recipe of checks alone has no second pool.
        plain, pools = make_recipe(changes | {"scoring.quality": CHECK}), Pools()
        score(plain, run, shards, pools)
        assert pools.units == [("score", 1.0, 0)]


def test_a_judge_that_was_away_leaves_the_step_open_and_is_asked_again(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    busy = 3

    def plan(call: Call) -> Reply | None:
        return failure(503) if call.method == "POST" and call.number < busy else graded(call)

    with FaultServer(plan) as server:
        recipe = make_recipe({"student.name": random_llama, "scoring.quality": judge(server)})
        run = carry_out(recipe, until="collect")
        shards = shards_of(run, "parallel")
        with pytest.raises(StepError, match="same command asks for these again"):
            score(recipe, run, shards, Pools())
        num_kept = sum(
            len(ids_of_shard(run.quality(teacher, part), shard))
            for part in parts_of(recipe.scoring)
            for teacher in recipe.teachers
            for shard in shards
        )
        assert 0 < num_kept < 36
        num_asked = len(server.prompts)
        assert score(recipe, run, shards, Pools()).nulls == 0
        assert len(server.prompts) - num_asked == 36 - num_kept


def num_graded(recipe: Recipe, run: RunLayout) -> int:
    folders = [run.quality(teacher, parts_of(recipe.scoring)[0]) for teacher in recipe.teachers]
    return sum(folder.num_rows(shard) for folder in folders for shard in folder.names())


def letters_of(recipe: Recipe, run: RunLayout) -> DeadLetters:
    return dead_letters(response_settings(recipe), parts_of(recipe.scoring), run)


def dear(call: Call) -> Reply | None:
    """Every grade is 4, after long thought."""
    message = {"role": "assistant", "content": "Score: 4"}
    return answer(call, message=message, usage=(7, 600)) if call.method == "POST" else None


def test_a_judge_whose_budget_is_used_up_leaves_rows_unknown_and_goes_on_with_a_larger_one(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    with FaultServer(dear) as server:

        def budgeted(tokens: int) -> Recipe:
            quality = judge(server) | {"budget": {"tokens": tokens}}
            return make_recipe({"student.name": random_llama, "scoring.quality": quality})

        little, enough = budgeted(8_000), budgeted(80_000)
        run = carry_out(little, until="collect")
        shards = shards_of(run, "parallel")
        with pytest.raises(StepError, match="not reach for a single grade: raise its `budget`"):
            score(budgeted(1), run, shards, Pools())
        assert (server.prompts, num_graded(little, run)) == ([], 0)

        counts, num_first = score(little, run, shards, Pools()), num_graded(little, run)
        assert 0 < num_first < 36
        assert counts.over_budget == counts.nulls == 36 - num_first
        parts = parts_of(little.scoring)
        paid = spending(little.teachers, parts, run.ledger, counts.over_budget)
        assert paid is not None
        assert paid["num_ungraded"] == 36 - num_first
        account = paid["accounts"]["judges/quality"]
        assert account == {
            "tokens": 607 * num_first,
            "dollars": None,
            "open_tokens": 0,
            "budget_tokens": 8_000,
            "budget_dollars": None,
        }
        assert spending_text(account) == f"{607 * num_first:,} tokens of 8,000"
        rewards = [row for shard in shards for row in rewards_of(little, shard).to_pylist()]
        quality = [value for row in rewards for value in row["quality"]]
        assert sum(value is not None for value in quality) == num_first

        leave_record(little, "score", counts)
        letters = letters_of(little, run)
        assert letters["by_reason"] == {"over_budget": 36 - num_first}
        assert "budget of the judge (part 'quality'" in letters["examples"][0]["detail"]

        content = gather(little, run, {})  # no table is missed beside them
        assert "tables.quality.a" not in content["problems"]
        assert content["spending"] == paid

        score(little, run, shards, Pools())  # another process has no budget of its own
        assert num_graded(little, run) == num_first
        assert len(server.prompts) == num_first
        assert score(enough, run, shards, Pools()).over_budget == 0
        assert (num_graded(enough, run), len(server.prompts)) == (36, 36)
        assert letters_of(enough, run)["num"] == 0


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"tokens": 0}, "greater than or equal to 1"),
        ({"dollars": 1.0}, "budget.dollars needs price"),
        ({"dollars": float("inf")}, "finite"),
    ],
)
def test_a_judges_budget_that_cannot_hold_is_refused_when_the_recipe_is_read(
    make_recipe: Make, budget: dict[str, Any], why: str
) -> None:
    address = {"kind": "openai", "model": "tiny", "base_url": "http://127.0.0.1:9/v1"}
    quality = {"kind": "judge", "engine": address, "budget": budget}
    with pytest.raises(ConfigError, match=why):
        make_recipe({"scoring.quality": quality})


def test_a_judge_on_this_machine_has_no_budget(make_recipe: Make) -> None:
    quality = {"kind": "judge", "engine": {"kind": "transformers", "model": {"name": "x"}}}
    with pytest.raises(ConfigError, match="budget is kept by engine openai alone"):
        make_recipe({"scoring.quality": quality | {"budget": {"tokens": 9}}})


def test_a_judge_that_cannot_work_is_refused_before_the_student_is_loaded(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    with FaultServer(graded, key="another") as server:
        keyless = judge(server)
        recipe = make_recipe({"student.name": random_llama, "scoring.quality": keyless})
        run = carry_out(recipe, until="collect")
        pools = Pools()
        with pytest.raises(ConfigError, match="refuses requests without a key"):
            score(recipe, run, shards_of(run, "parallel"), pools)
        assert pools.units == []
