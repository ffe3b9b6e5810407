"""Remarks on a step's line in the terminal: most of its rows unusable, and what helps; or which
kind of router was chosen, and why.
"""

from collections.abc import Callable, Sequence
from functools import partial

from persyn_ray.pipeline.results.rewards import fates_of, prompt_counts
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.concerns import NOTABLE, fate_sentences, preference_sentences
from persyn_ray.report.numbers import count, percent
from persyn_ray.report.problems import Problems
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.results import (
    CollectResult,
    MethodExamples,
    RewardsResult,
    RouterResult,
    StepResult,
    SynthesizeResult,
    TunedStudent,
)

RESPONSES = "responses to the parallel set"


def remarks(
    result: StepResult,
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    responses: ResponsesConfig,
) -> list[str]:
    """Sentences about a step that is done; none where all is well, or nothing can be told.

    Args:
        responses: what makes a response complete.
    """
    make: Callable[[], list[str]]
    match result:
        case CollectResult():
            make = partial(_collect, run, teachers, responses)
        case RewardsResult():
            make = partial(_rewards, run, teachers, responses)
        case RouterResult():
            return [] if result.why is None else [f"router.kind: auto: {result.why}."]
        case SynthesizeResult():
            make = partial(_synthesize, result.examples.get(PERSYN, MethodExamples()))
        case _:
            return []
    return Problems().attempt(result.step, make, [])


def _collect(
    run: RunLayout, teachers: Sequence[TeacherConfig], responses: ResponsesConfig
) -> list[str]:
    fates = fates_of(run, teachers, responses, None)
    if responses.incomplete == "keep":  # cut ones are as good as others
        fates = {name: {**facts, "num_truncated": 0} for name, facts in fates.items()}
    return fate_sentences(fates, RESPONSES)


def _rewards(
    run: RunLayout, teachers: Sequence[TeacherConfig], responses: ResponsesConfig
) -> list[str]:
    parallel = load_rewards(run, shards_of(run, "parallel"), len(teachers))
    unscored = {
        # Absent ones were told of by step collect.
        name: {
            "num_responses": facts["num_responses"],
            "num_absent": 0,
            "num_unscored": facts["num_unscored"],
        }
        for name, facts in fates_of(run, teachers, responses, parallel).items()
    }
    return fate_sentences(unscored, RESPONSES) + preference_sentences(
        prompt_counts(parallel.rewards_PM), "The router learns from preferences of the parallel set"
    )


def _synthesize(found: MethodExamples) -> list[str]:
    lost = {
        "were cut by their token limit": found.truncated,
        "go round in circles": found.looped,
        "have no response": found.without_response,
        "have no teacher left": found.without_teacher,
        "are wrong by the check": found.wrong,
        "overlap with problems of evaluation": found.contaminated,
    }
    num = found.kept + sum(lost.values())
    if not num or sum(lost.values()) < NOTABLE * num:
        return []
    listed = ", ".join(f"{count(of)} {phrase}" for phrase, of in lost.items() if of)
    return [
        f"Only {count(found.kept)} of {count(num)} prompts ({percent(found.kept / num)}) became "
        f"examples: {listed}. To change it: raise sampling.max_tokens, set sampling.retry_tokens, "
        "or responses.incomplete."
    ]


def left_out(method: str, tuned: TunedStudent) -> str:
    """A line on the examples that a student was not tuned on."""
    why, longest = tuned.first_unreadable, sorted(tuned.too_long_by_teacher.items())
    of_teachers = ", ".join(f"{teacher} {num:,}" for teacher, num in longest)
    return (
        f"finetune: of the examples of {method}, {tuned.num_too_long:,} were longer than "
        "finetune.max_length"
        + (f" ({of_teachers})" if of_teachers else "")
        + f" and {tuned.num_unreadable:,} unreadable for the student"
        + (f". The first: {why}" if why else "")
    )
