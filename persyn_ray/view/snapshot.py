"""What a run says of itself right now: its folder in, recipe, records and who is at work out."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from persyn_ray.errors import PersynError
from persyn_ray.pipeline.results.explain import open_run
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.results import PromptsResult, result_of
from persyn_ray.storage.run_lock import WATCH_SECONDS, Holder, last_holder

SILENT_SECONDS = 12 * WATCH_SECONDS
"""A holder on another machine that has left no sign for so long is taken for dead."""
State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment."""

    recipe: Recipe
    run: RunLayout
    prompts: PromptsResult | None
    """None before step prompts is done."""
    records: dict[str, Record]
    """Of the finished steps."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Steps whose record cannot be read, and why."""
    begun: frozenset[str] = frozenset()
    """Steps that have begun and are not finished."""
    holder: Holder | None = None
    """Of the last attempt at the run."""

    @property
    def state(self) -> State:
        """How it stands with the run as a whole."""
        if self.holder is not None and _is_at_work(self.holder):
            return "running"
        if STEPS[-1].name in self.records and not self.begun:
            return "finished"
        is_killed = self.holder is not None and self.holder.ended is None and bool(self.begun)
        return "failed" if self.unreadable or is_killed or self.error else "stopped"

    @property
    def error(self) -> str | None:
        """What ended the last attempt, where it was an error."""
        return None if self.holder is None else self.holder.error

    def stamp(self, *steps: str) -> str:
        """Another text whenever one of these steps has been done anew."""
        found = [self.records.get(step) for step in steps]
        return ";".join("" if one is None else f"{one.fingerprint}{one.finished}" for one in found)


def take_snapshot(address: str) -> Snapshot:
    """Read recipe, records and the last attempt of a run.

    Raises:
        PersynError: there is no run, or its recipe cannot be read.
    """
    recipe, run = open_run(address)
    records: dict[str, Record] = {}
    unreadable: dict[str, str] = {}
    present = set(run.records.names())
    prompts = None
    for name in (step.name for step in STEPS if f"{step.name}.json" in present):
        try:
            record = read_record(run.records, name)
            if record is not None and name == "prompts":
                prompts = result_of(record, PromptsResult)
        except PersynError as error:
            unreadable[name] = str(error)
            continue
        if record is not None:
            records[name] = record
    marks = (step.name for step in STEPS if f"{step.name}.begun" in present)
    begun = frozenset(name for name in marks if _is_begun(run, name) and name not in records)
    return Snapshot(recipe, run, prompts, records, unreadable, begun, _last_holder(run))


def _is_begun(run: RunLayout, step: str) -> bool:
    try:
        return bool(run.records.read_text(f"{step}.begun"))  # an empty mark: it is outdated
    except FileNotFoundError:
        return False


def _last_holder(run: RunLayout) -> Holder | None:
    with suppress(PersynError):
        return last_holder(run.attempts)


def _is_at_work(holder: Holder) -> bool:
    """Whether it lives: seen from here, or by the sign that it leaves in its file."""
    if holder.is_alive is not None:
        return holder.is_alive
    sign = seconds_since(holder.seen or holder.started)
    return sign is not None and sign < SILENT_SECONDS


def seconds_since(moment: str) -> float | None:
    """Seconds since a moment of the run's files (ISO 8601); None if it is none."""
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (datetime.now(UTC) - then).total_seconds() if then.tzinfo else None
