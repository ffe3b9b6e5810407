"""What a prompt is expected to cost with each teacher, in the units of the limits on assignment.

The same on every prompt: a teacher's mean stored response to the parallel set, its price, its
speed. The prompt's own length and difficulty are not looked at, nor is the loading of weights.

Axes: M teachers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.forecasts.expected_tokens import (
    Length,
    expected_length,
    mean_student_tokens,
    stored_prompt_tokens,
    stored_responses,
)
from persyn_ray.pipeline.plan.placement import Deployment, Placed, place_teachers
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.layout import RunLayout

Floats = NDArray[np.float64]
UNITS = {"max_tokens": "tokens", "max_dollars": "dollars", "max_gpu_seconds": "GPU-seconds"}
REMEDIES = {
    "max_tokens": "responses to the parallel set need token counts",
    "max_dollars": "teachers.N.price, or hardware.gpu_hour_dollars for teachers on GPUs",
    "max_gpu_seconds": "teachers.N.resources with GPUs",
}


def expected_costs(
    limits: AssignmentConfig, deployment: Deployment, run: RunLayout
) -> dict[str, Floats]:
    """What a prompt costs with each teacher by the limits that are set, and in tokens; (M,) each.

    Raises:
        ConfigError: a limit is on what no teacher is known to cost.
    """
    teachers, rate = deployment.teachers, deployment.hardware.gpu_hour_dollars
    stored, prompt_tokens = stored_responses(teachers, run), stored_prompt_tokens(run)
    lengths = {
        teacher.name: expected_length(teacher, stored[teacher.name], prompt_tokens)
        for teacher in teachers
    }
    response_M = np.array([length.response for length in lengths.values()])
    if any(teacher.engine.kind == "recorded" for teacher in teachers):
        response_M = _known_M(mean_student_tokens(run, teachers).values())
    costs = {"max_tokens": response_M}
    needs_gpus = limits.max_gpu_seconds is not None or (
        limits.max_dollars is not None and rate is not None
    )
    gpu_seconds_M = np.zeros(len(teachers))
    if needs_gpus:
        active = tuple(teacher for teacher in teachers if not teacher.retired)
        placed = place_teachers(replace(deployment, teachers=active))
        gpu_seconds_M = _gpu_seconds_M(placed, lengths)
    if limits.max_gpu_seconds is not None:
        costs["max_gpu_seconds"] = gpu_seconds_M
    if limits.max_dollars is not None:
        costs["max_dollars"] = _dollars_M(teachers, lengths, gpu_seconds_M, rate or 0.0)
    for name, cost_M in costs.items():
        if getattr(limits, name) is not None and not (cost_M > 0).any():
            raise ConfigError(
                f"assignment.{name} limits {UNITS[name]}, and of no teacher is it known what it "
                f"takes; remove it, or say so: {REMEDIES[name]}."
            )
    return costs


def _known_M(means: Iterable[float | None]) -> Floats:
    """NaN for what is not known."""
    return np.array([np.nan if mean is None else mean for mean in means])


def _gpu_seconds_M(placed: dict[str, Placed], lengths: dict[str, Length]) -> Floats:
    """GPUs held while a response is written, by the speeds of `persyn plan`; 0 without GPUs."""
    return np.array(
        [
            length.response
            * placed[name].gpus
            / placed[name].tokens_per_second(length.while_writing)
            if name in placed
            else 0.0
            for name, length in lengths.items()
        ]
    )


def _dollars_M(
    teachers: Sequence[TeacherConfig],
    lengths: dict[str, Length],
    gpu_seconds_M: Floats,
    gpu_hour_dollars: float,
) -> Floats:
    """By the price of a teacher's tokens, else by the hour of its GPUs."""
    dollars_M = gpu_seconds_M / 3600 * gpu_hour_dollars
    for m, teacher in enumerate(teachers):
        price, length = teacher.price, lengths[teacher.name]
        if price is not None:
            billed = length.prompt * price.prompt + length.response * price.response
            dollars_M[m] = billed / 1e6
    return dollars_M
