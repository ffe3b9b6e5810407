"""Checks the quality on real answers: what endpoints said and a reference in; the verdicts out.

A check that misreads how teachers write gives every response the same wrong quality, which one
looks for last.
"""

import re
from collections.abc import Iterator

from persyn_ray.data.response_text import judged_text
from persyn_ray.escaping import one_line
from persyn_ray.pipeline.check.findings import Finding
from persyn_ray.pipeline.check.prompt_checks import Prompts
from persyn_ray.pipeline.check.teacher_checks import Pool
from persyn_ray.recipe.scoring import EvaluateCheck, ExactAnswerConfig, ExactMatchConfig
from persyn_ray.stages.quality import way_of

LONGEST_REFERENCE = 80  # characters that are shown
MISREAD = {
    "exact_answer": (
        "Have them end with `#### ANSWER` or \\boxed{ANSWER}, by prompts.template or system_prompt."
    ),
    "exact_match": "Have them write scoring.quality.marker before it, by prompts.template.",
}


def check_answers(pool: Pool, quality: EvaluateCheck | None, prompts: Prompts) -> Iterator[Finding]:
    """How a check that compares with references judges what the endpoints have answered."""
    reference = next(iter(prompts.references), None)
    texts = {
        name: judged_text(pool.answers[name], pool.responses.think_tags)
        for name in pool.names
        if name in pool.answers
    }
    texts = {name: text for name, text in texts.items() if text}
    if not isinstance(quality, ExactAnswerConfig | ExactMatchConfig) or not reference or not texts:
        return
    rows = [{"response": text, "reference": reference} for text in texts.values()]
    graded = zip(texts, way_of(quality, pool.responses)(rows), strict=True)
    outcomes = {name: str(verdict.outcome) for name, (verdict, _) in graded}
    told = ", ".join(f"{name} {outcome.replace('_', ' ')}" for name, outcome in outcomes.items())
    detail = f"By {quality.kind}, beside {one_line(reference, LONGEST_REFERENCE)!r}: {told}."
    misread = [
        name
        for name, outcome in outcomes.items()
        if outcome != "correct" and _holds(texts[name], reference)
    ]
    if not misread:
        yield Finding("answers", "ok", detail)
        return
    names = ", ".join(misread)
    yield Finding(
        "answers",
        "remark",
        f"{detail} What {names} said holds the reference; the check does not take it for the "
        "final answer.",
        MISREAD[quality.kind],
    )


def _holds(text: str, reference: str) -> bool:
    """Whether a reference stands in a text, as words of its own."""
    return bool(re.search(rf"(?<!\w){re.escape(reference.strip())}(?!\w)", text, re.IGNORECASE))
