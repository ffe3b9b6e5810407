"""Facts derived from a recipe: its methods, splits, students, and teachers with own pools."""

from persyn_ray.recipe.comparison import SELECTING, CompareConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import (
    OpenAIEngineConfig,
    TeacherConfig,
    TeacherResourcesConfig,
    VllmEngineConfig,
)
from persyn_ray.shards.work import check_of
from persyn_ray.storage.layout import BEFORE, PERSYN


def assigned_methods(compare: CompareConfig) -> tuple[str, ...]:
    """PerSyn, and the baselines whose students are compared with it."""
    return (PERSYN, *(compare.methods if compare.students else ()))


def collected_splits(compare: CompareConfig) -> tuple[str, ...]:
    """Splits that every teacher answers: the parallel set, and what the references need."""
    splits = ["parallel"]
    if compare.heldout:
        splits.append("heldout")
    if set(SELECTING) & set(assigned_methods(compare)):
        splits.append("routed")
    return tuple(splits)


def open_splits(compare: CompareConfig) -> tuple[str, ...]:
    """Splits that step synthesize asks for: others hold all that any method can ask for already."""
    return tuple(s for s in ("parallel", "routed") if s not in collected_splits(compare))


def students(recipe: Recipe) -> tuple[str, ...]:
    """The student before fine-tuning and one per method; none when answers cannot be checked."""
    is_checked = check_of(recipe.evaluate, recipe.scoring) is not None
    return (BEFORE, *assigned_methods(recipe.compare)) if is_checked else ()


def has_own_pool(teacher: TeacherConfig) -> bool:
    """Whether a teacher is run by itself: it says so, or its engine overlaps requests."""
    return teacher.resources is not None or isinstance(
        teacher.engine, VllmEngineConfig | OpenAIEngineConfig
    )


def resources_of(teacher: TeacherConfig) -> TeacherResourcesConfig:
    """A teacher's own resources, or what its kind of engine takes by default."""
    if teacher.resources is not None:
        return teacher.resources
    if isinstance(teacher.engine, OpenAIEngineConfig):
        return TeacherResourcesConfig(gpus=0, cpus=0, in_flight=4)
    return TeacherResourcesConfig()
