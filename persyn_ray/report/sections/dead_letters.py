"""Section dead letters: rows that could not be carried through, by reason and teacher.

In report.json:

    dead_letters  num, by_reason {}, by_teacher {},
                  examples [{step, prompt_id, teacher, reason, detail}]
"""

from typing import TypedDict

from persyn_ray.report.numbers import count

NOT_MEASURED = {
    "dead_letters": "dead letters were not counted.",
}
"""Why a part may be missing, in HTML."""


class DeadLetter(TypedDict):
    step: str | None
    prompt_id: str | None
    teacher: str | None
    reason: str | None
    detail: str | None


class DeadLetters(TypedDict):
    num: int | None
    by_reason: dict[str, int]
    by_teacher: dict[str, int]
    examples: list[DeadLetter]


def dead_letter_sentences(letters: DeadLetters | None) -> list[str]:
    """How many rows were lost, by reason."""
    if letters is None or not letters["num"]:
        return []
    reasons = ", ".join(f"{reason} {count(num)}" for reason, num in letters["by_reason"].items())
    return [f"Dead letters: {count(letters['num'])}{f' ({reasons})' if reasons else ''}."]
