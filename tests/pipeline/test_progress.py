"""What people see while a long step runs, on a terminal and in a log."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from persyn_ray.pipeline import progress
from persyn_ray.pipeline.progress import Watched, dollars_paid, follow, watch_training
from persyn_ray.recipe.teachers import PriceConfig, TeacherConfig
from persyn_ray.shards.units import Progress
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.usage import Usage


@dataclass
class Done:
    done: Progress


def screen(is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=200)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def units() -> list[Progress]:
    return [Progress(rows=10, tokens=4000, errors=1, cut=2) for _ in range(5)]


def test_the_total_is_returned_and_a_short_step_leaves_no_line_in_a_log() -> None:
    console = screen(False)
    total = follow(units(), Watched("collect", 5, console))
    assert (total.rows, total.tokens, total.errors, total.cut) == (50, 20_000, 5, 10)
    assert shown(console) == ""


def test_a_log_gets_a_plain_line_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    console = screen(False)
    follow(units(), Watched("collect", 5, console, dollars=lambda: 0.0))
    lines = shown(console).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("  collect: 3/5 batches, 30 rows, ")
    assert "tokens/s, 6 cut, 3 failed, ≤ $0.00, " in lines[2]
    assert lines[2].endswith(" left")
    assert "\x1b" not in shown(console)


def test_errors_of_scoring_are_nulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    console = screen(False)
    follow([Progress(rows=3, errors=2)], Watched("score", 1, console))
    assert "3 rows, 2 nulls" in shown(console)


def test_on_a_terminal_every_teacher_has_a_line_of_what_it_does() -> None:
    console = screen(True)
    group = Done(Progress())

    def work():
        for unit in units():
            group.done = group.done + unit
            yield unit
            time.sleep(0.15)  # the region is drawn ten times a second

    groups, rows = {"strong": group}, {"strong": 50, "[red]idle": 50}
    follow(work(), Watched("collect", 5, console, groups, rows))
    text = shown(console)
    assert "strong" in text
    assert "40/50" in text or "50/50" in text
    assert "cut" in text
    assert "idle" not in text  # it has not begun


def test_a_training_shows_its_steps_and_a_log_only_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    records, console = Folder(str(tmp_path)), screen(False)
    records.write_json("at", {"what": "student [x]", "step": 3, "steps": 9, "loss": 0.5})
    with watch_training(records, "at", console):
        until = time.monotonic() + 120
        while not shown(console) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)  # and no second time
    assert shown(console) == "  student [x]: step 3/9, loss 0.500\n"


def test_dollars_are_those_of_teachers_with_a_price(tmp_path: Path) -> None:
    endpoint = {"kind": "openai", "model": "m"}
    free = TeacherConfig.model_validate({"name": "free", "engine": endpoint})
    priced = TeacherConfig.model_validate(
        {"name": "far", "engine": endpoint, "price": {"response": 10.0}}
    )
    ledger = Folder(str(tmp_path))
    assert dollars_paid(ledger, [free]) is None
    assert dollars_paid(ledger, [free, priced]) == 0
    account = Account(None, PriceConfig(response=10.0), ledger / "teachers" / "far")
    assert account.more(Usage(0, 1000))
    assert account.take(Usage(0, 1000))
    account.settle(Usage(0, 1000), Usage(0, 1000))
    account.rest()
    assert dollars_paid(ledger, [free, priced]) == pytest.approx(0.01)
