"""Warns of evaluations that cut what students are taught to write: settings in, sentences out."""

from collections.abc import Iterator, Sequence

from persyn_ray.recipe.engines import RecordedEngineConfig, ScriptedEngineConfig
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig, FinetuneConfig
from persyn_ray.shards.score import check_of


def cut_answers(
    teachers: Sequence[TeacherConfig],
    finetune: FinetuneConfig,
    evaluate: EvaluateConfig,
    scoring: ScoringConfig,
) -> Iterator[str]:
    """An evaluation that cuts answers of a length that the student is taught to write."""
    longest = max(map(_most_tokens, teachers))
    taught = min(longest, finetune.max_length)
    if evaluate.max_tokens < taught and check_of(evaluate, scoring) is not None:
        yield (
            f"Students may learn from responses of up to {taught:,} tokens and are evaluated with "
            f"at most {evaluate.max_tokens:,}: longer answers are cut, and count as wrong. Set "
            f"evaluate.max_tokens to {taught}, or allow only shorter responses (teachers.N."
            "sampling, finetune.max_length)."
        )


def _most_tokens(teacher: TeacherConfig) -> int:
    """Most tokens of a response; 0 where the recipe does not say so, or nobody writes it."""
    if teacher.retired or isinstance(teacher.engine, RecordedEngineConfig | ScriptedEngineConfig):
        return 0
    return teacher.sampling.retry_tokens or teacher.sampling.max_tokens
