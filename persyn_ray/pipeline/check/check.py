"""`persyn check`: a recipe in; all that can be known before money is spent as findings out."""

from collections.abc import Iterator, Sequence
from functools import partial

from persyn_ray.pipeline.check.answer_checks import check_answers
from persyn_ray.pipeline.check.findings import Finding, judged, milder, problems
from persyn_ray.pipeline.check.machine_checks import (
    check_keys,
    check_packages,
    check_resources,
    is_on_cluster,
)
from persyn_ray.pipeline.check.model_checks import check_models
from persyn_ray.pipeline.check.plan_checks import check_plan
from persyn_ray.pipeline.check.prompt_checks import Prompts, check_prompts
from persyn_ray.pipeline.check.teacher_checks import (
    Pool,
    check_judges,
    check_teachers,
    samples_of,
)
from persyn_ray.pipeline.plan.placement import gpu_teachers
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import ResourcesConfig
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.shards.score import check_of


def check_recipe(
    recipe: Recipe, overrides: tuple[str, ...] = (), offline: bool = False
) -> Iterator[Finding]:
    """Each finding as soon as it is known; nothing is written and no model is started.

    Args:
        offline: ask no endpoint and fetch nothing. What this machine lacks is a remark then: a
            recipe is judged, and not where it will run.
    """
    prompts, pool = Prompts(), Pool(recipe.teachers, recipe.pool, recipe.responses)
    of_prompts = list(judged("prompts", partial(check_prompts, recipe, offline, prompts)))
    yield from of_prompts
    yield from judged("models", partial(check_models, recipe, offline, prompts))
    of_machine = partial(
        _machine,
        recipe.teachers,
        recipe.scoring,
        recipe.evaluate,
        recipe.run,
        recipe.resources,
    )
    for finding in judged("machine", of_machine):
        yield milder(finding) if offline or is_on_cluster() else finding
    yield from judged("teachers", partial(check_teachers, pool, offline, prompts))
    quality = check_of(recipe.evaluate, recipe.scoring)
    yield from judged("answers", partial(check_answers, pool, quality, prompts))
    yield from judged("judges", partial(check_judges, pool, recipe.scoring, offline))
    if not problems(of_prompts):  # else the plan would say the same once more
        yield from judged("plan", partial(check_plan, recipe, overrides))
    yield from judged("samples", partial(samples_of, recipe.teachers, offline, prompts))


def _machine(
    teachers: Sequence[TeacherConfig],
    scoring: ScoringConfig,
    evaluate: EvaluateConfig,
    run: str,
    resources: ResourcesConfig,
) -> Iterator[Finding]:
    yield from check_packages(teachers, scoring, evaluate)
    yield from check_keys(teachers, scoring)
    on_gpus = [teacher for teacher in gpu_teachers(teachers) if not teacher.retired]
    yield from check_resources(run, resources, on_gpus)
