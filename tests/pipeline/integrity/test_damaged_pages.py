"""Tables damaged inside, behind a sound footer: never other words, nor a loss that nobody sees."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from persyn_ray.errors import DamagedError, StepError
from persyn_ray.pipeline.integrity.recovery import Damage, find_damage
from persyn_ray.pipeline.runner import SUSPECT, run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.compaction import compact
from persyn_ray.shards.part_files import existing, ids_of_shard
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import RESPONSES

from .test_recovery import first, only

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
Change = Callable[[bytes], bytes]
WAYS: dict[str, Change] = {
    "flipped bit": lambda page: page[:-2] + bytes([page[-2] ^ 1]) + page[-1:],
    "cut page": lambda page: page[: len(page) // 2] + bytes(len(page) - len(page) // 2),
}


def damage_column(folder: Folder, name: str, column: str, way: str = "flipped bit") -> Path:
    """Change what is stored of a column in the first row group; the footer stays."""
    path = Path(folder.path(name))
    group = pq.read_metadata(path).row_group(0)
    (chunk,) = [
        group.column(place)
        for place in range(group.num_columns)
        if group.column(place).path_in_schema == column
    ]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    end, data = start + chunk.total_compressed_size, path.read_bytes()
    path.write_bytes(data[:start] + WAYS[way](data[start:end]) + data[end:])
    assert pq.read_metadata(path).num_rows
    return path


def found(recipe: Recipe, with_pages: bool) -> list[Damage]:
    return list(find_damage(run_of(recipe), recipe.teachers, recipe.compare, with_pages))


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("column", ["prompt_id", "response", "num_tokens"])
def test_what_a_part_damaged_inside_held_is_asked_again_and_nothing_else(
    make_recipe: Make, carry_out: CarryOut, way: str, column: str
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    folder, shards = run.responses(recipe.teachers[0]), shards_of(run, "parallel")
    before = {shard: existing(folder, shard, RESPONSES) for shard in shards}
    path = damage_column(folder, first(folder), column, way)
    with pytest.raises(DamagedError, match=rf"{path.name} cannot be read as a table: "):
        existing(folder, shards[0], RESPONSES)
    assert found(recipe, with_pages=False) == []
    (one,) = found(recipe, with_pages=True)
    assert (one.name, one.step, one.folder.address) == (path.name, "collect", folder.address)
    one.set_aside()
    assert Path(f"{path}.damaged").exists()
    assert found(recipe, with_pages=True) == []
    assert [Collect(recipe)(unit).rows for unit in units_of(shards)] == [5, 0, 0]
    key = [("prompt_id", "ascending")]
    for shard, table in before.items():
        assert existing(folder, shard, RESPONSES).sort_by(key) == table.sort_by(key)


def test_neither_step_takes_damaged_rows_for_absent_or_for_done(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe({"scoring.alpha": 0})
    run = carry_out(recipe, until="score")
    folder, unit = run.responses(recipe.teachers[0]), units_of(shards_of(run, "parallel"))[0]
    damage_column(folder, first(folder), "response")
    # The ids can still be read: to ask again now would leave two parts with the same rows.
    assert Collect(recipe)(unit).rows == 0
    with pytest.raises(DamagedError, match="cannot be read as a table"):
        Score(recipe)(unit)
    damage_column(folder, first(folder), "prompt_id")
    with pytest.raises(DamagedError, match="cannot be read as a table"):
        Collect(recipe)(unit)


def test_parts_that_are_put_together_leave_a_damaged_one_as_it_is(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    folder, shards = run.responses(recipe.teachers[0]), shards_of(run, "parallel")
    path = damage_column(folder, first(folder), "response")
    data = path.read_bytes()
    assert compact(folder) == 2
    assert path.read_bytes() == data
    assert [len(ids_of_shard(folder, shard)) for shard in shards] == [5, 5, 2]


def test_a_step_that_meets_damage_stops_and_the_same_command_mends_it(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe({"scoring.alpha": 0})
    run = carry_out(recipe, until="score")
    folder = run.responses(recipe.teachers[0])
    path = damage_column(folder, first(folder), "response")
    done, console = only(monkeypatch, real=("prompts", "rewards")), Console(record=True, width=400)
    with pytest.raises(StepError, match=rf"{path.name} cannot .*\. The same command .* sets aside"):
        run_recipe(recipe, console, until="rewards")
    assert (done, path.exists()) == ([], True)
    run_recipe(recipe, console, until="rewards")
    assert done == ["collect", "score"]
    assert Path(f"{path}.damaged").exists()
    assert not path.exists()
    told = console.export_text()
    assert f"{path.name} cannot be read as a table" in told
    assert "Every table was read: 1 damaged." in told
    assert not run.records.exists(SUSPECT)
    run_recipe(recipe, console, until="rewards")
    assert "Every table" not in console.export_text()
    assert done == ["collect", "score"]


def test_a_finished_run_is_read_through_on_request(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe({"scoring.alpha": 0})
    run = carry_out(recipe, until="rewards")
    path = damage_column(run.rewards, first(run.rewards), "prompt_id")
    done, console = only(monkeypatch), Console(record=True, width=400)
    run_recipe(recipe, console, until="rewards")
    assert (done, path.exists()) == ([], True)
    run_recipe(recipe, console, until="rewards", verify=True)
    assert (done, path.exists()) == (["rewards"], False)
    done.clear()
    run_recipe(recipe, console, until="rewards", verify=True)
    assert done == []
    assert "Every table was read: 0 damaged." in console.export_text()


def test_on_an_object_store_a_damaged_table_is_set_aside_too(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    run = carry_out(make_recipe(), until="prompts")
    folder = Folder("memory://test-damaged-pages/tables")
    for name in ("sound.parquet", "broken.parquet"):
        folder.write_table(f"deep/{name}", run.prompts.read_table("shard-000000.parquet"))
    data = bytearray(folder.read_bytes("deep/broken.parquet"))
    data[len(data) // 4] ^= 1
    folder.write_bytes("deep/broken.parquet", bytes(data))
    assert folder.names_below(".parquet") == ["deep/broken.parquet", "deep/sound.parquet"]
    below = folder / "deep"
    below.require_whole("sound.parquet")
    with pytest.raises(DamagedError):
        below.require_whole("broken.parquet")
    Damage(below, "broken.parquet", "prompts", "").set_aside()
    assert below.names() == ["broken.parquet.damaged", "sound.parquet"]
    folder.remove()
