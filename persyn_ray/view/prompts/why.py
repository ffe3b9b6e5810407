"""Why a prompt went to its teacher: what the router said and limits allowed in, sentences out.

Axes: M teachers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from persyn_ray.view.prompts.filters import UNSURE_MARGIN


@dataclass(frozen=True, eq=False)
class Choice:
    """What decided on one prompt."""

    names: tuple[str, ...]
    split: str
    teacher: str | None
    """PerSyn's assignment."""
    margin: float | None
    logits_M: NDArray[np.float64] | None
    """None before step route."""
    candidates_M: NDArray[np.bool_] | None
    within: str | None
    """The teacher within the limits of `assignment`; None where there are none."""
    limits: tuple[str, ...]
    """Settings that limit the assignment."""
    endings: dict[str, str]
    """How each teacher's response ended, where there is one."""
    is_novel: bool | None


def why(choice: Choice) -> str:
    """One to three sentences."""
    if choice.logits_M is None or choice.candidates_M is None:
        if choice.split == "heldout":
            return (
                "Held out for evaluation: it is the student that answers it. With compare.heldout "
                "all teachers answer it too, and the router says whom it would take."
            )
        return "Not routed yet: step route has not come to this prompt."
    if not choice.candidates_M.any():
        return "No teacher can take this prompt: it does not fit into any context."
    said = [_assigned(choice)]
    if choice.is_novel:
        said.append("It is unlike every prompt of the parallel set, so the router is guessing.")
    return " ".join(said)


def _assigned(choice: Choice) -> str:
    assert choice.logits_M is not None
    order = _ranked(choice)
    top, first = order[0], choice.names[order[0]]
    if choice.teacher is None:
        if choice.split == "heldout":
            return f"Held out for evaluation, so it goes to nobody; the router would take {first}."
        return f"The router prefers {first}; no assignment is written yet."
    if choice.teacher == first:
        return _first_choice(choice, order)
    gap = choice.logits_M[top] - choice.logits_M[choice.names.index(choice.teacher)]
    if gap == 0:
        return (
            f"The router finds {choice.teacher} and {first} equally good; a seeded draw decided "
            f"for {choice.teacher}."
        )
    behind = f"The router prefers {first} by {gap:.2f} logits"
    if choice.within == choice.teacher:
        limits = f" ({', '.join(choice.limits)})" if choice.limits else ""
        return f"{behind}, but the limits of `assignment`{limits} gave it to {choice.teacher}."
    ended = choice.endings.get(first)
    if ended in ("length", "loop"):
        what = "was cut" if ended == "length" else "went round in circles"
        return f"{behind}, but its response {what}, so {choice.teacher} was asked next."
    return f"{behind}, but it gave no complete response, so {choice.teacher} was asked next."


def _first_choice(choice: Choice, order: list[int]) -> str:
    assert choice.logits_M is not None
    if len(order) == 1:
        return f"{choice.teacher} is the only teacher that can take this prompt."
    second = choice.names[order[1]]
    gap = float(choice.logits_M[order[0]] - choice.logits_M[order[1]])
    beats = 1 / (1 + np.exp(-gap))
    if gap == 0:
        return (
            f"The router finds {choice.teacher} and {second} equally good; a seeded draw decided "
            f"for {choice.teacher}."
        )
    close = " That is a close call." if gap < UNSURE_MARGIN else ""
    return (
        f"The router expects the student to learn most from {choice.teacher}: it beats {second}, "
        f"the next best, with a probability of {beats:.0%} ({gap:.2f} logits ahead).{close}"
    )


def _ranked(choice: Choice) -> list[int]:
    """Candidates from the greatest logit down; the assigned one first among equals."""
    assert choice.logits_M is not None
    assert choice.candidates_M is not None
    able = np.flatnonzero(choice.candidates_M)
    key = [(-choice.logits_M[m], choice.names[m] != choice.teacher) for m in able]
    return [int(able[place]) for place in sorted(range(len(able)), key=key.__getitem__)]
