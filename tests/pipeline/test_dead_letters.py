"""Dead letters survive: every failed row of what a run asked is counted, however it got there."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.pipeline.assign.assignments import reassign
from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.collect import ask
from persyn_ray.pipeline.dead_letters import FAILURES, failures, odd_endings, write_failures
from persyn_ray.pipeline.results.costs import dead_letters
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards import part_writer
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress, units_of
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of, run_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def failing(*names: str, well: tuple[str, ...] = ()) -> dict[str, Any]:
    bad = {"kind": "scripted", "fail_on": "No."}
    teachers = [{"name": name, "engine": bad} for name in names]
    return {"teachers": teachers + [{"name": n, "engine": {"kind": "scripted"}} for n in well]}


def by_teacher(recipe: Recipe) -> dict[str, int]:
    return dead_letters(response_settings(recipe), parts_of(recipe.scoring), run_of(recipe))[
        "by_teacher"
    ]


def clear(run: RunLayout, step: str) -> None:
    """As `--from STEP` does."""
    (one,) = [one for one in STEPS if one.name == step]
    for folder in one.leaves(run):
        run.remove(folder)


def test_they_are_counted_again_after_from_collect(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe(failing("a", well=("b",)))
    run = carry_out(recipe, until="collect")
    assert by_teacher(recipe) == {"a": 12}
    clear(run, "collect")
    carry_out(recipe, until="collect")
    assert by_teacher(recipe) == {"a": 12}


def test_a_teacher_that_joins_takes_none_of_the_others_away(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    run = carry_out(make_recipe(failing("a", well=("b",))), until="collect")
    later = make_recipe(failing("a", "c", well=("b",)))
    clear(run, "collect")
    carry_out(later, until="collect")
    assert by_teacher(later) == {"a": 12, "c": 12}


def test_a_run_counts_what_it_found_failed_in_a_shared_store(
    make_recipe: Make, carry_out: CarryOut, tmp_path: Path
) -> None:
    store = {"responses.store": str(tmp_path / "store")}
    carry_out(make_recipe(failing("a", "c", well=("b",)) | store), until="collect")
    changes = {"run": str(tmp_path / "second"), "prompts.shard_rows": 4, "prompts.num_parallel": 8}
    second = make_recipe(failing("a", well=("b",)) | store | changes)
    carry_out(second, until="collect")
    assert by_teacher(second) == {"a": 8}  # neither c, whom it does not know, nor other prompts


def test_a_kill_between_a_response_and_the_end_of_the_step_loses_none(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(failing("a", well=("b",)))
    carry_out(recipe, until="prompts")
    add = part_writer.add_part

    def killed(*args: Any) -> None:
        add(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(part_writer, "add_part", killed)
    units = units_of(shards_of(run_of(recipe), "parallel"))
    for unit in units:
        with pytest.raises(KeyboardInterrupt):
            Collect(recipe)(unit)
    assert by_teacher(recipe) == {"a": 12}
    monkeypatch.setattr(part_writer, "add_part", add)
    carry_out(recipe, until="collect")
    assert by_teacher(recipe) == {"a": 12}


def test_an_unreachable_teacher_counts_until_there_is_an_answer(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = {"responses.store": str(tmp_path / "store")}
    recipe = make_recipe(store)
    run = carry_out(recipe, until="prompts")
    answering = ScriptedEngine.generate

    def away(self: ScriptedEngine, requests: list[Request]) -> list[Completion]:
        return [Completion.unavailable("nobody there") for _ in requests]

    monkeypatch.setattr(ScriptedEngine, "generate", away)
    carry_out(recipe, until="collect")
    found = dead_letters(response_settings(recipe), parts_of(recipe.scoring), run)
    assert found["by_reason"] == {"unavailable": 36}
    assert found["examples"][0]["detail"] == "nobody there"
    monkeypatch.setattr(ScriptedEngine, "generate", answering)
    other = make_recipe(store | {"run": str(tmp_path / "second")})
    carry_out(other, until="collect")
    assert (
        dead_letters(response_settings(recipe), parts_of(recipe.scoring), run)["num"] == 0
    )  # another run's answers are this one's too


@pytest.mark.parametrize("incomplete", ["drop", "next_best"])
def test_synthesis_counts_whom_it_asked_and_nobody_else(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, incomplete: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(
        failing("a", "c", well=("b",)) | models | {"responses.incomplete": incomplete}
    )
    run = carry_out(recipe, until="route")
    first: Counter[str] = Counter()
    for shard in shards_of(run, "routed"):
        first.update(run.assignment(PERSYN).read_table(shard)["teacher"].to_pylist())
    for _ in range(3):
        for unit in units_of(shards_of(run, "routed")):
            Collect(recipe, (PERSYN,))(unit)
        if incomplete == "drop" or not reassign(response_settings(recipe), run, (PERSYN,)):
            break
    found = failures(response_settings(recipe), run, "synthesize")
    counts = Counter(found["teacher"].to_pylist())
    assert set(found["step"].to_pylist()) <= {"synthesize"}
    assert "b" not in counts
    asked = {(row["teacher"], row["prompt_id"]) for row in found.to_pylist()}
    assert len(asked) == found.num_rows
    if incomplete == "drop":
        assert counts == Counter({name: n for name, n in first.items() if name != "b"})
    else:
        # Whoever came first failed, and where the next one was bad as well, that one too.
        assert found.num_rows >= sum(n for name, n in first.items() if name != "b")
        assert all(counts[name] >= n for name, n in first.items() if name != "b")


def test_the_file_for_people_says_the_same_and_is_not_counted_twice(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe(failing("a", well=("b",)))
    run = carry_out(recipe, until="collect")
    write_failures(response_settings(recipe), run, "collect")
    folder = run.dead_letters("collect")
    assert folder.read_table(FAILURES).num_rows == 12
    assert by_teacher(recipe) == {"a": 12}
    well = make_recipe(failing(well=("a", "b")))
    write_failures(response_settings(well), run, "collect")
    assert folder.names() == []


def test_responses_that_ended_in_unknown_words_are_counted_by_them(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: ScriptedEngine, requests: Sequence[Request]) -> list[Completion]:
        word = "finish reason 'sated', taken as stop"
        done = [Completion("#### 1", "stop", 1, 1, word) for _ in requests]
        return [*done[:-1], Completion.failed("no")]

    monkeypatch.setattr(ScriptedEngine, "generate", generate)
    recipe = make_recipe(failing(well=("a", "b")))
    run = carry_out(recipe, until="collect")
    num_failed = failures(response_settings(recipe), run, "collect").num_rows
    assert num_failed > 0
    expected = {"finish reason 'sated', taken as stop": 24 - num_failed}
    assert odd_endings(response_settings(recipe), run, "collect") == expected


def test_open_prompts_are_told_with_their_reason_and_how_to_ask_again(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = ScriptedEngine.generate

    def stopped(self: ScriptedEngine, requests: Sequence[Request]) -> list[Completion]:
        away = Completion.unavailable("refuses the key.")
        return [*answering(self, requests)[:-1], away]

    recipe = make_recipe({"teachers": [{"name": "a", "engine": {"kind": "scripted"}}]})
    monkeypatch.setattr(ScriptedEngine, "generate", stopped)
    run = carry_out(recipe, until="prompts")
    done = Progress(12, 0, 3, 3)

    def run_actor_groups(
        groups: Any, nodes: Any, step: str, marks: Any, counts: dict[str, Any]
    ) -> Any:
        carry_out(recipe, until="collect")
        counts["a"] = SimpleNamespace(done=done, seconds=1.0)
        return iter(())

    fake = SimpleNamespace(
        run_actor_groups=run_actor_groups, cluster_nodes=list, GroupProgress=None
    )
    monkeypatch.setitem(sys.modules, "persyn_ray.runtime.teacher_scheduler", fake)
    console = Console(record=True, width=200)
    ask(recipe, run, "collect", shards_of(run, "parallel"), None, console)
    told = console.export_text()
    assert "3 prompts of teacher 'a' are open: refuses the key. `--from collect` asks" in told
