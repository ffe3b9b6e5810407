"""Do plain statistics of a prompt's text, beside its task, route better than the task alone?

Twelve numbers a text: its length in characters, words and lines, shares of digits, capitals and
other marks, how many numbers and operators it has, the longest of them, variety and length of its
words. Ridge on these with task labels as inputs, and stacked with the table by task.

Axes: P prompts, M teachers.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from real_tables import table_of

from persyn_ray.method.arrays import Booleans, Floats
from persyn_ray.method.predictors.choose import LabelledRewards
from real_parts.judging import summary
from real_parts.mixing import Base, labels, over_splits, own_bases, ridge

MIXES = {
    "per_task": ("per_task",),
    "statistics": ("statistics",),
    "stacked": ("per_task", "statistics"),
}
PAIRS = (("stacked", "constant"), ("stacked", "per_task"), ("statistics", "per_task"))
NUM_FIT = {"mmlu_pro": 2500, "reasoning_gym": 2200}
MOST_CHARACTERS = 6000


def part_statistics(is_quick: bool) -> dict[str, Any]:
    """The two large tables."""
    found: dict[str, Any] = {}
    for name, num_fit in NUM_FIT.items():
        table = table_of(name, False)
        read_PD = statistics(table.prompts)

        def bases(
            known: LabelledRewards,
            asked: LabelledRewards,
            fit_P: Booleans,
            read_PD: Floats = read_PD,
        ) -> dict[str, Base]:
            both = [
                np.hstack([read_PD[rows], of])
                for rows, of in zip((fit_P, ~fit_P), labels(known, asked), strict=True)
            ]
            base = ridge(*both, known.rewards_NM, known.folds())
            return own_bases(known, asked) | {"statistics": base}

        num_splits = 2 if is_quick else 10
        values, weights = over_splits(table, table.scores_PM, num_fit, num_splits, bases, MIXES)
        found[name] = summary(values, PAIRS) | {"num_fit": num_fit, "mean_weights": weights}
    return {"tables": found}


def statistics(prompts: Sequence[str]) -> Floats:
    """Statistics of texts, shape (P, 12)."""
    return np.array([_of_text(prompt[:MOST_CHARACTERS]) for prompt in prompts])


def _of_text(text: str) -> list[float]:
    words, numbers = text.split(), re.findall(r"\d+", text)
    num = max(1, len(text))
    marks = sum(not one.isalnum() and not one.isspace() for one in text)
    lengths = [len(word) for word in words]
    counts = [
        len(text),
        len(words),
        text.count("\n"),
        len(numbers),
        max(map(len, numbers), default=0),
        len(re.findall(r"[+*/=^-]", text)),
        max(lengths, default=0),
    ]
    return [
        *np.log1p(counts).tolist(),
        sum(one.isdigit() for one in text) / num,
        sum(one.isupper() for one in text) / num,
        marks / num,
        len(set(words)) / max(1, len(words)),
        sum(lengths) / max(1, len(words)),
    ]
