"""Orders the rows of an engine's queue: expected lengths and shared beginnings in, stretches out.

An engine whose last rows are long ones runs empty while it waits for them. So rows are put into a
few classes by the length that is expected of their responses, the longest first; within a class
they stay as they lie, and each file is read once for each class. Rows that begin with the same long
text are in one class and next to each other, so that an engine which keeps prefixes reads it once.
An order is no part of what is stored: rows that are open are put into order anew at every start.

Expected are lengths as the same teacher has written them before: by the task, as far as there are
enough of it, and by the length of the prompt. Axes: N rows, K tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.method.arrays import Floats, Integers

CLASSES = 4  # with eight, engines end less than 1 % sooner (benchmarks/streaming.py, part order)
LEAST_LENGTHS = 30  # from which anything is expected
SHRINKAGE = 4.0  # lengths of all tasks together that count beside those of one
MOST_SHARING = 64  # more rows with one beginning keep it in the cache wherever they stand
NONE = -1
"""In place of the number of a beginning: shared with no other row."""


@dataclass(frozen=True)
class LengthModel:
    """Expected logarithms of one teacher's response lengths."""

    of_task_K: Floats
    slope: float
    """By the logarithm of the prompt's length."""
    centre: float

    def expected(self, tasks_N: Integers, sizes_N: Floats) -> Floats:
        """Of the responses to some prompts, by their tasks and their lengths in bytes."""
        return self.of_task_K[tasks_N] + self.slope * (np.log1p(sizes_N) - self.centre)


def fit_lengths(
    tokens_N: Integers, tasks_N: Integers, sizes_N: Floats, num_tasks: int
) -> LengthModel | None:
    """The model by the responses that a teacher has written; None where they are too few.

    Args:
        tokens_N: lengths of the responses.
        tasks_N: numbers of the prompts' tasks, below `num_tasks`.
        sizes_N: lengths of the prompts, in bytes.
    """
    if len(tokens_N) < LEAST_LENGTHS:
        return None
    logs_N, prompts_N = np.log1p(tokens_N), np.log1p(sizes_N)
    counts_K = np.bincount(tasks_N, minlength=num_tasks)
    sums_K = np.bincount(tasks_N, logs_N, num_tasks)
    of_task_K = (sums_K + SHRINKAGE * logs_N.mean()) / (counts_K + SHRINKAGE)
    left_N, beside_N = logs_N - of_task_K[tasks_N], prompts_N - prompts_N.mean()
    spread = float(beside_N @ beside_N)
    slope = float(beside_N @ left_N) / spread if spread > 0 else 0.0
    return LengthModel(of_task_K, slope, float(prompts_N.mean()))


def stretches(
    rows: Mapping[str, Sequence[int]],
    expected: Mapping[str, Floats],
    beginnings: Mapping[str, Integers],
) -> Iterator[tuple[str, list[int]]]:
    """All rows once, as places within one file after the other, class by class.

    Args:
        rows: places of rows, by the name of their file.
        expected: for each of these rows, in their order, what is expected of its length.
        beginnings: for each of them the number of the text that it begins with, or NONE.
    """
    found: list[tuple[str, Integers, Floats]] = []
    for name, places in rows.items():
        if not len(places):
            continue
        places_N = np.asarray(places, np.int64)
        order_N, expected_N = _together(places_N, expected[name], beginnings[name])
        found.append((name, places_N[order_N], expected_N[order_N]))
    if not found:
        return
    limits = _limits(np.concatenate([expected_N for *_, expected_N in found]))
    for number in range(CLASSES):
        for name, places_N, expected_N in found:
            mine_N = places_N[np.searchsorted(limits, -expected_N, side="left") == number]
            if len(mine_N):
                yield name, mine_N.tolist()


def _together(
    places_N: Integers, expected_N: Floats, beginnings_N: Integers
) -> tuple[Integers, Floats]:
    """Rows of a file with those that share a beginning next to each other, in the place of the
    first of them; of all of these the longest length is expected.
    """
    _, of_N, counts = np.unique(beginnings_N, return_inverse=True, return_counts=True)
    shares_N = (beginnings_N != NONE) & (counts[of_N] <= MOST_SHARING)
    longest = np.full(len(counts), -np.inf)
    first = np.full(len(counts), np.iinfo(np.int64).max)
    np.maximum.at(longest, of_N, expected_N)
    np.minimum.at(first, of_N, places_N)
    where_N = np.where(shares_N, first[of_N], places_N)
    return np.lexsort((places_N, where_N)), np.where(shares_N, longest[of_N], expected_N)


def _limits(expected_N: Floats) -> Floats:
    """Negative lengths that are the last of each class but one; equal ones are in one class."""
    ordered_N = np.sort(-expected_N)
    ends = [len(ordered_N) * number // CLASSES for number in range(1, CLASSES)]
    return ordered_N[[max(0, end - 1) for end in ends]]
