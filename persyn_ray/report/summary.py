"""Headline rows and summary sentences of a report, from its content.

A difference counts as higher or lower only when its 95 % interval excludes zero; otherwise the
sentence says "no clear difference". Where no paired difference of students was measured, it is
bounded by the two separate intervals, which only makes it wider. Nothing else is computed here: the
numbers are the pipeline's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from persyn_ray.recipe.comparison import SELECTING
from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import Report
from persyn_ray.report.forecast import forecast_sentences
from persyn_ray.report.limits import limit_sentences
from persyn_ray.report.numbers import compact, count, estimate, interval, number, percent, signed
from persyn_ray.report.problems import Problems
from persyn_ray.report.router_sentences import router_sentences

LABELS = {
    "before": "before fine-tuning",
    "random": "random teacher",
    "mix": "mix of strong and weak",
    "strong": "strong teacher",
    "family_strong": "strong teacher of its family",
    "car": "CAR",
    "best_constant": "best constant teacher",
    "knn": "k-NN on embeddings",
    "linear_probe": "linear probe",
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
    "hedged": "hedging",
    "learnability_only": "selection by learnability alone",
    "quality_only": "selection by quality alone",
}
LOST = (
    ("truncated", "responses were cut by the token limit"),
    ("looped", "went round in circles"),
    ("without_response", "are absent"),
    ("without_teacher", "had no teacher left"),
)
SIMPLER = (
    "random",
    "mix",
    "strong",
    "family_strong",
    "car",
    "best_constant",
    "knn",
    "linear_probe",
)
"""Assignments without a fitted router."""
Verdict = Literal["higher", "lower", "unclear", "unmeasured"]


@dataclass(frozen=True)
class Row:
    """One line of the table of results; an unmeasured entry is None."""

    method: str
    label: str
    correct_share: float | None
    reward: Mapping[str, Any] | None
    accuracy: Mapping[str, Any] | None
    difference: Mapping[str, Any] | None
    """Student accuracy, PerSyn minus this method."""


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


def verdict(difference: Mapping[str, Any] | None) -> Verdict:
    """What a difference with its interval allows one to claim."""
    if difference is None or difference.get("value") is None:
        return "unmeasured"
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or low <= 0 <= high:
        return "unclear"
    return "higher" if low > 0 else "lower"


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
            difference=student_difference(content, method),
        )
        for method in ordered({**tuned, **routed})
    ]


def student_difference(content: Report, method: str) -> Mapping[str, Any] | None:
    """Student accuracy of PerSyn minus a method: paired, or bounded by separate intervals."""
    student = content["student"]
    if student is None or method == "persyn" or "persyn" not in student["methods"]:
        return None
    if student["differences"]:
        return student["differences"].get(method)
    other = student["before"] if method == "before" else student["methods"].get(method)
    return _bounded_difference(student["methods"]["persyn"], other)


def _bounded_difference(first: Any, second: Any) -> Mapping[str, Any] | None:
    if second is None or first["value"] is None or second["value"] is None:
        return None
    bounds = (first["low"], first["high"], second["low"], second["high"])
    known = None not in bounds
    return {
        "value": first["value"] - second["value"],
        "low": bounds[0] - bounds[3] if known else None,
        "high": bounds[1] - bounds[2] if known else None,
    }


def paragraph(
    content: Report, problems: Problems | None = None, with_concerns: bool = True
) -> list[str]:
    """The sentences of "In one paragraph"; a section without data adds none.

    Args:
        with_concerns: begin with `concerns`, where they are not shown apart.
    """
    problems = problems or Problems(content["problems"])
    parts = {
        "concerns": concerns if with_concerns else lambda _: [],
        "allocation": _allocation,
        "limits": limit_sentences,
        "router": _router,
        "claims": router_sentences,
        "student": _student,
        "examples": _examples,
        "tokens": _tokens,
        "forecast": forecast_sentences,
        "dead_letters": _dead_letters,
    }
    sentences = [
        sentence
        for name, function in parts.items()
        for sentence in problems.attempt(f"page.summary.{name}", partial(function, content), [])
    ]
    return (sentences or ["Nothing was measured in this run."]) + _missing(problems)


def _missing(problems: Problems) -> list[str]:
    """That parts of the report are missing; each says why in its place."""
    num = len(problems.reasons)
    if not num:
        return []
    return [
        f"{count(num)} part{'s' if num > 1 else ''} of this report could not be made, see there."
    ]


def _allocation(content: Report) -> list[str]:
    allocation, prompts = content["allocation"], content["prompts"]
    shares = (allocation or {"methods": {}})["methods"].get("persyn", {})
    known = sorted(((share, name) for name, share in shares.items() if share), reverse=True)
    if not known:
        return []
    routed = prompts["num_routed"] if prompts else None
    what = f"{count(routed)} prompts" if routed is not None else "the prompts"
    leading = ", ".join(f"{name} {percent(share)}" for share, name in known[:3])
    more = f" and {len(known) - 3} more" if len(known) > 3 else ""
    return [f"PerSyn spread {what} over {len(known)} of {len(shares)} teachers: {leading}{more}."]


def _router(content: Report) -> list[str]:
    router = content["router"]
    if router is None:
        return []
    sentences: list[str] = []
    hit = router["hit_at_1"]
    if hit and hit["value"] is not None:
        chance = router["chance_at_1"]
        drawn = "" if chance is None else f"; a teacher drawn at random, with {number(chance)}"
        of = (
            f"{count(router['num_heldout'])} held-out prompts"
            if router["num_heldout"]
            else "held-out prompts"
        )
        sentences.append(
            f"On {of} the router finds a best teacher with Hit@1 {estimate(hit)}{drawn}."
        )
    others = {name: value for name, value in router["differences"].items() if name != "persyn"}
    return sentences + _comparison("Its mean routed reward", others)


def _student(content: Report) -> list[str]:
    student = content["student"]
    if student is None or "persyn" not in student["methods"]:
        return []
    tuned = student["methods"]["persyn"]
    if tuned["value"] is None:
        return []
    problems = f" on {count(student['num_problems'])} problems" if student["num_problems"] else ""
    metric = student["metric"] or "accuracy"
    sentences = [
        f"Tuned on PerSyn's data, the student reaches {metric} {estimate(tuned)}{problems}."
    ]
    names = ["before", *student["methods"]]
    others = {name: student_difference(content, name) for name in ordered(names)}
    measured = {name: value for name, value in others.items() if value is not None}
    simpler = [name for name in SIMPLER if verdict(others.get(name)) == "lower"]
    sentences += _comparison(f"This {metric}", measured)
    if simpler:
        sentences.append(
            "The run speaks against PerSyn here: a simpler assignment gave a better student."
        )
    return sentences


def _comparison(subject: str, differences: Mapping[str, Mapping[str, Any]]) -> list[str]:
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


def _difference(value: Mapping[str, Any]) -> str:
    bounds = interval(value)
    shown = bounds if value.get("low") is not None else "no interval"
    return f"({signed(value['value'])}; {shown})"


def _tokens(content: Report) -> list[str]:
    tokens = content["tokens"]
    if tokens is None or tokens["saving_fraction"] is None:
        return []
    saving = tokens["saving_fraction"]
    spent, other = compact(tokens["route_then_generate"]), compact(tokens["generate_then_select"])
    how = "an estimated " if tokens["estimated"] else ""
    outcome = f"{percent(abs(saving))} {'fewer' if saving >= 0 else 'more'}"
    if saving == 0:
        outcome = "no saving"
    unit = tokens["unit"] or "teacher tokens"
    spending = f"Route-then-generate took {spent} {unit} against {how}{other}"
    return [f"{spending} of generate-then-select: {outcome}."]


def _examples(content: Report) -> list[str]:
    """What PerSyn's data lost, kept although cut, or had from another teacher."""
    counts = (content["examples"] or {"methods": {}})["methods"].get("persyn")
    if counts is None or counts["kept"] is None:
        return []
    lost = [f"{count(counts[key])} {phrase}" for key, phrase in LOST if counts[key]]
    sentences: list[str] = []
    if lost:
        left_out = ", ".join(lost)
        sentences.append(f"{count(counts['kept'])} prompts became examples; {left_out}.")
    if counts["kept_truncated"]:
        cut = count(counts["kept_truncated"])
        sentences.append(f"{cut} of the {count(counts['kept'])} examples were cut and kept so.")
    if counts["reassigned"]:
        sentences.append(
            f"{count(counts['reassigned'])} prompts went to a next-best teacher, as the responses "
            "before were not complete."
        )
    return sentences


def _dead_letters(content: Report) -> list[str]:
    letters = content["dead_letters"]
    if letters is None or not letters["num"]:
        return []
    reasons = ", ".join(f"{reason} {count(num)}" for reason, num in letters["by_reason"].items())
    return [f"Dead letters: {count(letters['num'])}{f' ({reasons})' if reasons else ''}."]
