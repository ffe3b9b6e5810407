"""How many networks step router is forecast to fit."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.pipeline.plan.as_json import plan_json
from persyn_ray.pipeline.plan.forecasts.router import RouterForecast, forecast_router, told
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.router import CANDIDATES, RouterConfig


def config(**settings: Any) -> RouterConfig:
    given = {"backbone": {"name": "org/backbone"}, "heldout_fraction": 0.2, "epochs": 3}
    return RouterConfig.model_validate(given | settings)


ALL = [*CANDIDATES, "fine_tuned"]


@pytest.mark.parametrize(
    ("settings", "heads", "backbones", "prompts"),
    [
        ({}, 0, 1, 3 * 800),
        # 800 are fitted on, so that a curve to 900 has no point of its own there.
        ({"learning_curve": [200, 900]}, 0, 2, 3 * (200 + 800)),
        ({"freeze_backbone": True, "learning_curve": [200]}, 2, 0, 0),
        ({"extend": "runs/other/router"}, 1, 0, 0),
        ({"kind": "knn"}, 0, 0, 0),
        ({"kind": "auto"}, 6, 0, 0),
        # Five folds of four fifths, and the router on all of them.
        ({"kind": "auto", "candidates": ALL}, 5, 6, 3 * (5 * 640 + 800)),
        ({"kind": "auto", "candidates": ["knn", "fine_tuned"]}, 0, 6, 3 * (5 * 640 + 800)),
        ({"kind": "auto", "candidates": ["knn", "linear"]}, 0, 0, 0),
    ],
)
def test_fits_are_counted(
    settings: dict[str, Any], heads: int, backbones: int, prompts: int
) -> None:
    found = forecast_router(config(**settings), 1000)
    assert (found.heads, found.backbones) == (heads, backbones)
    assert found.prompts == pytest.approx(prompts)


def test_auto_compares_no_networks_on_few_prompts() -> None:
    found = forecast_router(config(kind="auto", candidates=ALL), 20)
    assert found == RouterForecast(0, 0, 0)
    assert told(found) is None


def test_the_plan_tells_the_fits_as_a_note_and_as_json(
    make_recipe: Callable[..., Recipe],
) -> None:
    plan = plan_run(make_recipe({"router.heldout_fraction": 0.25, "router.epochs": 2}))
    # Of the 12 parallel prompts 9 are fitted on.
    assert plan.router == RouterForecast(heads=0, backbones=1, prompts=18)
    assert any("fits, at most, 1 backbone (learning from 18 prompts" in n for n in plan.notes)
    assert plan_json(plan)["router"] == {"heads": 0, "backbones": 1, "prompts": 18}


def test_heads_and_backbones_are_told_apart() -> None:
    assert told(RouterForecast(5, 6, 12_000)) == (
        "Step router fits, at most, 6 backbones (learning from 12,000 prompts, all epochs "
        "counted) and 5 heads on prompts that are embedded once."
    )
