"""Step score: checks go along with the student, models apart; only what is open is asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from persyn_ray.config import Recipe, StepResources
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.layout import Run, parts_of
from persyn_ray.pipeline.scoring import score
from persyn_ray.stages.tables import shards_of
from persyn_ray.stages.units import Progress, Unit, Work

from ..engines.fault_server import Call, FaultServer, Reply, answer, failure

Make = Callable[..., Recipe]
CarryOut = Callable[..., Run]
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

    def __call__(
        self, build: Callable[[], Work], units: Sequence[Unit], part: StepResources, step: str
    ) -> Progress:
        self.units.append((step, part.cpus, len(units)))
        total = Progress()
        if units:
            work = build()
            for unit in units:
                total += work(unit)
        return total


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
        assert (counts["rows"], counts["nulls"]) == (36, 0)
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
            run.quality(recipe, teacher, part).num_rows(shard)
            for part in parts_of(recipe)
            for teacher in recipe.teachers
            for shard in shards
            if run.quality(recipe, teacher, part).exists(shard)
        )
        assert 0 < num_kept < 36
        num_asked = len(server.prompts)
        assert score(recipe, run, shards, Pools())["nulls"] == 0
        assert len(server.prompts) - num_asked == 36 - num_kept


def test_a_judge_that_cannot_work_is_refused_before_the_student_is_loaded(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    with FaultServer(graded) as server:
        unknown = judge(server, model="nobody")
        recipe = make_recipe({"student.name": random_llama, "scoring.quality": unknown})
        run = carry_out(recipe, until="collect")
        pools = Pools()
        with pytest.raises(ConfigError, match="nobody"):
            score(recipe, run, shards_of(run, "parallel"), pools)
        assert pools.units == []
