"""The status of a run: its recipe and folder in; steps, spending and who is at work out."""

from collections.abc import Sequence
from typing import TypedDict

from persyn_ray.pipeline.results.costs import spending
from persyn_ray.pipeline.results.explain import state
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.sections.tokens import AccountSpending
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.results import result_of
from persyn_ray.storage.run_lock import holder_of, last_holder


class StepStatus(TypedDict):
    """How far one step is; what is not known is None."""

    state: str
    """done, to do, begun, not finished, or outdated (it was done, and what it read has changed)."""
    finished: str | None
    rows: int | None
    seconds: float | None


class Status(TypedDict):
    """How far a run is."""

    steps: dict[str, StepStatus]
    spending: dict[str, AccountSpending]
    """By account, such as teachers/NAME."""
    at_work: str | None
    error: str | None
    """What ended the last attempt, where it was an error."""


def status_of(teachers: Sequence[TeacherConfig], scoring: ScoringConfig, run: RunLayout) -> Status:
    """Look at a run, which may be under way."""
    steps: dict[str, StepStatus] = {}
    kinds = {step.name: step.result for step in STEPS}
    for name, record in state(run):
        if record is None:
            how_far = _unfinished(run.records, name)
            steps[name] = {"state": how_far, "finished": None, "rows": None, "seconds": None}
            continue
        steps[name] = {
            "state": "done",
            "finished": record.finished,
            "rows": result_of(record, kinds[name]).rows,
            "seconds": record.seconds,
        }
    paid = spending(teachers, parts_of(scoring), run.ledger, None)
    last, holder = last_holder(run.attempts), holder_of(run.attempts)
    return {
        "steps": steps,
        "spending": paid["accounts"] if paid else {},
        "at_work": None if holder is None else str(holder),
        "error": None if last is None else last.error,
    }


def _unfinished(records: Folder, step: str) -> str:
    """How far a step without a record is."""
    if not records.exists(f"{step}.begun"):
        return "to do"
    # An empty mark: it was done, and what it read has changed since.
    return "begun, not finished" if records.read_text(f"{step}.begun") else "outdated"
