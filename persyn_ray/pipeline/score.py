"""Step score: computes missing quality and learnability in actor pools.

A check needs no GPU and goes along with the student; reward models and judges have actors of their
own (`resources.quality`), which hold all of them. Only shards with something open are units, so
that another quality loads no student and scores nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from persyn_ray.errors import StepError
from persyn_ray.pipeline.choices import has_own_pool, streams
from persyn_ray.pipeline.collect import check_teachers
from persyn_ray.pipeline.plan.model_sizes import known_parameters
from persyn_ray.pipeline.template_readers import reading_identity
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.engines import TransformersEngineConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.scoring import (
    JudgeConfig,
    QualityPartConfig,
    RewardModelConfig,
    ScoringConfig,
    SeveralConfig,
    needs_reference,
)
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import ids_of_shard
from persyn_ray.shards.score import Score, checks_and_models
from persyn_ray.shards.units import Progress, Unit, Work, batches_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of, quality_identity
from persyn_ray.storage.records import Settings
from persyn_ray.storage.results import ScoreResult

if TYPE_CHECKING:
    from persyn_ray.runtime.actor_pools.follow_up import FollowUp

FEW_PROMPTS = 64
"""Prompts of a batch while responses still come: the last one delays the step."""
SMALL_PARAMETERS = 250_000_000
"""Of all models together that may share one process: 1 GiB as float32."""
PROMPTS_AT_ONCE = 256
"""Prompts whose responses are scored together: those of one prompt share its prefix."""
JUDGED_AT_ONCE = 4
"""Such batches that a judge which streams works on: it stays full while one ends with its longest
reply. A batch holds the responses of all teachers, and so more than an engine works on at once."""


class OnPool(Protocol):
    """Carries out units on a pool of actors, each of which gets `in_flight` of them at once."""

    def __call__(
        self,
        build: Callable[[], Work],
        units: Sequence[Unit],
        resources: StepResourcesConfig,
        step: str,
        in_flight: int = 1,
    ) -> Progress: ...


def score(recipe: Recipe, run: RunLayout, shards: Sequence[str], on_pool: OnPool) -> ScoreResult:
    """Find what is open of both signals for some shards, and compute it.

    Raises:
        ConfigError: a judge cannot work.
        StepError: a pool failed, a judge could not be reached, or its budget allows no grade.
    """
    checks, models = checks_and_models(recipe.scoring)
    found = Score(recipe, learnability=False, parts=models)
    open_models = _open(found, shards) if models else []
    if open_models:
        _check_judges(models, recipe.pool)
    scored = Score(recipe, parts=checks)
    open_checks = _open(scored, shards)
    build = partial(Score, recipe, learnability=True, parts=checks)
    done = on_pool(build, open_checks, recipe.resources.score, "score")
    num_nulls, num_over_budget, tokens = done.errors, None, done.tokens
    first = None if recipe.measures_learnability else parts_of(recipe.scoring)[0]
    num_scored = _num_scored(recipe.teachers, first, run, shards)
    if models:
        build = partial(Score, recipe, learnability=False, parts=models)
        at_once = _batches_at_once(models)
        done = on_pool(build, open_models, recipe.resources.quality, "quality", at_once)
        num_nulls, num_over_budget = num_nulls + done.errors, done.over_budget
        if done.unavailable:
            raise StepError(
                f"{done.unavailable} responses have no grade: their judge could not be reached. "
                "The others are kept; the same command asks for these again."
            )
        if done.over_budget:
            _require_grades(recipe.teachers, run, models)
    return ScoreResult(rows=num_scored, tokens=tokens, nulls=num_nulls, over_budget=num_over_budget)


def is_one_check(scoring: ScoringConfig) -> bool:
    """Whether a response's quality is the verdict of one check, and no model's."""
    checks, models = checks_and_models(scoring)
    return len(checks) == 1 and not models


def check_routed(recipe: Recipe, run: RunLayout, shards: Sequence[str], on_pool: OnPool) -> None:
    """Check the routed responses, which step score has not seen, by the recipe's first check."""
    checks, _ = checks_and_models(recipe.scoring)
    build = partial(Score, recipe, learnability=False, parts=checks[:1])
    on_pool(build, _open(build(), shards), recipe.resources.score, "synthesize")


def tables(
    run: RunLayout, teachers: Sequence[TeacherConfig], scoring: ScoringConfig
) -> list[Folder]:
    """The folders of all signals of all teachers' responses."""
    measured = [run.learnability(teacher) for teacher in teachers]
    return measured + [run.quality(t, part) for part in parts_of(scoring) for t in teachers]


def follow_up(recipe: Recipe, shards: Sequence[str]) -> "FollowUp | None":
    """What this step can do while responses still come: learnability and checks, on actors of
    `resources.score`. None where the recipe has neither."""
    from persyn_ray.runtime.actor_pools.follow_up import FollowUp
    from persyn_ray.runtime.placement import place_of

    checks, _ = checks_and_models(recipe.scoring)
    if not checks and not recipe.measures_learnability:
        return None
    build, resources = partial(Score, recipe, parts=checks), recipe.resources.score
    find = partial(_open, build(), shards, FEW_PROMPTS)
    wanted, collecting = place_of(resources, resources.most), recipe.resources.collect
    is_as_wide = collecting.most * collecting.cpus >= resources.most * resources.cpus
    is_small = is_as_wide and not resources.gpus and _is_small(recipe.student, recipe.teachers)
    return FollowUp("score", build, find, wanted, is_small)


def _is_small(student: StudentConfig, teachers: Sequence[TeacherConfig]) -> bool:
    """Whether the student and teachers that share actors are models small enough for one process.

    Where those have no models (recorded responses) nothing is won by it.
    """
    shared = [teacher.engine for teacher in teachers if not has_own_pool(teacher)]
    models = [one.model for one in shared if isinstance(one, TransformersEngineConfig)]
    sizes = [known_parameters(model) for model in (student.model, *models)]
    known = [size for size in sizes if size is not None]
    return bool(models) and len(known) == len(sizes) and sum(known) < SMALL_PARAMETERS


def _open(work: Score, shards: Sequence[str], prompts: int = PROMPTS_AT_ONCE) -> list[Unit]:
    """Batches of the prompts with a response that lacks a signal."""
    return list(batches_of({shard: work.open_rows(shard) for shard in shards}, prompts))


def _batches_at_once(models: Sequence[QualityPartConfig]) -> int:
    """Batches that an actor works on at once: several where a judge's engine streams."""
    judges = [part.quality for part in models if isinstance(part.quality, JudgeConfig)]
    return JUDGED_AT_ONCE if any(streams(judge.as_teacher()) for judge in judges) else 1


def quality_settings(scoring: ScoringConfig) -> Settings:
    """The recipe's qualities as far as they shape what is stored: without names and weights."""
    if not isinstance(scoring.quality, SeveralConfig):
        return quality_identity(scoring.quality)
    parts = [{"quality": quality_identity(part.quality)} for part in parts_of(scoring)]
    return {"kind": "several", "parts": parts}


def reading_settings(scoring: ScoringConfig) -> Settings:
    """Which qualities read references or prompts, and with what; under the recipe's keys.

    They decide which prompts there are: what they cannot read is none.
    """
    reads: list[Settings] = []
    for part in parts_of(scoring):
        how = part.quality
        settings: Settings = {"kind": how.kind if needs_reference(how) else None}
        if isinstance(how, RewardModelConfig):
            settings["model"] = reading_identity(how.model)
        reads.append({"quality": settings})
    if not isinstance(scoring.quality, SeveralConfig):
        return reads[0]
    # Their order means nothing.
    return {"quality": {"parts": sorted(reads, key=str)}}


def weight_settings(scoring: ScoringConfig) -> Settings:
    """The weights of several qualities, under the recipe's keys; in the order of their parts."""
    if not isinstance(scoring.quality, SeveralConfig):
        return {}
    return {"quality": {"parts": [{"weight": part.weight} for part in parts_of(scoring)]}}


def _check_judges(models: Sequence[QualityPartConfig], pool: TeacherPool) -> None:
    """Refuse judges that cannot work before this step loads anything."""
    judges = [part.quality.as_teacher() for part in models if isinstance(part.quality, JudgeConfig)]
    check_teachers(judges, pool)


def _require_grades(
    teachers: Sequence[TeacherConfig], run: RunLayout, models: Sequence[QualityPartConfig]
) -> None:
    """Refuse to go on where a judge's budget was used up before its first grade."""
    for part in models:
        folders = [run.quality(teacher, part) for teacher in teachers]
        if isinstance(part.quality, JudgeConfig) and not any(folder.names() for folder in folders):
            raise StepError(
                f"The budget of the judge of scoring.quality (part {part.name!r}) does not reach "
                "for a single grade: raise its `budget`. The same command goes on."
            )


def _num_scored(
    teachers: Sequence[TeacherConfig],
    quality: QualityPartConfig | None,
    run: RunLayout,
    shards: Sequence[str],
) -> int:
    """Responses that have been scored by a quality, or by the student where it is None."""
    folders = [
        run.learnability(teacher) if quality is None else run.quality(teacher, quality)
        for teacher in teachers
    ]
    return sum(len(set(ids_of_shard(folder, shard))) for folder in folders for shard in shards)
