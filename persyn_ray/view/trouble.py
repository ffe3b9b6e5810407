"""What has stopped a run: a snapshot in; the step, its error and what to do out."""

from typing import Literal, TypedDict

from persyn_ray.pipeline.steps import STEPS
from persyn_ray.view.snapshot import Snapshot

KILLED = (
    "Its process ended without a word: it was killed, or its machine stopped. Where memory ran "
    "out, the system's log says so."
)
GO_ON = (
    "The same `persyn run` goes on with this step; what is on disk is kept, and no response is "
    "asked for twice."
)
StepState = Literal["done", "running", "waiting", "stopped", "failed"]


class Trouble(TypedDict):
    """Why a run has failed."""

    step: str | None
    """None where none had begun."""
    error: str
    advice: str


def trouble_of(seen: Snapshot) -> Trouble | None:
    """The failure of a run; None where it goes on, has finished, or was stopped on purpose."""
    if seen.state != "failed":
        return None
    step = _first_open(seen)
    if step in seen.unreadable:
        return Trouble(step=step, error=seen.unreadable[step], advice=GO_ON)
    if seen.error is not None:
        advice = f"Mend what the message names. {GO_ON}" if step else "Mend what the message names."
        return Trouble(step=step, error=seen.error, advice=advice)
    return Trouble(step=step, error=KILLED, advice=GO_ON)


def state_of(seen: Snapshot, step: str) -> StepState:
    """How it stands with one step."""
    if step in seen.records:
        return "done"
    if step in seen.unreadable:
        return "failed"
    if step not in seen.begun or step != _first_open(seen):
        return "waiting"
    return "stopped" if seen.state == "finished" else seen.state


def _first_open(seen: Snapshot) -> str | None:
    """The step that is at work, or was last: the first that has begun and is not done."""
    names = (step.name for step in STEPS)
    return next((name for name in names if name in seen.unreadable or name in seen.begun), None)
