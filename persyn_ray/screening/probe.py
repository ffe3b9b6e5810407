"""Reads a probe: a parallel table or a run's rewards in, rewards by prompt and teacher out.

A table has a row for each response: prompt, teacher and score, and where it has them a task and the
learnability of the response under the student. With learnability the reward is that of Eq. 2;
without it the score alone.

Axes: N prompts of the probe, M teachers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.data.cells import label_of
from persyn_ray.data.conversations import prompt_key
from persyn_ray.data.files.rows import BadRow, Row, expand, rows_with
from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.choose import LabelledRewards
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.rewards import Scaling, combine
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.shards.tables import load_embeddings, load_rewards, shards_of
from persyn_ray.storage.layout import RunLayout


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns."""

    prompt: str = "prompt"
    teacher: str = "teacher"
    score: str = "score"
    task: str = "task"
    learnability: str = "learnability"


@dataclass(frozen=True)
class Weighing:
    """How the signals of a table become one reward (Eq. 2)."""

    alpha: float = 0.4
    scaling: Scaling = "minmax"


@dataclass(frozen=True, eq=False)
class Probe:
    """What is screened."""

    data: LabelledRewards
    signals: Mapping[str, Floats]
    """Score and learnability (N, M), as far as there are any."""
    texts: tuple[str, ...]
    """The prompts, for an encoder; empty where they are not needed."""
    notes: tuple[str, ...]
    """What was left out of the table, in words."""


def probe_of_table(paths: Sequence[str], columns: Columns, weighing: Weighing, seed: int) -> Probe:
    """The probe in a table.

    Raises:
        ConfigError: a file is not there, or a needed column is missing.
        DataError: no row has a prompt, a teacher and a score; or a prompt has two tasks.
    """
    files = expand(paths, "TABLE")
    needed = (columns.prompt, columns.teacher, columns.score)
    also = (columns.task, columns.learnability)
    found = _Cells(columns)
    for _, _, row in rows_with(files, needed, "--prompt, --teacher or --score", also):
        found.add(row)
    if not found.texts:
        raise DataError(
            f"No row of {', '.join(files)} has a prompt, a teacher and a score "
            f"({found.num_unread} rows were read)."
        )
    return found.probe(weighing, seed)


def probe_of_run(run: RunLayout, pool: TeacherPool, seed: int) -> Probe:
    """The parallel set of a run that has rewards.

    Raises:
        DataError: step score has left no rewards.
    """
    shards = shards_of(run, "parallel")
    if not shards or not all(run.rewards.exists(shard) for shard in shards):
        raise DataError(
            "The run has no rewards yet: carry it out up to step score (--until score)."
        )
    rewards = load_rewards(run, shards, len(pool))
    tasks = {
        row["prompt_id"]: row["task"]
        for shard in shards
        for row in run.prompts.read_table(shard, ["prompt_id", "task"]).to_pylist()
    }
    features = PromptFeatures(
        tuple(tasks[prompt_id] for prompt_id in rewards.prompt_ids), load_embeddings(run, shards)
    )
    data = LabelledRewards(rewards.prompt_ids, pool.names, features, rewards.rewards_PM, seed)
    signals = {"quality": rewards.quality_PM, "learnability": rewards.learnability_PM}
    return Probe(data, signals, (), ())


class _Cells:
    """Collects the cells of a table by prompt and teacher."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.texts: dict[str, str] = {}
        self.tasks: dict[str, str | None] = {}
        self.values: dict[tuple[str, str], tuple[float, float]] = {}
        self.num_unread = self.num_repeated = 0

    def add(self, row: Row | BadRow) -> None:
        """Take up a row; the first of a prompt and teacher counts."""
        names = self.columns
        if isinstance(row, BadRow):
            self.num_unread += 1
            return
        key, teacher = prompt_key(row.get(names.prompt)), label_of(row.get(names.teacher))
        score = _number(row.get(names.score))
        if key is None or teacher is None or np.isnan(score):
            self.num_unread += 1
            return
        if (key, teacher) in self.values:
            self.num_repeated += 1
            return
        self.texts.setdefault(key, str(row[names.prompt]))
        self.tasks[key] = self.tasks.get(key) or label_of(row.get(names.task))
        self.values[key, teacher] = score, _number(row.get(names.learnability))

    def probe(self, weighing: Weighing, seed: int) -> Probe:
        """The probe, with prompts and teachers in an order of their own."""
        keys = sorted(self.texts)
        teachers = tuple(sorted({teacher for _, teacher in self.values}))
        rows = {key: place for place, key in enumerate(keys)}
        columns = {name: place for place, name in enumerate(teachers)}
        found = np.full((2, len(keys), len(teachers)), np.nan)
        for (key, teacher), pair in self.values.items():
            found[:, rows[key], columns[teacher]] = pair
        scores_NM, learnability_NM = found
        signals, rewards_NM = {"score": scores_NM}, scores_NM
        if not np.isnan(learnability_NM).all():
            signals["learnability"] = learnability_NM
            rewards_NM = combine(scores_NM, learnability_NM, weighing.alpha, weighing.scaling)
        features = PromptFeatures(tuple(self.tasks[key] for key in keys))
        data = LabelledRewards(tuple(keys), teachers, features, rewards_NM, seed)
        return Probe(data, signals, tuple(self.texts[key] for key in keys), self._notes(data))

    def _notes(self, data: LabelledRewards) -> tuple[str, ...]:
        missing = int(np.isnan(data.rewards_NM).sum())
        told = (
            (self.num_unread, "rows without a prompt, a teacher or a score were left out"),
            (self.num_repeated, "rows repeat a prompt and teacher; the first of each counts"),
            (missing, "rewards are unknown"),
        )
        return tuple(f"{num:,} {what}." for num, what in told if num)


def _number(cell: object) -> float:
    """A cell as a number; NaN where it is none."""
    if isinstance(cell, bool | int | float):
        return float(cell) if np.isfinite(cell) else float("nan")
    try:
        number = float(str(cell))
    except ValueError:
        return float("nan")
    return number if np.isfinite(number) else float("nan")
