"""Runs that write into one store at the same time: nothing is lost, and no score stands beside
another text than the one it was made for.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing, parts_in
from persyn_ray.shards.response_store import Store, scores_of
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of, run_of
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSES, filed

from ..conftest import rewards_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def answers(*texts: tuple[str, str | None], teacher: str = "a") -> pa.Table:
    rows = [
        {
            "prompt_id": prompt_id,
            "teacher": teacher,
            "response": text,
            "finish_reason": "error" if text is None else "stop",
            "num_prompt_tokens": 1,
            "num_tokens": 1,
        }
        for prompt_id, text in texts
    ]
    return pa.Table.from_pylist(rows, schema=RESPONSES)


def texts_of(table: pa.Table) -> dict[str, str | None]:
    columns = (table[name].to_pylist() for name in ("prompt_id", "response"))
    return dict(zip(*columns, strict=True))


@pytest.fixture
def shared(make_recipe: Make, carry_out: CarryOut, tmp_path: Path) -> tuple[Recipe, Recipe]:
    """Two runs with the same prompts in the same shards over one store."""
    store = {"responses.store": str(tmp_path / "store")}
    both = (make_recipe(store), make_recipe(store | {"run": str(tmp_path / "second")}))
    for recipe in both:
        carry_out(recipe, until="prompts")
    return both


def test_two_writers_of_a_shard_keep_what_both_have_paid_for(
    shared: tuple[Recipe, Recipe],
) -> None:
    stores = [Store(run_of(recipe), recipe.teachers[0]) for recipe in shared]
    shard = shards_of(run_of(shared[0]), "parallel")[0]
    for store in stores:
        assert existing(store.folder, shard, RESPONSES).num_rows == 0
    stores[0].add(shard, answers(("p", "one"), ("q", "one")))
    stores[1].add(shard, answers(("q", "two"), ("r", "two")))
    expected = {"p": "one", "q": "one", "r": "two"}
    for store in stores:
        assert texts_of(existing(store.folder, shard, RESPONSES)) == expected
    stores[0].add(shard, answers(("q", "three"), ("s", "three")))
    expected["s"] = "three"
    assert texts_of(existing(stores[1].folder, shard, RESPONSES)) == expected


def test_many_writers_at_once_lose_nothing(shared: tuple[Recipe, Recipe]) -> None:
    recipe = shared[0]
    shard, together = shards_of(run_of(recipe), "parallel")[0], threading.Barrier(8)

    def write(number: int) -> None:
        store = Store(run_of(recipe), recipe.teachers[0])
        together.wait()
        for row in range(10):
            store.add(shard, answers((f"{number}-{row}", "x"), ("common", str(number))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    found = texts_of(existing(run_of(recipe).responses(recipe.teachers[0]), shard, RESPONSES))
    assert set(found) == {f"{n}-{row}" for n in range(8) for row in range(10)} | {"common"}


def test_a_failure_gives_way_to_an_answer_whatever_the_order(tmp_path: Path) -> None:
    parts = (answers(("p", None)), answers(("p", "text")), answers(("p", None), ("q", None)))
    for number, order in enumerate(permutations(parts)):
        folder = Folder(str(tmp_path / str(number)))
        for place, part in enumerate(order):
            folder.write_table(f"shard-000000.{place + 1:04d}-x.parquet", part)
        assert texts_of(existing(folder, "shard-000000.parquet", RESPONSES))["p"] == "text"


def test_a_shard_is_not_taken_for_another_with_a_longer_name(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_table("shard-1000000.0001-x.parquet", answers(("p", "long")))
    folder.write_table("shard-100000.0001-x.parquet", answers(("p", "short")))
    assert texts_of(existing(folder, "shard-100000.parquet", RESPONSES)) == {"p": "short"}
    columns = existing(folder, "shard-100000.parquet", RESPONSES, ["response"])
    assert columns.to_pylist() == [{"response": "short"}]
    assert existing(folder, "shard-000001.parquet", RESPONSES, ["response"]).num_rows == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("pqrs"), st.one_of(st.none(), st.text(max_size=3)), max_size=4
        ),
        max_size=5,
    )
)
def test_every_reader_sees_the_same_and_a_later_part_displaces_no_text(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[str, str | None]]
) -> None:
    folder = Folder(str(tmp_path_factory.mktemp("parts")))
    before: dict[str, str | None] = {}
    for number, part in enumerate(parts, start=1):
        folder.write_table(f"shard-000000.{number:04d}-x.parquet", answers(*part.items()))
        found = texts_of(existing(folder, "shard-000000.parquet", RESPONSES))
        assert found.keys() == before.keys() | part.keys()
        assert all(found[i] == text for i, text in before.items() if text is not None)
        ids = existing(folder, "shard-000000.parquet", RESPONSES, ["prompt_id"])
        assert sorted(ids["prompt_id"].to_pylist()) == sorted(found)
        before = found


def test_two_runs_at_once_score_the_text_that_they_train_on(
    shared: tuple[Recipe, Recipe], monkeypatch: pytest.MonkeyPatch, random_llama: str
) -> None:
    """Both ask before either has filed; the answers differ, as sampled ones do."""
    recipes = [
        one.model_copy(update={"student": one.student.model_copy(update={"name": random_llama})})
        for one in shared
    ]
    asking, together = threading.local(), threading.Barrier(2)

    def sampled(self: ScriptedEngine, requests: list[Request]) -> list[Completion]:
        together.wait(timeout=60)
        return [Completion(f"{asking.run} {r.prompt_id}", "stop", 1, 1) for r in requests]

    monkeypatch.setattr(ScriptedEngine, "generate", sampled)
    shard = shards_of(run_of(recipes[0]), "parallel")[0]

    def collect(number: int) -> None:
        asking.run = number
        Collect(recipes[number])({"shard": shard})
        if number == 0:
            Score(recipes[0])({"shard": shard})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(collect, range(2)))
    Score(recipes[1])({"shard": shard})
    for recipe in recipes:
        run = run_of(recipe)
        for teacher in recipe.teachers:
            said = existing(run.responses(teacher), shard, RESPONSES)
            assert said.num_rows == 5
            assert len(run.responses(teacher).names()) == 2
            (part,) = parts_of(recipe.scoring)
            for folder, schema in (
                (run.learnability(teacher), LEARNABILITY),
                (run.quality(teacher, part), QUALITY),
            ):
                found = scores_of(folder, shard, schema, said)
                # What was scored before the other's text came first is not counted for it.
                assert found.num_rows == 5 or Score(recipe).open_rows(shard)
        Score(recipe)({"shard": shard})
        assert not Score(recipe).open_rows(shard)


def test_a_score_of_other_words_counts_nowhere_and_is_made_anew(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="rewards")
    teacher, shard = recipe.teachers[0], shards_of(run, "parallel")[0]
    assert not Score(recipe).open_rows(shard)
    before = rewards_of(recipe, shard).to_pylist()
    said = existing(run.responses(teacher), shard, RESPONSES)
    other = said["prompt_id"][0].as_py()
    earlier = answers((other, "#### 7, or so, who knows"))
    run.responses(teacher).write_table("shard-000000.0000-other.parquet", earlier)

    assert Score(recipe).open_rows(shard)
    changed = rewards_of(recipe, shard).to_pylist()
    place = [row["prompt_id"] for row in before].index(other)
    assert changed[place]["quality"][0] is None
    assert changed[place]["learnability"][0] is None
    assert changed[:place] + changed[place + 1 :] == before[:place] + before[place + 1 :]

    done = Score(recipe)({"shard": shard})
    assert done.rows == 1
    assert not Score(recipe).open_rows(shard)
    anew = rewards_of(recipe, shard).to_pylist()[place]
    assert anew["learnability"][0] not in (None, before[place]["learnability"][0])
    said = existing(run.responses(teacher), shard, RESPONSES)
    table = scores_of(run.learnability(teacher), shard, LEARNABILITY, said)
    assert table["prompt_id"].to_pylist().count(other) == 1


def test_scores_of_prompts_that_another_split_had_here_stay(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="score")
    teacher, shard = recipe.teachers[0], shards_of(run, "parallel")[0]
    folder = run.learnability(teacher)
    (part,) = parts_in(folder, shard)
    table = folder.read_table(part.name)
    strange: Any = [{**table.slice(0, 1).to_pylist()[0], "prompt_id": "elsewhere"}]
    folder.write_table(
        part.name, pa.concat_tables([table.slice(1), pa.Table.from_pylist(strange, table.schema)])
    )
    assert Score(recipe)({"shard": shard}).rows == 1
    ids = existing(folder, shard, filed(LEARNABILITY))["prompt_id"].to_pylist()
    assert len(ids) == 6
    assert "elsewhere" in ids
