"""Splits of prompts: sizes, order by seed, and rows taken without a copy of the table."""

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.data.prompts import UNSPLIT
from persyn_ray.data.selection import take_rows
from persyn_ray.data.splits import SPLITS, SplitPrompts, split_prompts
from persyn_ray.errors import ConfigError
from persyn_ray.storage.schemas import PROMPTS

USER = {"role": "user", "content": "Hi"}


def some_prompts(num: int, rows_of_a_chunk: int = 7) -> pa.Table:
    rows = [
        {"prompt_id": f"{index:032x}", "messages": [USER], "source": "s"} for index in range(num)
    ]
    table = pa.Table.from_pylist(rows, schema=UNSPLIT)
    batches = table.to_batches(max_chunksize=rows_of_a_chunk)
    return pa.Table.from_batches(batches, UNSPLIT)


def whole(prompts: SplitPrompts) -> pa.Table:
    """All splits, a few rows at a time."""
    parts = [
        prompts.taken(split, start, start + 9)
        for split in SPLITS
        for start in range(0, prompts.counts[split], 9)
    ]
    return pa.concat_tables(parts).combine_chunks()


def test_splits_have_their_sizes_and_lose_nobody() -> None:
    table = some_prompts(100)
    prompts = split_prompts(table, num_parallel=20, num_heldout=30, seed=0)
    assert prompts.counts == {"parallel": 20, "heldout": 30, "routed": 50}
    split = whole(prompts)
    assert split.schema.equals(PROMPTS)
    assert split["split"].to_pylist() == ["parallel"] * 20 + ["heldout"] * 30 + ["routed"] * 50
    assert set(split["prompt_id"].to_pylist()) == set(table["prompt_id"].to_pylist())


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    table = some_prompts(100)
    split = whole(split_prompts(table, 20, 30, seed=0))
    backwards = table.take(list(range(99, -1, -1)))
    assert whole(split_prompts(backwards, 20, 30, seed=0)).equals(split)
    assert not whole(split_prompts(table, 20, 30, seed=1)).equals(split)
    # A larger parallel set contains the smaller one: learning curves stay comparable.
    larger = whole(split_prompts(table, 40, 0, seed=0))
    assert larger["prompt_id"].to_pylist()[:20] == split["prompt_id"].to_pylist()[:20]


def test_an_order_never_changes_between_versions() -> None:
    """By blake2b of "seed:id", 16 bytes: runs that exist would draw other parallel sets."""
    split = whole(split_prompts(some_prompts(10), 3, 0, seed=5))
    first = [int(one, 16) for one in split["prompt_id"].to_pylist()]
    assert first == [3, 9, 4, 6, 2, 0, 5, 1, 7, 8]


def test_the_first_are_those_that_were_drawn_first() -> None:
    prompts = split_prompts(some_prompts(30), 5, 5, seed=0)
    expected = whole(prompts)["prompt_id"].to_pylist()
    assert prompts.first(8)["prompt_id"].to_pylist() == expected[:8]
    assert prompts.first(99)["prompt_id"].to_pylist() == expected


@pytest.mark.parametrize("rows_of_a_chunk", [1, 4, 100])
def test_taken_rows_are_those_of_take(rows_of_a_chunk: int) -> None:
    table = some_prompts(20, rows_of_a_chunk)
    for places in ([], [19], [3, 0, 19, 4, 3], list(range(19, -1, -1))):
        taken = take_rows(table, np.array(places, np.int64))
        assert taken.equals(table.take(pa.array(places, pa.int64())).combine_chunks())
    assert take_rows(table.slice(0, 0), np.array([], np.int64)).num_rows == 0


def test_a_table_is_neither_split_nor_taken_from_by_copying_it() -> None:
    table = some_prompts(20_000, 500)
    usual = pa.default_memory_pool()
    watched = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(watched)
    try:
        prompts = split_prompts(table, 1000, 0, seed=0)
        for start in range(0, 19_000, 1000):
            assert prompts.taken("routed", start, start + 1000).num_rows == 1000
    finally:
        pa.set_memory_pool(usual)
    assert 0 < watched.max_memory() < table.nbytes / 4


@pytest.mark.parametrize(
    ("num_parallel", "num_heldout", "message"),
    [
        (11, 0, r"prompts\.num_parallel is 11, but of 10 prompts only 10"),
        (6, 5, r"prompts\.num_heldout is 5, but of 10 prompts only 4"),
    ],
)
def test_too_few_prompts_are_said_in_numbers(
    num_parallel: int, num_heldout: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"{message}.* 3 rows were refused"):
        split_prompts(some_prompts(10), num_parallel, num_heldout, 0, " 3 rows were refused.")
    assert split_prompts(some_prompts(10), 10, 0, seed=0).counts["parallel"] == 10
