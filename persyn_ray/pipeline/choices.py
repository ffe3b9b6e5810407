"""Facts derived from a recipe's sections: methods, splits, students, teachers with own pools."""

from persyn_ray.recipe.comparison import SELECTING, CompareConfig
from persyn_ray.recipe.engines import OpenAIEngineConfig, VllmEngineConfig
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig, TeacherResourcesConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.shards.score import check_of
from persyn_ray.storage.layout import BEFORE, PERSYN

ROWS_AT_ONCE = 256
"""Rows of a batch for engines that take one batch after the other."""
VLLM_SEQUENCES = 128
"""Sequences that vLLM works on at once by default (`max_num_seqs`)."""


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


def students(
    compare: CompareConfig, evaluate: EvaluateConfig, scoring: ScoringConfig
) -> tuple[str, ...]:
    """The student before fine-tuning and one per method; none when answers cannot be checked."""
    is_checked = check_of(evaluate, scoring) is not None
    return (BEFORE, *assigned_methods(compare)) if is_checked else ()


def has_own_pool(teacher: TeacherConfig) -> bool:
    """Whether a teacher is run by itself: it says so, or its engine overlaps requests."""
    return teacher.resources is not None or isinstance(
        teacher.engine, VllmEngineConfig | OpenAIEngineConfig
    )


def batch_rows(teacher: TeacherConfig) -> int:
    """Rows that go to a teacher's engine together: as many as it works on at once.

    Many such batches are in its hands (`placement.BATCHES_IN_FLIGHT`), so that it never waits for
    the longest response of one.
    """
    match teacher.engine:
        case VllmEngineConfig():
            return int(resources_of(teacher).arguments.get("max_num_seqs", VLLM_SEQUENCES))
        case OpenAIEngineConfig():
            return resources_of(teacher).max_requests
        case _:
            return ROWS_AT_ONCE


def streams(teacher: TeacherConfig) -> bool:
    """Whether a teacher's engine works on several batches at once."""
    return isinstance(teacher.engine, VllmEngineConfig | OpenAIEngineConfig)


def resources_of(teacher: TeacherConfig) -> TeacherResourcesConfig:
    """A teacher's own resources, or what its kind of engine takes by default."""
    if teacher.resources is not None:
        return teacher.resources
    if isinstance(teacher.engine, OpenAIEngineConfig):
        return TeacherResourcesConfig(gpus=0, cpus=0)
    return TeacherResourcesConfig()
