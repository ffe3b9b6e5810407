"""What forecasts of a recipe know, with a counted number of prompts."""

from persyn_ray.pipeline.plan.forecasts.known import Known, forecast_settings, gather_known
from persyn_ray.pipeline.plan.placement import deployment_of, place_teachers
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import run_of

SPLITS = {"parallel": 12, "heldout": 4, "routed": 8}


def known_of(recipe: Recipe) -> Known:
    return gather_known(
        forecast_settings(recipe),
        run_of(recipe),
        Counted(SPLITS, 20.0),
        place_teachers(deployment_of(recipe)),
        (),
    )
