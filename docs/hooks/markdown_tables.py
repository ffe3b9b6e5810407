"""What tables of results share: a result's name in, its figures out; rows in, Markdown out."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

Rows = list[tuple[str, ...]]

METHODS = {
    "before": "before fine-tuning",
    "random": "random teacher per prompt",
    "strong": "strong teacher",
    "mix": "mix, strong : weak 1 : 4",
    "best_constant": "best constant teacher",
    "family_strong": "strongest of the student's family",
    "car": "CAR, β = 1",
    "quality_only": "selected by quality alone †",
    "learnability_only": "selected by learnability alone †",
    "task_constant": "best teacher of each task",
    "linear_probe": "linear probe on frozen embeddings",
    "knn": "k-NN on frozen embeddings",
    "stacked": "stacked predictor on frozen embeddings",
    "persyn": "**PerSyn**",
    "oracle": "oracle †",
}
"""What the tables call ways to choose a teacher for each prompt."""


def result(name: str) -> Any:
    """One committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def interval(of: dict[str, Any], digits: int = 2, sign: str = "", key: str = "mean") -> str:
    """A figure with its 95 % interval."""
    form = f"{sign}.{digits}f"
    low, high = format(of["low"], form), format(of["high"], form)
    return f"{of[key]:{form}} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")


def p_value(difference: dict[str, Any] | None, after_holm: float | None) -> str:
    """A difference's p-value, by preference that after Holm's correction, which is marked."""
    if after_holm is not None:
        return f"{after_holm:.3f} ‡"
    if difference is None:
        return "–"
    p = difference["p_value"]
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def compared_students(of: dict[str, Any]) -> dict[str, tuple[str, str, str, str]]:
    """By method: share of right data, students' accuracy, PerSyn's difference from it, p-value."""
    told: dict[str, tuple[str, str, str, str]] = {}
    for name in (one for one in METHODS if one in of["accuracy"]):
        right, difference = of["correct_share"].get(name), of["difference"].get(name)
        told[name] = (
            "–" if right is None else f"{right:.2f}",
            interval(of["accuracy"][name], 3),
            "–" if difference is None else interval(difference, 3, "+"),
            p_value(difference, of["p_after_holm"].get(name)),
        )
    return told
