"""Step score: computes missing quality and learnability in actor pools.

A check needs no GPU and goes along with the student; reward models and judges have actors of their
own (`resources.quality`), which hold all of them. Only shards with something open are units, so
that another quality loads no student and scores nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from persyn_ray.errors import StepError
from persyn_ray.pipeline.collect import check_teachers
from persyn_ray.pipeline.template_readers import reading_identity
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.scoring import (
    JudgeConfig,
    QualityPartConfig,
    RewardModelConfig,
    SeveralConfig,
    needs_reference,
)
from persyn_ray.shards.units import Progress, Unit, Work, units_of
from persyn_ray.shards.work import Score, checks_and_models
from persyn_ray.storage.layout import RunLayout, parts_of, quality_identity
from persyn_ray.storage.records import Settings

OnPool = Callable[[Callable[[], Work], Sequence[Unit], StepResourcesConfig, str], Progress]


def score(recipe: Recipe, run: RunLayout, shards: Sequence[str], on_pool: OnPool) -> dict[str, Any]:
    """Find what is open of both signals for some shards; returns counts for the record.

    Raises:
        ConfigError: a judge cannot work.
        StepError: a pool failed, a judge could not be reached, or its budget allows no grade.
    """
    checks, models = checks_and_models(recipe.scoring)
    found = Score(recipe, learnability=False, parts=models)
    open_models = [shard for shard in shards if models and not found.is_complete(shard)]
    if open_models:
        _check_judges(recipe, models)
    scored = Score(recipe, parts=checks)
    open_checks = [shard for shard in shards if not scored.is_complete(shard)]
    build = partial(Score, recipe, learnability=True, parts=checks)
    done = on_pool(build, units_of(open_checks), recipe.resources.score, "score")
    counts = {
        "rows": _num_scored(recipe, run, shards),
        "tokens": done.tokens,
        "nulls": done.errors,
    }
    if models:
        build = partial(Score, recipe, learnability=False, parts=models)
        done = on_pool(build, units_of(open_models), recipe.resources.quality, "quality")
        counts |= {"nulls": counts["nulls"] + done.errors, "over_budget": done.over_budget}
        if done.unavailable:
            raise StepError(
                f"{done.unavailable} responses have no grade: their judge could not be reached. "
                "The others are kept; the same command asks for these again."
            )
        if done.over_budget:
            _require_grades(recipe, run, models)
    return counts


def quality_settings(recipe: Recipe) -> Settings:
    """The recipe's qualities as far as they shape what is stored: without names and weights."""
    if not isinstance(recipe.scoring.quality, SeveralConfig):
        return quality_identity(recipe.scoring.quality)
    parts = [{"quality": quality_identity(part.quality)} for part in parts_of(recipe.scoring)]
    return {"kind": "several", "parts": parts}


def reading_settings(recipe: Recipe) -> Settings:
    """Which qualities read references or prompts, and with what; under the recipe's keys.

    They decide which prompts there are: what they cannot read is none.
    """
    reads: list[dict[str, Any]] = []
    for part in parts_of(recipe.scoring):
        how = part.quality
        settings: Settings = {"kind": how.kind if needs_reference(how) else None}
        if isinstance(how, RewardModelConfig):
            settings["model"] = reading_identity(how.model)
        reads.append({"quality": settings})
    if not isinstance(recipe.scoring.quality, SeveralConfig):
        return reads[0]
    # Their order means nothing.
    return {"quality": {"parts": sorted(reads, key=str)}}


def weight_settings(recipe: Recipe) -> Settings:
    """The weights of several qualities, under the recipe's keys; in the order of their parts."""
    if not isinstance(recipe.scoring.quality, SeveralConfig):
        return {}
    return {"quality": {"parts": [{"weight": part.weight} for part in parts_of(recipe.scoring)]}}


def _check_judges(recipe: Recipe, models: Sequence[QualityPartConfig]) -> None:
    """Refuse judges that cannot work before this step loads anything."""
    judges = [part.quality.as_teacher() for part in models if isinstance(part.quality, JudgeConfig)]
    check_teachers(judges, recipe)


def _require_grades(recipe: Recipe, run: RunLayout, models: Sequence[QualityPartConfig]) -> None:
    """Refuse to go on where a judge's budget was used up before its first grade."""
    for part in models:
        folders = [run.quality(teacher, part) for teacher in recipe.teachers]
        if isinstance(part.quality, JudgeConfig) and not any(folder.names() for folder in folders):
            raise StepError(
                f"The budget of the judge of scoring.quality (part {part.name!r}) does not reach "
                "for a single grade: raise its `budget`. The same command goes on."
            )


def _num_scored(recipe: Recipe, run: RunLayout, shards: Sequence[str]) -> int:
    """Responses that have been scored: by the student, or else by the first quality."""
    first = parts_of(recipe.scoring)[0]
    folders = [
        run.learnability(teacher) if recipe.measures_learnability else run.quality(teacher, first)
        for teacher in recipe.teachers
    ]
    return sum(f.num_rows(shard) for f in folders for shard in shards if f.exists(shard))
