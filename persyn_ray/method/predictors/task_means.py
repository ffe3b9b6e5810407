"""Best teacher per task: rewards with task labels in, a table of scores, one row a task, out.

    score[k, m] = teacher[m] + b / (b + w / n[k, m]) * mean interaction of teacher m on task k

Empirical Bayes: b is the variance of interactions between tasks and w that within them, both from
the parallel set, so that a task with few prompts, or a world in which tasks do not matter, falls
back on the overall best teacher. Prompts of an unknown task, or without a label, get that too.

Axes: N prompts of the parallel set, P prompts, M teachers, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.effects import Effects, effects_of, task_variance


@dataclass(frozen=True, eq=False)
class TaskMeans:
    """A table of scores by task."""

    tasks: tuple[str, ...]
    teacher_M: Floats
    """Score of a prompt of no known task; NaN for a teacher without a known reward."""
    interaction_KM: Floats
    """Added to it on a task, shrunk."""


def task_means(rewards_NM: ArrayLike, tasks: Sequence[str | None]) -> TaskMeans:
    """The table of a parallel set.

    Raises:
        DataError: labels do not fit the rewards, or as in `effects_of`.
    """
    effects = effects_of(rewards_NM)
    if len(tasks) != len(effects.interaction_NM):
        raise DataError(f"{len(tasks)} task labels for {len(effects.interaction_NM)} prompts.")
    return shrunken(effects, tasks)


def shrunken(effects: Effects, tasks: Sequence[str | None]) -> TaskMeans:
    """The table of rewards whose effects are known."""
    found = task_variance(effects.interaction_NM, tasks)
    noise_KM = found.within / np.maximum(found.counts_KM, 1)
    total_KM = found.between + noise_KM
    weight_KM = np.divide(found.between, total_KM, out=np.zeros_like(total_KM), where=total_KM > 0)
    return TaskMeans(found.tasks, effects.teacher_M, weight_KM * found.means_KM)


def task_scores(table: TaskMeans, tasks: Sequence[str | None]) -> Floats:
    """Expected rewards up to a term of the prompt, shape (P, M)."""
    return table.teacher_M + task_interactions(table, tasks)


def task_interactions(table: TaskMeans, tasks: Sequence[str | None]) -> Floats:
    """What the tasks of prompts add to the scores of teachers, shape (P, M); 0 if unknown."""
    places = {task: place for place, task in enumerate(table.tasks)}
    padded_KM = np.vstack([table.interaction_KM, np.zeros_like(table.teacher_M)])
    unknown = len(table.tasks)
    rows_P = [unknown if task is None else places.get(task, unknown) for task in tasks]
    return padded_KM[np.array(rows_P, dtype=np.int64)]
