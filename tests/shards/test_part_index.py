"""Rows are found by id, wherever they lie and however parts are put together; each is read once."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards import compaction
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.compaction import compact
from persyn_ray.shards.part_files import existing, parts_in
from persyn_ray.shards.part_index import PartIndex
from persyn_ray.shards.part_writer import add_part
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import batches_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of, run_of
from persyn_ray.storage.schemas import QUALITY, RESPONSES, filed

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
ONE, TWO = "shard-000000.parquet", "shard-000001.parquet"


class Reads:
    """Rows that are decoded from Parquet files, and those among them with a response's text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.texts = 0
        whole, groups = pq.read_table, pq.ParquetFile.read_row_groups

        def read_table(*args: Any, **kwargs: Any) -> pa.Table:
            return self.counted(whole(*args, **kwargs))

        def read_row_groups(file: pq.ParquetFile, *args: Any, **kwargs: Any) -> pa.Table:
            return self.counted(groups(file, *args, **kwargs))

        monkeypatch.setattr(pq, "read_table", read_table)
        monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_row_groups)

    def counted(self, table: pa.Table) -> pa.Table:
        self.rows += table.num_rows
        self.texts += table.num_rows if "response" in table.column_names else 0
        return table


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    return Reads(monkeypatch)


def said(ids: list[str], text: str = "", reason: str = "stop") -> pa.Table:
    rows = [
        {
            "prompt_id": one,
            "teacher": "t",
            "response": text or random.Random(one).randbytes(500).hex(),
            "finish_reason": reason,
            "num_prompt_tokens": 1,
            "num_tokens": 1,
        }
        for one in ids
    ]
    return pa.Table.from_pylist(rows, schema=RESPONSES)


def texts(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["prompt_id"].to_pylist(), table["response"].to_pylist(), strict=True))


@pytest.mark.parametrize("put_together", [False, True])
def test_rows_of_some_ids_are_those_that_a_whole_shard_shows(
    tmp_path: Path, put_together: bool
) -> None:
    folder, ids = Folder(str(tmp_path)), [f"p{n:03d}" for n in range(90)]
    random.Random(1).shuffle(ids)
    add_part(folder, {ONE: said(ids[:40]), TWO: said(["q1", "q2"])})
    add_part(folder, {ONE: said(ids[30:60], "later, so it does not count")})
    add_part(folder, {ONE: said(["failed"], "", "error")})
    add_part(folder, {ONE: said([*ids[60:], "failed"])})
    if put_together:
        compact(folder)
    index, asked = PartIndex(folder, RESPONSES), [*ids[25:65], "failed", "unknown"]
    found = index.rows(ONE, pa.array(asked))
    whole = existing(folder, ONE, RESPONSES).to_pylist()
    key = "prompt_id"
    assert sorted(found.to_pylist(), key=lambda row: row[key]) == sorted(
        (row for row in whole if row[key] in asked), key=lambda row: row[key]
    )
    assert index.rows(ONE, pa.array(["q1"])).num_rows == 0
    assert texts(index.rows(TWO, pa.array(["q1"]))).keys() == {"q1"}


def test_rows_are_found_while_another_run_puts_parts_together(tmp_path: Path) -> None:
    folder, index = Folder(str(tmp_path)), PartIndex(Folder(str(tmp_path)), RESPONSES)
    for n in range(6):
        add_part(folder, {ONE: said([f"p{n}a", f"p{n}b"])})
    assert index.known(ONE, pa.array(["p3a", "x"]))["prompt_id"].to_pylist() == ["p3a"]
    before = texts(existing(folder, ONE, RESPONSES))
    compact(folder)
    assert len(parts_in(folder)) == 1
    assert texts(index.rows(ONE, pa.array(["p3a", "p5b"]))) == {
        name: before[name] for name in ("p3a", "p5b")
    }
    add_part(folder, {ONE: said(["new"])})
    assert texts(index.rows(ONE, pa.array(["new"]))).keys() == {"new"}


def test_keys_of_a_part_are_read_once(tmp_path: Path, reads: Reads) -> None:
    folder, index = Folder(str(tmp_path)), PartIndex(Folder(str(tmp_path)), RESPONSES)
    add_part(folder, {ONE: said([f"p{n}" for n in range(1000)])})
    wanted = said(["p5", "x"]).select(["prompt_id"])
    assert index.without(ONE, wanted)["prompt_id"].to_pylist() == ["x"]
    before = reads.rows
    assert before == 1000
    for _ in range(20):
        index.without(ONE, wanted)
    assert reads.rows == before


def test_scoring_a_shard_in_batches_reads_each_response_about_once(
    make_recipe: Make, carry_out: CarryOut, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 batches of 20 prompts: read whole for each, a shard would be read 30 times."""
    changes = {"prompts.shard_rows": 1000, "prompts.num_parallel": 600}
    recipe = make_recipe(changes, num_prompts=620)
    run = carry_out(recipe, until="prompts")
    (shard,) = shards_of(run, "parallel")
    collect = Collect(recipe)
    for unit in batches_of({shard: list(range(600))}, 50):
        collect(unit)
    monkeypatch.setattr(compaction, "ROWS_PER_GROUP", 20)
    folders = [run.responses(teacher) for teacher in recipe.teachers]
    assert [compact(folder) for folder in folders] == [1, 1, 1]
    score = Score(recipe, learnability=False)
    units = list(batches_of({shard: score.open_rows(shard)}, 20))
    assert len(units) == 30
    reads.rows = reads.texts = 0
    assert sum(score(unit).rows for unit in units) == 1800
    # A batch lies in two or three row groups of its own size.
    assert reads.texts <= 3 * 1800
    # And the keys of responses, of prompts and of what it has written itself: each once.
    assert reads.rows - reads.texts <= 2 * 1800 + 600
    (part,) = parts_of(recipe.scoring)
    written = [run.quality(teacher, part) for teacher in recipe.teachers]
    assert sum(existing(f, shard, filed(QUALITY)).num_rows for f in written) == 1800
    assert not score.open_rows(shard)


def test_the_last_shards_alone_stay_in_memory(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    index = PartIndex(run_of(recipe).responses(recipe.teachers[0]), RESPONSES)
    shards = shards_of(run, "parallel")
    assert len(shards) > 2
    for shard in (*shards, *reversed(shards)):
        ids = run.prompts.read_table(shard)["prompt_id"]
        assert index.known(shard, ids).num_rows == len(ids)
        assert len(index._parts) <= 2
