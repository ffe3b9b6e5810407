"""Power loss and damage: a table that cannot be read counts as absent and is made anew."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import DamagedError, DataError
from persyn_ray.pipeline import runner
from persyn_ray.pipeline.integrity.ownership import claim
from persyn_ray.pipeline.integrity.recovery import find_damage
from persyn_ray.pipeline.results.explain import open_run
from persyn_ray.pipeline.runner import planned_steps, run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing, parts_in
from persyn_ray.shards.route import RouteShard
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage import atomic_files
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of, run_of
from persyn_ray.storage.results import StepResult
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "garbage": lambda data: b"\x93what is this" * 40,
    "other footer": lambda data: data[:-12] + b"\xff" * 8 + data[-4:],
}


def damage(folder: Folder, name: str, way: str = "empty") -> Path:
    path = Path(folder.path(name))
    path.write_bytes(WAYS[way](path.read_bytes()))
    return path


def part_of(folder: Folder, shard: str) -> str:
    (part,) = parts_in(folder, shard)
    return part.name


def first(folder: Folder) -> str:
    return folder.names(".parquet")[0]


@pytest.mark.parametrize("way", list(WAYS))
def test_a_file_that_is_no_table_is_damaged_and_a_missing_place_is_not(
    make_recipe: Make, carry_out: CarryOut, way: str
) -> None:
    run = carry_out(make_recipe(), until="prompts")
    damage(run.prompts, "shard-000000.parquet", way)
    with pytest.raises(DamagedError, match=r"shard-000000\.parquet cannot be read as a table: "):
        run.prompts.read_table("shard-000000.parquet")
    assert not run.prompts.holds_table("shard-000000.parquet")
    assert run.prompts.holds_table("shard-000001.parquet")
    assert not run.prompts.holds_table("shard-000099.parquet")
    with pytest.raises(FileNotFoundError):
        run.prompts.read_table("shard-000099.parquet")


@pytest.mark.parametrize("way", list(WAYS))
def test_damaged_responses_and_scores_are_made_anew_and_the_others_stay(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, way: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="score")
    shards, teacher = shards_of(run, "parallel"), recipe.teachers[0]
    damage(run.responses(teacher), first(run.responses(teacher)), way)
    damage(run.learnability(teacher), part_of(run.learnability(teacher), shards[1]), way)
    (part,) = parts_of(recipe.scoring)
    quality = run.quality(recipe.teachers[1], part)
    damage(quality, part_of(quality, shards[2]), way)
    assert [Collect(recipe)(unit).rows for unit in units_of(shards)] == [5, 0, 0]
    assert [not Score(recipe).open_rows(shard) for shard in shards] == [True, False, False]
    for unit in units_of(shards):
        Score(recipe)(unit)
    assert not any(Score(recipe).open_rows(shard) for shard in shards)
    assert sum(existing(run.responses(teacher), s, RESPONSES).num_rows for s in shards) == 12


def test_a_damaged_shard_of_logits_is_routed_again(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama, "router.backbone.name": random_llama})
    run = carry_out(recipe, until="route")
    units = units_of(shards_of(run, "parallel"))
    damage(run.logits, units[0]["shard"], "half")
    route = RouteShard(recipe)
    assert [route(unit).rows for unit in units] == [5, 0, 0]
    assert run.logits.holds_table(units[0]["shard"])


def test_no_right_to_read_is_not_taken_for_absence(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    folder = run.responses(recipe.teachers[0])

    def refused(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied", folder.path(first(folder)))

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", refused)
    with pytest.raises(ValueError, match=r"Cannot use .*Permission denied.*right to read"):
        existing(folder, "shard-000000.parquet", RESPONSES)


def only(monkeypatch: pytest.MonkeyPatch, real: Sequence[str] = ("prompts",)) -> list[str]:
    """Steps but for the real ones are carried out by name alone; returns which were."""
    done: list[str] = []

    def instead(name: str) -> Callable[..., StepResult]:
        def carry(*_: Any) -> StepResult:
            done.append(name)
            return StepResult(rows=1)

        return carry

    from dataclasses import replace

    steps = [
        step if step.name in real else replace(step, carry_out=instead(step.name), on_ray=False)
        for step in runner.STEPS
    ]
    monkeypatch.setattr(runner, "STEPS", tuple(steps))
    return done


@pytest.mark.parametrize(
    ("place", "reopened"),
    [
        ("responses", ["collect", "score", "rewards"]),
        ("learnability", ["score", "rewards"]),
        ("rewards", ["rewards"]),
        ("nothing", []),
    ],
)
def test_a_finished_step_with_a_damaged_table_is_open_again(
    make_recipe: Make,
    carry_out: CarryOut,
    random_llama: str,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    reopened: list[str],
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="rewards")
    teacher = recipe.teachers[0]
    folder = {
        "responses": run.responses(teacher),
        "learnability": run.learnability(teacher),
        "rewards": run.rewards,
    }.get(place)
    broken = None if folder is None else damage(folder, first(folder))
    done, console = only(monkeypatch), Console(record=True, width=400)
    run_recipe(recipe, console, until="rewards")
    assert done == reopened
    assert ("cannot be read as a table" in console.export_text()) == bool(reopened)
    if broken is not None:
        assert not broken.exists()
        assert Path(f"{broken}.damaged").exists()
    done.clear()
    run_recipe(recipe, console, until="rewards")
    assert done == []


def test_damaged_prompts_are_laid_down_again(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    before = dict(run.prompts.tables())
    damage(run.prompts, "shard-000002.parquet", "zeros")
    run_recipe(recipe, quiet, until="prompts")
    assert dict(run.prompts.tables()) == before


def test_a_kill_while_mending_forgets_nothing(
    make_recipe: Make, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    damage(run.prompts, "shard-000002.parquet")
    monkeypatch.setattr(
        "persyn_ray.pipeline.integrity.recovery.Damage.set_aside", lambda self: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        run_recipe(recipe, quiet, until="prompts")
    monkeypatch.undo()
    assert not planned_steps(recipe, run)[0].is_done
    assert [one.name for one in find_damage(run, recipe.teachers, recipe.compare)] == [
        "shard-000002.parquet"
    ]
    run_recipe(recipe, quiet, until="prompts")
    assert sum(table.num_rows for _, table in run.prompts.tables()) == 24


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(
    make_recipe: Make, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe({"responses.store": str(tmp_path / "store")})
    run = run_of(recipe)
    claim(run)
    ours = atomic_files.temporary_name()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 2**22 + 1)
        dead = atomic_files.temporary_name()
        patch.setattr("persyn_ray.storage.processes.processes", lambda: "0" * 16)
        elsewhere = atomic_files.temporary_name()
    for name in (ours, dead, elsewhere, ".tmp-of-somebody", ".tmp-1-2-3"):
        run.records.write_text(name, "half")
        (run.response_store / "a-1").write_text(name, "half")
    run_recipe(recipe, quiet, until="prompts")
    for folder in (run.records, run.response_store / "a-1"):
        left = {path.name for path in folder.local_path.glob(".tmp-*")}
        assert left == {ours, elsewhere, ".tmp-of-somebody", ".tmp-1-2-3"}
    monkeypatch.setattr(atomic_files, "ABANDONED_SECONDS", -1.0)
    run_recipe(recipe, quiet, until="prompts")
    left = {path.name for path in run.records.local_path.glob(".tmp-*")}
    assert left == {".tmp-of-somebody", ".tmp-1-2-3"}


@pytest.mark.parametrize("text", ["", '{"run": "x'])
def test_a_torn_recipe_is_one_error_and_written_anew_by_the_run(
    make_recipe: Make, quiet: Console, text: str
) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    run.root.write_text("recipe.json", text)
    with pytest.raises(DataError, match=r"recipe\.json .*`persyn run RECIPE` writes it anew"):
        open_run(run.root.address)
    run_recipe(recipe, quiet, until="prompts")
    opened, _ = open_run(run.root.address)
    assert opened.prompts == recipe.prompts
