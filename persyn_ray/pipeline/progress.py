"""Progress while long steps run: what units did in, one live region of a terminal out.

A line for the step, and one for each teacher that runs by itself: rows, tokens per second, what was
cut or failed, dollars, time left. Where nobody watches (logs, pipes) it is a plain line at times.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from persyn_ray.escaping import one_line, plain
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.numbers import compact, count, seconds
from persyn_ray.shards.units import Progress as Done
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import accounts

SECONDS_BETWEEN_LINES = 30.0  # in logs nobody watches
SECONDS_BETWEEN_LOOKS = 5.0  # at the ledger, which may be far away
LONGEST_NAME = 24
ASKING = ("collect", "synthesize")
"""Steps whose errors are failed responses; of others they are nulls."""


class Group(Protocol):
    """What one teacher with a pool of its own has done."""

    done: Done


@dataclass(frozen=True)
class Watched:
    """What is shown of a step beside the units that are done."""

    step: str
    num_units: int
    console: Console
    groups: Mapping[str, Group] = field(default_factory=dict)
    """Filled while the step runs, by the teacher's name."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows that each of them is asked for."""
    dollars: Callable[[], float | None] = lambda: None
    """What endpoints were paid so far; None where they have no price."""


def dollars_paid(ledger: Folder, teachers: Sequence[TeacherConfig]) -> float | None:
    """What endpoints with a price were paid, by a ledger; None where none has one."""
    names = [f"teachers/{teacher.name}" for teacher in teachers if teacher.price is not None]
    if not names:
        return None
    paid = accounts(ledger)
    return sum(paid[name].dollars for name in names if name in paid)


def follow(done: Iterable[Done], watched: Watched) -> Done:
    """Show the progress of a step's units and return the total of what they did."""
    region = _Region(watched) if watched.console.is_terminal else _Lines(watched)
    total = Done()
    with region:
        for number, unit in enumerate(done, start=1):
            total += unit
            region.show(number, total)
    return total


class _Paid:
    """Dollars since a step began, looked up at times."""

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look, self._before = look, look()
        self._last, self._found = time.monotonic(), self._before

    @property
    def text(self) -> str:
        """What this step has cost, requests under way at their most; empty without a price."""
        if self._before is None:
            return ""
        if time.monotonic() - self._last > SECONDS_BETWEEN_LOOKS:
            self._last, self._found = time.monotonic(), self._look()
        return f", ≤ ${max(0.0, (self._found or 0.0) - self._before):,.2f}"


class _Region:
    """Bars that move while somebody watches, and leave nothing behind."""

    def __init__(self, watched: Watched) -> None:
        self._watched, self._started = watched, time.monotonic()
        self._paid = _Paid(watched.dollars)
        self._bars = _bars(watched.console)
        self._task = self._bars.add_task(watched.step, total=watched.num_units, facts="batches")
        self._of: dict[str, TaskID] = {}

    def __enter__(self) -> "_Region":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, number: int, total: Done) -> None:
        """The step after one more unit, and its teachers."""
        passed = time.monotonic() - self._started
        step = self._watched.step
        facts = f"batches  {_facts(total, passed, step)}{self._paid.text}"
        self._bars.update(self._task, completed=number, facts=facts)
        for name, asked in self._watched.rows.items():
            group = self._watched.groups.get(name)
            if group is None or not group.done.rows:
                continue
            if name not in self._of:
                shown = f"  {one_line(name, LONGEST_NAME)}"
                self._of[name] = self._bars.add_task(shown, total=asked, facts="")
            facts = f"rows  {_facts(group.done, passed, step, with_rows=False)}"
            self._bars.update(self._of[name], completed=group.done.rows, facts=facts)


class _Lines:
    """A line at times, with the time left."""

    def __init__(self, watched: Watched) -> None:
        self._watched, self._started = watched, time.monotonic()
        self._paid, self._last = _Paid(watched.dollars), self._started

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, number: int, total: Done) -> None:
        """The step after one more unit, if it is time for a line."""
        now = time.monotonic()
        if now - self._last <= SECONDS_BETWEEN_LINES:
            return
        self._last, watched = now, self._watched
        passed = now - self._started
        left = passed / number * (watched.num_units - number)
        facts = _facts(total, passed, watched.step) + self._paid.text
        batches = f"{count(number)}/{count(watched.num_units)} batches"
        line = f"  {watched.step}: {batches}, {facts}, {seconds(left)} left"
        watched.console.print(plain(line), soft_wrap=True)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("  [cyan]{task.description}", markup=True),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def watch_training(records: Folder, name: str, console: Console) -> Iterator[None]:
    """Show, while a training runs elsewhere, what it leaves in the records under `name`."""
    done = threading.Event()
    show = _training_region if console.is_terminal else _training_lines
    watcher = threading.Thread(target=show, args=(records, name, console, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _training_region(records: Folder, name: str, console: Console, done: threading.Event) -> None:
    with _bars(console) as bars:
        task = bars.add_task("training starts", total=None, facts="")
        while not done.wait(2.0):
            if records.exists(name):
                at = records.read_json(name)
                what, facts = one_line(at["what"], LONGEST_NAME), f"steps  loss {at['loss']:.3f}"
                if bars.tasks[0].description != what:  # another training: its own speed
                    bars.reset(task, total=at["steps"], description=what)
                bars.update(task, total=at["steps"], completed=at["step"], facts=facts)


def _training_lines(records: Folder, name: str, console: Console, done: threading.Event) -> None:
    shown = ""
    while not done.wait(SECONDS_BETWEEN_LINES):
        if records.exists(name):
            at = records.read_json(name)
            text = f"  {at['what']}: step {at['step']}/{at['steps']}, loss {at['loss']:.3f}"
            if text != shown:
                console.print(plain(text))
            shown = text


def _facts(total: Done, passed: float, step: str, with_rows: bool = True) -> str:
    """Rows, speed and losses; what is zero is left out."""
    word = "failed" if step in ASKING else "nulls"
    parts = [f"{count(total.rows)} rows" if with_rows else ""]
    parts.append(f"{compact(total.tokens / max(passed, 1e-9))} tokens/s" if total.tokens else "")
    parts.append(f"{count(total.cut)} cut" if total.cut else "")
    parts.append(f"{count(total.errors)} {word}" if total.errors else "")
    return ", ".join(filter(None, parts))
