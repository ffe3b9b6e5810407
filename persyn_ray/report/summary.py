"""Headline rows and summary sentences of a report, from its content.

Where no paired difference of students was measured, it is bounded by the two separate intervals,
which only makes it wider. Nothing else is computed here: the numbers are the pipeline's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import Report
from persyn_ray.report.estimate import Bounded
from persyn_ray.report.methods import label, ordered
from persyn_ray.report.numbers import count
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.allocation import allocation_sentences
from persyn_ray.report.sections.dead_letters import dead_letter_sentences
from persyn_ray.report.sections.examples import example_sentences
from persyn_ray.report.sections.forecast import forecast_sentences
from persyn_ray.report.sections.limits import limit_sentences
from persyn_ray.report.sections.router.claims import claim_sentences
from persyn_ray.report.sections.router.kind import kind_sentences
from persyn_ray.report.sections.router.ranking import ranking_sentences
from persyn_ray.report.sections.student import student_difference, student_sentences
from persyn_ray.report.sections.tokens import token_sentences
from persyn_ray.report.sections.variance import variance_sentences


@dataclass(frozen=True)
class Row:
    """One line of the table of results; an unmeasured entry is None."""

    method: str
    label: str
    correct_share: float | None
    reward: Bounded | None
    accuracy: Bounded | None
    difference: Bounded | None
    """Student accuracy, PerSyn minus this method."""


def headline(content: Report) -> list[Row]:
    """The table of results: one row a method, and the student before fine-tuning."""
    student, router = content["student"], content["router"]
    tuned: dict[str, Any] = dict(student["methods"]) if student else {}
    routed: dict[str, Any] = dict(router["references"]) if router else {}
    if student and student["before"]:
        tuned["before"] = student["before"]
    return [
        Row(
            method=method,
            label=label(method),
            correct_share=tuned.get(method, {}).get("correct_share"),
            reward=routed.get(method, {}).get("reward"),
            accuracy=tuned.get(method),
            difference=student_difference(student, method),
        )
        for method in ordered({**tuned, **routed})
    ]


def paragraph(
    content: Report, problems: Problems | None = None, with_concerns: bool = True
) -> list[str]:
    """The sentences of "In one paragraph"; a section without data adds none.

    Args:
        with_concerns: begin with `concerns`, where they are not shown apart.
    """
    problems = problems or Problems(content["problems"])
    parts = _parts(content) if with_concerns else _parts(content) | {"concerns": list}
    sentences = [
        sentence
        for name, tell in parts.items()
        for sentence in problems.attempt(f"page.summary.{name}", tell, [])
    ]
    return (sentences or ["Nothing was measured in this run."]) + _missing(problems)


def _parts(content: Report) -> dict[str, Callable[[], list[str]]]:
    """The sentences of each section, in their order; each is made by itself, as it may fail."""
    router = content["router"]
    return {
        "concerns": lambda: concerns(content),
        "variance": lambda: variance_sentences(
            content["reward"]["variance"] if content["reward"] else None
        ),
        "allocation": lambda: allocation_sentences(content["allocation"], content["prompts"]),
        "limits": lambda: limit_sentences(content["constraints"]),
        "kind": lambda: kind_sentences(router["kind"] if router else None),
        "router": lambda: ranking_sentences(router),
        "claims": lambda: (
            claim_sentences(router["calibration"], router["novelty"]) if router else []
        ),
        "student": lambda: student_sentences(content["student"]),
        "examples": lambda: example_sentences(content["examples"]),
        "tokens": lambda: token_sentences(content["tokens"]),
        "forecast": lambda: forecast_sentences(content["forecast"]),
        "dead_letters": lambda: dead_letter_sentences(content["dead_letters"]),
    }


def _missing(problems: Problems) -> list[str]:
    """That parts of the report are missing; each says why in its place."""
    num = len(problems.reasons)
    if not num:
        return []
    return [
        f"{count(num)} part{'s' if num > 1 else ''} of this report could not be made, see there."
    ]
