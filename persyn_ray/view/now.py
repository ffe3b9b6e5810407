"""How far a run is: records, forecasts, costs and growing tables in, steps and teachers out."""

import threading
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from persyn_ray.errors import DamagedError
from persyn_ray.pipeline.choices import collected_splits, open_splits
from persyn_ray.pipeline.plan.forecasts.known import read_forecast
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.shards.part_files import parts_in
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of
from persyn_ray.storage.records import utc_now
from persyn_ray.view.costs import Costs, costs_of, sum_of_known
from persyn_ray.view.index import CUT, FAILURE, LOOP, SPLITS, Index
from persyn_ray.view.overview import router_of
from persyn_ray.view.snapshot import Snapshot, seconds_since
from persyn_ray.view.trouble import Trouble, state_of, trouble_of

ASKING = ("collect", "synthesize")


class StepNow(TypedDict):
    """One step; null where it is not known."""

    name: str
    state: str
    rows: int | None
    total_rows: int | None
    seconds: float | None
    eta_seconds: float | None
    tokens_per_second: float | None
    cost: float | None
    planned_cost: float | None
    note: str | None
    """What it has come to, where its rows do not tell."""


class TeacherNow(TypedDict):
    """One teacher."""

    name: str
    answered: int | None
    cut: int | None
    failed: int | None
    at_work: int | None
    tokens: int | None
    cost: float | None
    planned_cost: float | None
    budget: float | None


class Now(TypedDict):
    """The run at this moment."""

    updated: str
    state: str
    trouble: Trouble | None
    steps: list[StepNow]
    cost: float | None
    planned_cost: float | None
    budget: float | None
    teachers: list[TeacherNow]


@dataclass(frozen=True)
class Counted:
    """How far a step is that is at work."""

    rows: int
    total: int
    tokens: int | None = None


class RowCounts:
    """Rows of tables of part files, from their footers; each part is looked at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], int] = {}

    def of(self, folder: Folder) -> int:
        """All rows of a table; parts that cannot be read count nothing."""
        total = 0
        for part in parts_in(folder):
            key = (folder.address, part.name)
            if key not in self._rows:
                try:
                    rows = folder.num_rows(part.name)
                except (DamagedError, FileNotFoundError):
                    continue
                with self._lock:
                    self._rows[key] = rows
            total += self._rows[key]
        return total


def now_of(seen: Snapshot, index: Index | None, counts: RowCounts) -> Now:
    """Everything that view Now shows."""
    forecasts = {step: read_forecast(seen.run, step).get("teachers", {}) for step in ASKING}
    costs = costs_of(seen, index)
    teachers = [
        _teacher(seen, index, m, forecasts, costs) for m in range(len(seen.recipe.teachers))
    ]
    return Now(
        updated=_updated(seen),
        state=seen.state,
        trouble=trouble_of(seen),
        steps=[_step(seen, index, counts, step.name, forecasts, costs) for step in STEPS],
        cost=costs.total,
        planned_cost=sum_of_known(one["planned_cost"] for one in teachers),
        budget=sum_of_known(one["budget"] for one in teachers),
        teachers=teachers,
    )


def _updated(seen: Snapshot) -> str:
    """Now while the run is at work, else when it was last written."""
    last = max((record.finished for record in seen.records.values()), default="")
    return last if seen.state != "running" and last else utc_now()


def _teacher(
    seen: Snapshot, index: Index | None, m: int, forecasts: dict[str, Any], costs: Costs
) -> TeacherNow:
    teacher = seen.recipe.teachers[m]
    of = [made[teacher.name] for made in forecasts.values() if teacher.name in made]
    found = TeacherNow(
        name=teacher.name,
        answered=None,
        cut=None,
        failed=None,
        at_work=None,
        tokens=None,
        cost=costs.teachers.get(teacher.name),
        planned_cost=sum_of_known(one.get("dollars") for one in of),
        budget=teacher.budget.dollars if teacher.budget is not None else None,
    )
    if index is None or not index.has_responses:
        return found
    ending_P = index.ending_PM[:, m]
    found["answered"] = int(((ending_P > 0) & (ending_P != FAILURE)).sum())
    found["cut"] = int(((ending_P == CUT) | (ending_P == LOOP)).sum())
    found["failed"] = int((ending_P == FAILURE).sum())
    found["tokens"] = int(index.tokens_PM[:, m].sum(dtype=np.int64))
    found["at_work"] = _open_rows(seen, index, m)
    return found


def _open_rows(seen: Snapshot, index: Index, m: int) -> int:
    """Prompts that the step at work still asks a teacher for."""
    if seen.state != "running":
        return 0
    for step in ASKING:
        if step in seen.begun:
            asked_P = _asked_P(seen, index, step, m)
            return int((asked_P & (index.ending_PM[:, m] == 0)).sum())
    return 0


def _asked_P(seen: Snapshot, index: Index, step: str, m: int) -> Any:
    """Which prompts a step asks a teacher for; with a probe, as many as it has."""
    compare, teacher = seen.recipe.compare, seen.recipe.teachers[m]
    splits = collected_splits(compare) if step == "collect" else open_splits(compare)
    is_read_P = np.arange(len(index.split_P)) < index.num_read
    in_split_P = is_read_P & np.isin(index.split_P, [SPLITS.index(split) for split in splits])
    if step == "synthesize":
        return in_split_P & (index.teacher_P == m)
    if teacher.retired:
        return np.zeros_like(in_split_P)
    if teacher.num_probe is not None:  # which ones is decided by a draw; how many is known
        answered_P = in_split_P & (index.ending_PM[:, m] > 0)
        left = max(0, teacher.num_probe - int(answered_P.sum()))
        others = np.flatnonzero(in_split_P & ~answered_P)[:left]
        answered_P[others] = True
        return answered_P
    return in_split_P


def _step(
    seen: Snapshot,
    index: Index | None,
    counts: RowCounts,
    name: str,
    forecasts: dict[str, Any],
    costs: Costs,
) -> StepNow:
    record = seen.records.get(name)
    planned = [one.get("dollars") for one in forecasts.get(name, {}).values()]
    found = StepNow(
        name=name,
        state=state_of(seen, name),
        rows=None,
        total_rows=None,
        seconds=None,
        eta_seconds=None,
        tokens_per_second=None,
        cost=costs.steps.get(name),
        planned_cost=sum_of_known(planned),
        note=_note(seen, name),
    )
    if record is not None:
        rows, tokens = record.result.get("rows"), record.result.get("tokens")
        found["seconds"] = record.seconds
        found["rows"] = found["total_rows"] = rows if isinstance(rows, int) else None
        if isinstance(tokens, int) and tokens and record.seconds:
            found["tokens_per_second"] = tokens / record.seconds
    elif name in seen.begun:
        _add_progress(seen, index, counts, found, forecasts)
    return found


def _note(seen: Snapshot, step: str) -> str | None:
    """The router that is used, and whether it was chosen or named."""
    router = router_of(seen) if step == "router" else None
    if router is None:
        return None
    return router["label"] + (", chosen by router.kind: auto" if router["why"] else "")


def _add_progress(
    seen: Snapshot, index: Index | None, counts: RowCounts, found: StepNow, forecasts: Any
) -> None:
    """Rows, speed and time left of a step that is at work."""
    name = found["name"]
    counted = _counted(seen, index, counts, name)
    if counted is None:
        return
    found["rows"], found["total_rows"] = counted.rows, counted.total
    if seen.state != "running":
        return
    seconds = _seconds_at_work(seen)
    found["seconds"] = seconds
    planned = sum(one.get("prompts") or 0 for one in forecasts.get(name, {}).values())
    before = max(0, counted.total - round(planned)) if planned else 0
    new = counted.rows - before  # rows of this attempt
    if seconds and new > 0:
        found["eta_seconds"] = seconds / new * (counted.total - counted.rows)
        if counted.tokens is not None and counted.rows:
            found["tokens_per_second"] = counted.tokens * new / counted.rows / seconds


def _seconds_at_work(seen: Snapshot) -> float | None:
    """Since the attempt began, or since its last step was done."""
    moments = [record.finished for record in seen.records.values()]
    moments += [seen.holder.started] if seen.holder is not None else []
    known = [one for one in map(seconds_since, moments) if one is not None and one >= 0]
    return min(known) if known else None


def _counted(seen: Snapshot, index: Index | None, counts: RowCounts, name: str) -> Counted | None:
    if index is None or not index.has_responses:
        return None
    if name in ASKING:
        asked_PM = np.stack(
            [_asked_P(seen, index, name, m) for m in range(len(index.names))], axis=1
        )
        there_PM = asked_PM & (index.ending_PM > 0)
        tokens = int(index.tokens_PM[there_PM].sum(dtype=np.int64))
        return Counted(int(there_PM.sum()), int(asked_PM.sum()), tokens)
    if name == "score":
        return _scored(seen, index, counts)
    return None


def _scored(seen: Snapshot, index: Index, counts: RowCounts) -> Counted:
    """Responses that have all their scores, by the rows of the tables."""
    recipe, run = seen.recipe, seen.run
    splits = [SPLITS.index(split) for split in collected_splits(recipe.compare)]
    total = int((index.ending_PM[np.isin(index.split_P, splits)] > 0).sum())
    rows = []
    if recipe.measures_learnability:
        rows.append(sum(counts.of(run.learnability(teacher)) for teacher in recipe.teachers))
    for part in parts_of(recipe.scoring):
        rows.append(sum(counts.of(run.quality(teacher, part)) for teacher in recipe.teachers))
    return Counted(min(total, *rows), total)
