"""Predicts interactions of prompts and teachers: features of prompts in, an array (P, M) out.

    TaskTable    a row of a shrunken table by the prompt's task (task_means.py); 0 for any other
    Neighbours   mean interaction of the k nearest parallel prompts
    LinearMap    a ridge regression on embedding and task

Each is fitted (fit.py) and from then on plain arrays, which can be saved (saved.py). What nothing
is known of is 0: the teacher's effect alone.

Axes: N prompts of the parallel set, P prompts, M teachers, D embedding, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.task_means import TaskMeans, task_interactions
from persyn_ray.method.probes import LinearProbe, knn_scores, probe_scores


@dataclass(frozen=True, eq=False)
class TaskTable:
    """By the task of a prompt."""

    table: TaskMeans

    def __call__(self, asked: PromptFeatures) -> Floats:
        return task_interactions(self.table, asked.tasks)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """By the parallel prompts that are nearest in cosine."""

    embeddings_ND: Floats
    interaction_NM: Floats
    k: int

    def __call__(self, asked: PromptFeatures) -> Floats:
        known_ND = self.embeddings_ND
        return _known(knn_scores(embeddings_of(asked), known_ND, self.interaction_NM, self.k))


@dataclass(frozen=True, eq=False)
class LinearMap:
    """By a linear map of embedding and task."""

    tasks: tuple[str, ...]
    probe: LinearProbe

    def __call__(self, asked: PromptFeatures) -> Floats:
        return _known(probe_scores(self.probe, linear_inputs(asked, self.tasks)))


Part = TaskTable | Neighbours | LinearMap


def linear_inputs(features: PromptFeatures, tasks: Sequence[str]) -> Floats:
    """Embeddings with a column for each task, shape (P, D + K)."""
    columns_PK = np.array([[task == name for name in tasks] for task in features.tasks])
    columns_PK = columns_PK.reshape(len(features.tasks), len(tasks)).astype(np.float64)
    return np.hstack([embeddings_of(features), columns_PK])


def embeddings_of(features: PromptFeatures) -> Floats:
    """Embeddings (P, D) of prompts.

    Raises:
        DataError: they have none.
    """
    if features.embeddings_PD is None:
        raise DataError("This predictor reads embeddings, and these prompts have none.")
    return np.asarray(features.embeddings_PD, dtype=np.float64)


def _known(values_PM: Floats) -> Floats:
    """An interaction that nothing is known of is none."""
    return np.where(np.isnan(values_PM), 0.0, values_PM)
