"""Sentences on a comparison's results and on what its intervals cover."""

from persyn_ray.report.comparison.content import (
    ACCURACY,
    Comparison,
    TestedDifference,
    has_students,
)
from persyn_ray.report.estimate import Verdict, verdict
from persyn_ray.report.methods import label, ordered, selects
from persyn_ray.report.numbers import count

LEVEL = 0.05
FEW = 3
PHRASES: tuple[tuple[Verdict, str], ...] = (
    ("higher", "is higher than with"),
    ("unclear", "shows no clear difference from"),
    ("lower", "is lower than with"),
)


def adjusted_verdict(difference: TestedDifference | None) -> Verdict:
    """What a difference allows one to claim: by its adjusted p-value, else by its interval."""
    if difference is None or difference["value"] is None or difference["p_holm"] is None:
        return verdict(difference)
    if difference["p_holm"] >= LEVEL:
        return "unclear"
    return "higher" if difference["value"] > 0 else "lower"


def sentences(content: Comparison) -> list[str]:
    """The findings, then what they rest on."""
    why = content["why_no_students"]
    found = [*([why] if why else []), *_findings(content), *_seeds(content)]
    if has_students(content):
        found += _problems(content)
    return found + _adjustment(content) + _rewards(content) + _selecting(content)


def _findings(content: Comparison) -> list[str]:
    """One sentence each for what is higher, not clearly different, and lower."""
    subject = f"PerSyn's {content['metric'] or ACCURACY}"
    found: list[str] = []
    for outcome, phrase in PHRASES:
        names = [
            label(name)
            for name in ordered(content["methods"])
            if adjusted_verdict(content["methods"][name]["difference"]) == outcome
        ]
        if names:
            found.append(f"{subject} {phrase}: {', '.join(names)}.")
    return found


def _seeds(content: Comparison) -> list[str]:
    num = len(content["seeds"])
    units = "problems" if has_students(content) else "prompts"
    if num == 1:
        return [
            f"One seed: other seeds are not covered, and intervals are over {units} alone. With "
            "--seeds 3 or more both would be."
        ]
    few = " So few seeds can show large differences only." if num <= FEW else ""
    if not has_students(content):
        return [f"{count(num)} seeds: intervals and p-values are over one mean a seed.{few}"]
    return [
        f"{count(num)} seeds: intervals are over seeds and problems, the wider of a two-way "
        "bootstrap and a t-test over the seeds' means, and so are p-values; small dots in the "
        f"figure are seeds.{few}"
    ]


def _problems(content: Comparison) -> list[str]:
    num, seeds = count(content["num_problems"]), len(content["seeds"])
    if seeds == 1:
        return [f"The students were judged on {num} held-out problems."]
    if content["same_problems"]:
        return [f"All seeds were judged on the same {num} held-out problems."]
    return [f"Seeds were judged on held-out problems of their own, {num} in all."]


def _adjustment(content: Comparison) -> list[str]:
    names = [label(name) for name in ordered(content["adjusted_for"])]
    if not names:
        return []
    apart = " The student before fine-tuning is not one of them." if has_students(content) else ""
    return [
        f"p-values are adjusted by Holm for {count(len(names))} "
        f"comparison{'s' if len(names) > 1 else ''}: {', '.join(names)}.{apart}"
    ]


def _rewards(content: Comparison) -> list[str]:
    where = content["rewarded_on"]
    return [f"Routed reward was measured on: {where}."] if where else []


def _selecting(content: Comparison) -> list[str]:
    names = [label(name) for name in ordered(content["methods"]) if selects(name)]
    if not names:
        return []
    return [f"Selected among the responses of all teachers: {', '.join(names)}."]
