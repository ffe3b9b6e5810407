"""Progress while long steps run: rows, tokens per second, time left; a line at times in logs."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from persyn_ray.stages.work import Progress as Done

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
            total = Done(
                total.rows + unit.rows, total.tokens + unit.tokens, total.errors + unit.errors
            )
            bar.update(task, completed=number, facts=_facts(total, started))
            if not console.is_terminal and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                left = (last_line - started) / number * (num_units - number)
                console.print(
                    f"  {step}: {number}/{num_units} shards, {_facts(total, started)}, "
                    f"{left:.0f} s left"
                )
    return total


def _facts(total: Done, started: float) -> str:
    seconds = max(time.monotonic() - started, 1e-9)
    facts = f"{total.rows:,} rows"
    if total.tokens:
        facts += f", {total.tokens / seconds:,.0f} tokens/s"
    if total.errors:
        facts += f", {total.errors:,} nulls"
    return facts
