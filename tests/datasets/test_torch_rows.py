"""Rows for a torch DataLoader: epochs, workers that stay, columns, and copies of a data set."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.datasets import files_of, torch_dataset
from persyn_ray.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 rows in two files of four row groups each."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        ids = list(range(12 * number, 12 * number + 12))
        table = pa.table({"id": ids, "scores": [{"a": one / 2, "b": None} for one in ids]})
        pq.write_table(table, tmp_path / f"data/train-{number:05d}.parquet", row_group_size=3)
    return tmp_path


@pytest.mark.parametrize("stay", [False, True])
def test_every_epoch_has_every_row_once_in_another_order(folder: Path, stay: bool) -> None:
    from torch.utils.data import DataLoader

    rows = torch_dataset(str(folder), columns=["id"], seed=1)
    loader: Any = DataLoader(rows, batch_size=None, num_workers=2, persistent_workers=stay)
    orders = []
    for epoch in (0, 1, 0):
        rows.set_epoch(epoch)
        orders.append([row["id"] for row in loader])
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert orders[0] == orders[2] != orders[1]


def test_more_readers_than_row_groups_still_read_each_row_once(folder: Path) -> None:
    read = Counter[int]()
    for rank in range(11):
        read.update(row["id"] for row in torch_dataset(str(folder), rank=rank, world_size=11))
    assert read == Counter(range(24))


def test_seeds_differ_and_none_is_the_order_of_the_files(folder: Path) -> None:
    def ids(seed: int | None) -> list[int]:
        return [row["id"] for row in torch_dataset(str(folder), seed=seed)]

    assert ids(None) == list(range(24))
    assert ids(1) == ids(1) != ids(2)


def test_columns_are_those_asked_for_also_inside_of_others(folder: Path) -> None:
    (first, *_) = torch_dataset(str(folder), columns=["id"])
    assert first == {"id": 0}
    (_, second, *_) = torch_dataset(str(folder), columns=["scores.a"])
    assert second == {"scores": {"a": 0.5}}


def test_a_misspelt_column_is_no_empty_row(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no column \['score'\].*'scores' is nearest"):
        list(torch_dataset(str(folder), columns=["id", "score"]))


@pytest.mark.parametrize(("rank", "size"), [(-1, 2), (2, 2), (0, 0)])
def test_ranks_outside_of_the_world_are_refused(folder: Path, rank: int, size: int) -> None:
    with pytest.raises(ConfigError, match=f"rank is {rank}"):
        torch_dataset(str(folder), rank=rank, world_size=size)


def test_names_of_a_copy_from_the_hub_are_splits(tmp_path: Path) -> None:
    for name in ("train-00001-of-00002", "train-00000-of-00002", "my-set-00000", "notes"):
        pq.write_table(pa.table({"id": [1]}), tmp_path / f"{name}.parquet")
    (tmp_path / "state.json").write_text(json.dumps({}))
    names = [Path(one).name for one in files_of(str(tmp_path))]
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [Path(one).name for one in files_of(str(tmp_path), "my-set")] == ["my-set-00000.parquet"]
