"""Progress while long steps run: rows, tokens per second, time left; a line at times in logs."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from persyn_ray.escaping import plain
from persyn_ray.shards.units import Progress as Done
from persyn_ray.storage.folder import Folder

SECONDS_BETWEEN_LINES = 30.0  # in logs nobody watches


def follow(done: Iterable[Done], step: str, num_units: int, console: Console) -> Done:
    """Show the progress of a step's units and return the total of what they did."""
    total, started, last_line = Done(), time.monotonic(), time.monotonic()
    columns = (
        TextColumn("  [cyan]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards  {task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(step, total=num_units, facts="")
        for number, unit in enumerate(done, start=1):
            total += unit
            bar.update(task, completed=number, facts=_facts(total, started))
            if not console.is_terminal and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                left = (last_line - started) / number * (num_units - number)
                console.print(
                    f"  {step}: {number}/{num_units} shards, {_facts(total, started)}, "
                    f"{left:.0f} s left"
                )
    return total


@contextmanager
def watch_training(records: Folder, name: str, console: Console) -> Iterator[None]:
    """Show, while a training runs elsewhere, what it leaves in the records under `name`."""
    done = threading.Event()

    def look() -> None:
        shown = ""
        every = 2.0 if console.is_terminal else SECONDS_BETWEEN_LINES
        with console.status("  training starts") if console.is_terminal else nullcontext() as line:
            while not done.wait(every):
                if not records.exists(name):
                    continue
                at = records.read_json(name)
                text = f"  {at['what']}: step {at['step']}/{at['steps']}, loss {at['loss']:.3f}"
                if line is not None:
                    line.update(plain(text))
                elif text != shown:
                    console.print(plain(text))
                shown = text

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _facts(total: Done, started: float) -> str:
    seconds = max(time.monotonic() - started, 1e-9)
    facts = f"{total.rows:,} rows"
    if total.tokens:
        facts += f", {total.tokens / seconds:,.0f} tokens/s"
    if total.errors:
        facts += f", {total.errors:,} nulls"
    return facts
