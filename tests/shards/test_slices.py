"""Slices of a shard, in any order and twice, leave the tables of whole shards; kills lose none."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.pipeline.evaluate import _open_problems  # pyright: ignore[reportPrivateUsage]
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.route import PARTS, RouteShard, open_to_route, put_routed_together
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Unit, Work, batches_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, RunLayout, parts_of, run_of
from persyn_ray.storage.schemas import EVALUATIONS, LEARNABILITY, QUALITY, filed

Finished = tuple[Recipe, RunLayout]


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Finished:
    """A copy of the finished run, to be changed."""
    recipe, run = finished
    shutil.copytree(run.root.local_path, tmp_path / "run")
    copy = recipe.model_copy(update={"run": str(tmp_path / "run")})
    return copy, run_of(copy)


def slices(shard: str, num_rows: int, draw: random.Random, **more: Any) -> list[Unit]:
    """Places of a shard cut into pieces, which overlap and come twice and in any order."""
    places = draw.sample(range(num_rows), num_rows)
    cut = draw.randint(1, num_rows)
    units = [Unit(shard=shard, rows=rows, **more) for rows in (places[:cut], places[cut - 1 :])]
    return draw.sample(units * 2, 4)


def do(work: Work, run: RunLayout, draw: random.Random, *splits: str, **more: Any) -> int:
    """Carry out slices of all shards of some splits, mixed; the rows made."""
    shards = shards_of(run, *splits)
    units = [u for s in shards for u in slices(s, run.prompts.num_rows(s), draw, **more)]
    return sum(work(unit).rows for unit in draw.sample(units, len(units)))


def assert_alike(made: list[dict[str, Any]], whole: list[dict[str, Any]]) -> None:
    """The same rows, but for the last digits of what was computed in other batches."""
    assert len(made) == len(whole)
    for one, other in zip(made, whole, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            is_number = isinstance(value, float | list)
            expected = pytest.approx(value, rel=1e-3, abs=1e-4) if is_number else value
            assert one[key] == expected, key


def by_id(table: pa.Table) -> list[dict[str, Any]]:
    return table.sort_by("prompt_id").to_pylist()


@pytest.mark.parametrize("seed", [0, 1])
def test_slices_are_routed_as_whole_shards_in_the_order_of_prompts(
    copied: Finished, seed: int
) -> None:
    recipe, run = copied
    shards = shards_of(run, "parallel", "routed", "heldout")
    whole = {shard: run.logits.read_table(shard).to_pylist() for shard in shards}
    run.remove(run.logits)
    run.remove(run.novelty)
    route = RouteShard(recipe)
    assert do(route, run, random.Random(seed), "parallel", "routed", "heldout") == 24
    put_routed_together(run, shards)
    assert run.logits.names() == sorted(shards)
    for shard in shards:
        assert_alike(run.logits.read_table(shard).to_pylist(), whole[shard])
        assert open_to_route(run, shard) == []
    assert do(route, run, random.Random(seed), "parallel", "routed", "heldout") == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_slices_are_scored_as_whole_shards(copied: Finished, seed: int) -> None:
    recipe, run = copied
    splits, (part,) = ("parallel", "heldout"), parts_of(recipe.scoring)
    places = {
        (teacher.name, shard, kind): (folder, schema)
        for teacher in recipe.teachers
        for shard in shards_of(run, *splits)
        for kind, folder, schema in (
            ("learnability", run.learnability(teacher), filed(LEARNABILITY)),
            ("quality", run.quality(teacher, part), filed(QUALITY)),
        )
    }
    whole = {key: existing(folder, key[1], schema) for key, (folder, schema) in places.items()}
    for folder, _ in places.values():
        run.remove(folder)
    assert do(Score(recipe), run, random.Random(seed), *splits) == 3 * 16
    for key, (folder, schema) in places.items():
        assert whole[key].num_rows > 0
        assert_alike(by_id(existing(folder, key[1], schema)), by_id(whole[key]))


def test_a_score_of_some_rows_leaves_the_places_of_the_others_open(copied: Finished) -> None:
    recipe, run = copied
    run.remove(run.root / "tables" / "learnability")
    shard, score = shards_of(run, "parallel")[0], Score(recipe)
    assert sorted(score.open_rows(shard)) == [0, 1, 2, 3, 4]
    score(Unit(shard=shard, rows=[3, 1]))
    assert sorted(score.open_rows(shard)) == [0, 2, 4]
    assert Score(recipe, learnability=False).open_rows(shard) == []


@pytest.mark.parametrize("limit", [1, 3, None])
def test_an_evaluation_goes_on_with_the_other_half_and_holds_what_the_limit_says(
    copied: Finished, limit: int | None
) -> None:
    recipe, run = copied
    (shard,), folder = shards_of(run, "heldout"), run.evaluations(BEFORE)
    whole = EvaluateShard(recipe)
    run.remove(folder)
    whole(Unit(shard=shard, student=BEFORE))
    ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
    answers = {row["prompt_id"]: row for row in existing(folder, shard, EVALUATIONS).to_pylist()}
    assert list(answers) == ids
    run.remove(folder)
    EvaluateShard(recipe)(Unit(shard=shard, student=BEFORE, rows=[0]))  # then it was killed
    num = len(ids) if limit is None else limit
    todo = _open_problems(run, BEFORE, limit)
    assert todo == {shard: list(range(1, num))}
    again = EvaluateShard(recipe)
    units = [
        Unit(shard=shard, rows=unit.get("rows", []), student=BEFORE) for unit in batches_of(todo, 2)
    ]
    made = [again(unit).rows for unit in units for _ in range(2)]
    assert sum(made) == num - 1
    assert by_id(existing(folder, shard, EVALUATIONS)) == sorted(
        (answers[name] for name in ids[:num]), key=lambda row: row["prompt_id"]
    )
    assert _open_problems(run, BEFORE, limit) == {shard: []}


TABLES = ("embeddings", "novelty", "logits")


class Killed(BaseException):
    """Stands for a kill: nothing between catches it."""


def filed_in_parts(run: RunLayout, draw: random.Random) -> dict[str, list[str]]:
    """Parts of all three tables with every prompt, some twice; ids by shard in their order."""
    ids = {s: run.prompts.read_table(s)["prompt_id"].to_pylist() for s in shards_of(run, "routed")}
    for name in TABLES:
        run.remove(run.root / "tables" / name)
        for shard, of in ids.items():
            mixed = draw.sample(of, len(of))
            for rows in (mixed[:2], mixed[1:]):
                values = [float(of.index(row)) for row in rows]
                table = pa.table({"prompt_id": rows, name: values})
                add_part(run.root / "tables" / name / PARTS, {shard: table})
    return ids


def killed_at(patch: pytest.MonkeyPatch, number: int) -> Iterator[int]:
    """Count what is written or removed and die at the given one."""
    done = 0

    def counted(original: Callable[..., Any]) -> Callable[..., None]:
        def instead(*args: Any) -> None:
            nonlocal done
            done += 1
            if done == number:
                raise Killed
            original(*args)

        return instead

    for method in ("write_table", "remove"):
        patch.setattr(Folder, method, counted(getattr(Folder, method)))
    while True:
        yield done


@pytest.mark.parametrize("number", range(1, 10))
def test_after_a_kill_at_any_file_the_shards_are_whole_and_nothing_is_routed_again(
    copied: Finished, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _, run = copied
    ids = filed_in_parts(run, random.Random(number))
    assert len(ids) == 2
    with monkeypatch.context() as patch:
        count = killed_at(patch, number)
        next(count)
        with pytest.raises(Killed):
            put_routed_together(run, list(ids))
        assert next(count) == number
    assert [open_to_route(run, shard) for shard in ids] == [[], []]
    put_routed_together(run, list(ids))
    for name in TABLES:
        folder = run.root / "tables" / name
        assert folder.names() == sorted(ids)
        for shard, of in ids.items():
            table = folder.read_table(shard)
            assert table["prompt_id"].to_pylist() == of
            assert table[name].to_pylist() == [float(place) for place in range(len(of))]


def test_a_shard_with_open_rows_is_not_taken_for_whole(copied: Finished) -> None:
    recipe, run = copied
    shard = shards_of(run, "parallel")[0]
    whole = run.logits.read_table(shard).to_pylist()
    run.logits.remove(shard)
    RouteShard(recipe)(Unit(shard=shard, rows=[4, 0]))
    assert open_to_route(run, shard) == [1, 2, 3]
    RouteShard(recipe)(Unit(shard=shard, rows=open_to_route(run, shard)))
    put_routed_together(run, [shard])
    assert_alike(run.logits.read_table(shard).to_pylist(), whole)
