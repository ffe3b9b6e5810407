"""The routed data of a run in Python: every row once, in each form."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.datasets import files_of, hf_dataset, torch_dataset
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import PERSYN, RunLayout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of 35 rows in three files and several row groups, and another split."""
    data = tmp_path / "set" / "data"
    data.mkdir(parents=True)
    for number, (start, stop) in enumerate(((0, 14), (14, 20), (20, 35))):
        rows = [
            {"id": row, "teacher": f"t{row % 3}", "messages": [{"role": "user", "content": "x"}]}
            for row in range(start, stop)
        ]
        path = data / f"train-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    pq.write_table(pa.table({"id": [100]}), data / "heldout-00000.parquet")
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path / "set"


def test_a_run_and_its_data_set_are_the_same(finished: tuple[Recipe, RunLayout]) -> None:
    _, run = finished
    examples = sum(table.num_rows for _, table in run.examples(PERSYN).tables())
    for source in (run.root.address, run.dataset.address, (run.dataset / "data").address):
        rows = list(torch_dataset(source))
        assert len(rows) == examples > 0
        assert rows[0]["messages"][-1]["role"] == "assistant"


def test_datasets_reads_every_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    whole = hf_dataset(str(folder))
    assert [row["id"] for row in whole] == list(range(35))
    assert whole[0]["messages"] == [{"role": "user", "content": "x"}]
    assert [row["id"] for row in hf_dataset(str(folder), streaming=True)] == list(range(35))
    assert [row["id"] for row in hf_dataset(str(folder), "heldout")] == [100]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", [None, 5])
def test_ranks_and_workers_share_the_rows(folder: Path, workers: int, seed: int | None) -> None:
    from torch.utils.data import DataLoader

    def ids(rank: int, epoch: int = 0) -> list[int]:
        rows = torch_dataset(str(folder), columns=["id"], rank=rank, world_size=2, seed=seed)
        rows.set_epoch(epoch)
        loader: Any = DataLoader(rows, batch_size=None, num_workers=workers)
        return [row["id"] for row in loader]

    first, second = ids(0), ids(1)
    assert sorted(first + second) == list(range(35))
    assert min(len(first), len(second)) > 8
    assert ids(0) == first
    if seed is None and not workers:
        assert first == sorted(first)
    if seed is not None:
        assert first != sorted(first)
        assert ids(0, epoch=1) != first


def test_what_is_not_there_is_told(folder: Path, tmp_path: Path) -> None:
    assert len(files_of(str(folder))) == 3
    with pytest.raises(ConfigError, match=r"no split 'test'; it has \['heldout', 'train'\]"):
        files_of(str(folder), "test")
    with pytest.raises(ConfigError, match="holds no data set"):
        hf_dataset(str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="rank is 2"):
        torch_dataset(str(folder), rank=2, world_size=2)


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    import subprocess
    import sys

    code = "import sys, persyn_ray.datasets; print({'ray', 'torch', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
