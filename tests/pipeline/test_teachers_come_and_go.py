"""Which steps are done again when a teacher retires or is only probed."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.pipeline.steps import STEP_NAMES, STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import run_of

Make = Callable[..., Recipe]


@pytest.mark.parametrize(
    ("changes", "first"), [({"retired": True}, "route"), ({"num_probe": 5}, "collect")]
)
def test_a_change_reaches_the_step_that_heeds_it(
    make_recipe: Make, changes: dict[str, Any], first: str
) -> None:
    engine = {"kind": "scripted"}
    teachers = [{"name": name, "engine": engine} for name in ("a", "b", "c")]
    recipes = [
        make_recipe({"teachers": teachers}),
        make_recipe({"teachers": [teachers[0], teachers[1] | changes, teachers[2]]}),
    ]
    before, after = (
        {planned.step.name: planned.identity for planned in planned_steps(recipe, run_of(recipe))}
        for recipe in recipes
    )
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [step.name for step in STEPS][STEP_NAMES.index(first) :]
