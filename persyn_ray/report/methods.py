"""Methods as people read of them: their names and order, and sentences on differences from them.

A difference counts as higher or lower only when its 95 % interval excludes zero; otherwise the
sentence says "no clear difference".
"""

from collections.abc import Mapping
from typing import Any

from persyn_ray.recipe.comparison import SELECTING
from persyn_ray.report.estimate import Bounded, verdict
from persyn_ray.report.numbers import interval, signed

LABELS = {
    "before": "before fine-tuning",
    "random": "random teacher",
    "mix": "mix of strong and weak",
    "strong": "strong teacher",
    "family_strong": "strong teacher of its family",
    "car": "CAR",
    "best_constant": "best constant teacher",
    "task_constant": "best teacher per task",
    "knn": "k-NN on embeddings",
    "linear_probe": "linear probe",
    "stacked": "stacked predictor",
    "persyn": "PerSyn",
    "hedged": "PerSyn, hedged",
    "learnability_only": "best by learnability alone",
    "quality_only": "best by quality alone",
    "oracle": "oracle",
}
IN_PROSE = {
    "before": "no fine-tuning",
    "random": "a random teacher per prompt",
    "mix": "a mix of strong and weak",
    "car": "CAR's teacher",
    "knn": "k-NN on embeddings",
    "linear_probe": "a linear probe",
    "stacked": "a stacked predictor",
    "hedged": "hedging",
    "learnability_only": "selection by learnability alone",
    "quality_only": "selection by quality alone",
}
SIMPLER = (
    "random",
    "mix",
    "strong",
    "family_strong",
    "car",
    "best_constant",
    "task_constant",
    "knn",
    "linear_probe",
    "stacked",
)
"""Assignments without a fitted router."""


def ordered(methods: Any) -> list[str]:
    """Method names in the order in which every table and figure shows them."""
    known = [name for name in LABELS if name in methods]
    return known + sorted(set(methods) - set(LABELS))


def label(method: str) -> str:
    """How a method is called in prose."""
    return LABELS.get(method, method)


def selects(method: str) -> bool:
    """Whether a method chooses among responses, so that all teachers must have answered."""
    return method in SELECTING


def comparison_sentences(subject: str, differences: Mapping[str, Bounded]) -> list[str]:
    """One sentence each for what is higher, not clearly different, and lower."""
    phrases = (
        ("higher", "is higher than with"),
        ("unclear", "shows no clear difference from"),
        ("lower", "is lower than with"),
    )
    sentences: list[str] = []
    for outcome, phrase in phrases:
        found = [name for name in ordered(differences) if verdict(differences[name]) == outcome]
        listed = [f"{_in_prose(name)} {_difference(differences[name])}" for name in found]
        if listed:
            sentences.append(f"{subject} {phrase} {_joined(listed)}.")
    return sentences


def _joined(parts: list[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _in_prose(method: str) -> str:
    return IN_PROSE.get(method, f"the {label(method)}")


def _difference(value: Bounded) -> str:
    bounds = interval(value)
    shown = bounds if value.get("low") is not None else "no interval"
    return f"({signed(value['value'])}; {shown})"
