"""A run that is at work, empty or damaged: what is there is shown, what is not is null."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import PersynError
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.run_lock import Holder
from persyn_ray.storage.usage import Usage
from persyn_ray.view import viewed
from persyn_ray.view.snapshot import take_snapshot

from . import planting
from .conftest import Get, getter

FIRST, SECOND = "shard-000000.parquet", "shard-000001.parquet"


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewed, "FRESH_SECONDS", 0.0)


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    """Four prompts of the parallel set, of which step collect is at work."""
    prompts = [{"id": f"p{n}", "text": f"No. {n}", "split": "parallel"} for n in range(4)]
    run = planting.planted(str(tmp_path / "run"), prompts)
    run.records.write_text("collect.begun", "0" * 16)
    hold(run)
    return run


def hold(run: RunLayout, **changes: Any) -> None:
    run.attempts.write_bytes("000001.json", json.dumps(asdict(Holder.here()) | changes).encode())


def until(ask: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    """What is asked for, once it is so; passes over the tables follow the questions."""
    for _ in range(200):
        found = ask()
        if is_so(found):
            return found
    raise AssertionError(found)


def step(found: Any, name: str) -> Any:
    return next(one for one in found["steps"] if one["name"] == name)


def test_responses_are_counted_as_they_come(run: RunLayout) -> None:
    get = getter(run.root.address)
    found = until(lambda: get("/api/now"), lambda one: one["teachers"][0]["answered"] is not None)
    assert found["state"] == "running"
    assert (step(found, "prompts")["state"], step(found, "collect")["state"]) == ("done", "running")
    assert (step(found, "collect")["rows"], step(found, "collect")["total_rows"]) == (0, 8)
    assert [one["at_work"] for one in found["teachers"]] == [4, 4]
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"p0": "one", "p1": "two"})
    found = until(lambda: get("/api/now"), lambda one: one["teachers"][0]["answered"] == 2)
    assert [one["at_work"] for one in found["teachers"]] == [2, 4]
    planting.respond(run, 0, "shard-000000.0002-x.parquet", {"p2": "three"})
    found = until(lambda: get("/api/now"), lambda one: one["teachers"][0]["answered"] == 3)
    now = step(found, "collect")
    assert (now["rows"], now["total_rows"]) == (3, 8)
    assert now["seconds"] > 0
    assert now["eta_seconds"] == pytest.approx(now["seconds"] / 3 * 5)
    assert now["tokens_per_second"] == pytest.approx(30 / now["seconds"])


def test_rewards_and_assignment_appear_when_their_steps_are_done(run: RunLayout) -> None:
    get = getter(run.root.address)
    assert [row["best_reward"] for row in get("/api/prompts")["rows"]] == [None] * 4
    assert not get("/api/run")["has"]["rewards"]
    signals = {"learnability": [-1.0, -2.0], "quality": [1.0, 0.0], "rewards": [0.7, 0.2]}
    planting.reward(run, FIRST, {"p0": signals})
    ask: Callable[[], Any] = lambda: get("/api/prompts")["rows"][0]  # noqa: E731
    found = until(ask, lambda row: row["best_reward"] is not None)
    assert found["best_reward"] == 0.7
    signals["rewards"] = [0.1, 0.2]
    planting.reward(run, FIRST, {"p0": signals})
    planting.record(run, "rewards", {"rows": 4})
    assert until(ask, lambda row: row["best_reward"] != 0.7)["best_reward"] == 0.2


def test_prompts_that_are_read_anew_replace_the_others(run: RunLayout) -> None:
    get = getter(run.root.address)
    assert get("/api/prompts")["total"] == 4
    run.records.remove("prompts.json")
    assert get("/api/prompts") | {"rows": []} == {
        "total": 0,
        "is_complete": True,
        "searched": 0,
        "offset": 0,
        "limit": 50,
        "rows": [],
    }
    planting.planted(run.root.address, [{"id": "new", "text": "New."}])
    assert [row["prompt_id"] for row in get("/api/prompts")["rows"]] == ["new"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"ended": "2026-01-01T00:00:00+00:00"}, "stopped"),
        ({"ended": "2026-01-01T00:00:00+00:00", "error": "no"}, "failed"),
        ({"pid": 2**22 - 1, "process_started": 1.0}, "failed"),
        ({"host": "elsewhere", "seen": "2026-01-01T00:00:00+00:00"}, "failed"),
    ],
)
def test_whether_it_is_at_work_is_read_off_its_attempt(
    run: RunLayout, changes: dict[str, Any], state: str
) -> None:
    hold(run, **changes)
    found = take_snapshot(run.root.address)
    assert found.state == state


def test_a_holder_elsewhere_that_leaves_signs_is_at_work(run: RunLayout) -> None:
    from persyn_ray.storage.records import utc_now

    hold(run, host=f"not-{socket.gethostname()}", pid=os.getpid(), seen=utc_now())
    assert take_snapshot(run.root.address).state == "running"


def test_a_run_that_has_only_begun_shows_nothing_and_breaks_nowhere(tmp_path: Path) -> None:
    from persyn_ray.recipe.recipe import stored
    from persyn_ray.storage.layout import run_of

    recipe = planting.recipe_at(str(tmp_path / "run"))
    run_of(recipe).root.write_json("recipe.json", stored(recipe))
    get = getter(recipe.run)
    assert get("/api/run")["num_prompts"] == 0
    assert {one["state"] for one in get("/api/now")["steps"]} == {"waiting"}
    assert get("/api/prompts", sort="margin")["rows"] == []
    assert get("/api/teachers")["points"] == []
    assert get("/api/dead-letters")["total"] == 0
    get("/api/prompts/x", 404)


@pytest.mark.parametrize("text", ["", "PAR1 half of a table"])
def test_tables_that_cannot_be_read_count_as_absent(run: RunLayout, text: str) -> None:
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"p0": "one"})
    recipe = planting.recipe_at(run.root.address)
    run.responses(recipe.teachers[0]).write_text("shard-000000.0002-x.parquet", text)
    run.rewards.write_text(FIRST, text)
    planting.assign(run, FIRST, {"p0": ("a", 1.0)})
    get: Get = getter(run.root.address)
    found = get("/api/prompts", flag="unsure")
    assert found["is_complete"]
    rows = get("/api/prompts")["rows"]
    assert [row["teacher"] for row in rows] == ["a", None, None, None]
    assert get("/api/prompts/p0")["responses"][0]["text"] == "one"
    assert get("/api/teachers")["teachers"][0]["reward"] is None


def test_a_record_that_cannot_be_read_fails_its_step_alone(run: RunLayout) -> None:
    run.records.write_text("collect.json", "{")
    found = getter(run.root.address)("/api/now")
    assert step(found, "collect")["state"] == "failed"
    assert step(found, "prompts")["state"] == "done"


def test_a_step_that_was_interrupted_is_stopped_and_nothing_is_wrong(run: RunLayout) -> None:
    hold(run, ended="2026-01-01T00:00:00+00:00")
    found = getter(run.root.address)("/api/now")
    assert (step(found, "collect")["state"], found["trouble"]) == ("stopped", None)


def test_a_step_that_ended_with_an_error_says_which_and_what_to_do(run: RunLayout) -> None:
    hold(run, ended="2026-01-01T00:00:00+00:00", error="No key in KEY.\nSet it.")
    found = getter(run.root.address)("/api/now")
    assert (found["state"], step(found, "collect")["state"]) == ("failed", "failed")
    assert (found["trouble"]["step"], found["trouble"]["error"]) == (
        "collect",
        "No key in KEY.\nSet it.",
    )
    assert "goes on with this step" in found["trouble"]["advice"]


def test_a_command_that_fails_leaves_what_the_viewer_tells(tmp_path: Path, quiet: Console) -> None:
    prompts: dict[str, Any] = {"path": str(tmp_path / "none.csv"), "reference_column": "answer"}
    prompts |= {"num_parallel": 1, "num_heldout": 0}
    recipe = planting.recipe_at(str(tmp_path / "run"), prompts=prompts)
    with pytest.raises(PersynError) as failure:
        run_recipe(recipe, quiet, until="prompts")
    found = getter(recipe.run)("/api/now")
    assert found["trouble"]["step"] == "prompts"
    assert found["trouble"]["error"] == str(failure.value)
    (tmp_path / "none.csv").write_text("prompt,answer\nWhy?,so\nHow?,thus\n")
    run_recipe(recipe, quiet, until="prompts")
    found = getter(recipe.run)("/api/now")
    assert (found["trouble"], found["state"], step(found, "prompts")["state"]) == (
        None,
        "stopped",
        "done",
    )


def test_a_process_that_was_killed_left_no_word(run: RunLayout) -> None:
    hold(run, pid=2**22 - 1, process_started=1.0)
    found = getter(run.root.address)("/api/now")
    assert step(found, "collect")["state"] == "failed"
    assert "was killed" in found["trouble"]["error"]


def test_an_error_before_any_step_is_that_of_the_run(run: RunLayout) -> None:
    run.records.remove("collect.begun")
    hold(run, ended="2026-01-01T00:00:00+00:00", error="Ray did not start.")
    found = getter(run.root.address)("/api/now")
    assert (found["state"], found["trouble"]["step"]) == ("failed", None)
    assert {one["state"] for one in found["steps"]} == {"done", "waiting"}


def test_costs_are_those_of_the_ledger_by_teacher_and_step(run: RunLayout) -> None:
    """Both are paid $1 and $2 per million prompt and response tokens."""
    recipe = planting.recipe_at(run.root.address)
    account = run.spending_of(recipe.teachers[0])
    usage = Usage(prompt=1_000_000, response=500_000)
    assert account.more(usage)
    assert account.take(usage)
    account.settle(usage, usage)
    account.rest()
    get = getter(run.root.address)
    found = get("/api/now")
    assert [one["cost"] for one in found["teachers"]] == [2.0, None]
    assert (found["cost"], step(found, "collect")["cost"]) == (2.0, 2.0)
    assert step(found, "synthesize")["cost"] is None
    run.records.write_text("synthesize.begun", "0" * 16)
    said = {"response": "one", "num_prompt_tokens": 300_000, "num_tokens": 100_000}
    failed = said | {"response": None, "finish_reason": "error"}
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"p0": said, "p1": failed})
    found = until(lambda: get("/api/now"), lambda one: step(one, "collect")["cost"])
    assert step(found, "collect")["cost"] == pytest.approx(0.5)
    assert step(found, "synthesize")["cost"] == pytest.approx(1.5)  # what else was paid
    assert found["cost"] == 2.0


def test_what_runs_that_share_a_ledger_were_paid_is_of_no_one_step(tmp_path: Path) -> None:
    shared = {"ledger": str(tmp_path / "ledger")}
    run = planting.planted(str(tmp_path / "run"), [{"id": "x", "text": "y"}], **shared)
    account = run.spending_of(planting.recipe_at(run.root.address, **shared).teachers[0])
    usage = Usage(prompt=1_000_000, response=0)
    assert account.more(usage)
    found = getter(run.root.address)("/api/now")
    assert found["cost"] >= 1.0
    assert {one["cost"] for one in found["steps"]} == {None}


def test_failures_are_dead_letters_by_reason_with_an_example(run: RunLayout) -> None:
    failed = {"finish_reason": "error", "error": "refused"}
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"p0": failed, "p1": failed})
    planting.respond(run, 1, "shard-000000.0001-x.parquet", {"p2": failed})
    late = {"finish_reason": "unavailable", "error": "late"}
    planting.respond(run, 1, "shard-000001.0001-x.parquet", {"p3": late})
    found, other = getter(run.root.address)("/api/dead-letters")["reasons"]
    assert (found["step"], found["reason"], found["count"]) == ("collect", "error", 3)
    assert found["teachers"] == {"a": 2, "b": 1}
    assert found["example"] == {"prompt_id": "p0", "teacher": "a", "detail": "refused"}
    assert (other["reason"], other["teachers"]) == ("unavailable", {"b": 1})
    assert other["example"] == {"prompt_id": "p3", "teacher": "b", "detail": "late"}
