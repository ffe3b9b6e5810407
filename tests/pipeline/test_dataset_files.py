"""Files of the data set: their sizes and order, empty splits, and a kill while they are written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from persyn_ray.pipeline.dataset import data_files, is_outdated, num_examples, write_dataset
from persyn_ray.recipe.data import DatasetConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import ROUTED

TEXTS = (
    "",
    "\x00 nul",
    "2026-11-26",
    "line\u2028separator",
    "<|im_end|>",
    "\U0001f469\u200d\u2695",
)


@dataclass
class Batches:
    """Rows of some splits, in batches of given sizes; after `dies_after` of them it raises."""

    sizes: dict[str, list[int]]
    dies_after: int | None = None

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        start = 0
        for place, size in enumerate(self.sizes.get(split, [])):
            if place == self.dies_after:
                raise KeyboardInterrupt
            yield batch(split, start, size)
            start += size


def batch(split: str, start: int, size: int) -> pa.RecordBatch:
    numbers = range(start, start + size)
    known = {
        "id": [f"{split}-{number}" for number in numbers],
        "prompt_id": [f"p{number}" for number in numbers],
        "split": [split] * size,
        "messages": [[{"role": "user", "content": TEXTS[n % len(TEXTS)]}] for n in numbers],
        "source": ["prompts.jsonl:1"] * size,
    }
    columns = [pa.array(known.get(field.name, [None] * size), field.type) for field in ROUTED]
    return pa.RecordBatch.from_arrays(columns, schema=ROUTED)


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    return RunLayout(Folder(str(tmp_path / "run")))


def write(run: RunLayout, rows: Batches, **section: object) -> DatasetConfig:
    made = DatasetConfig.model_validate(section)
    write_dataset(run, rows, made)  # pyright: ignore[reportArgumentType]
    return made


def test_small_shards_share_a_file_and_large_sets_have_several(run: RunLayout) -> None:
    sizes = [20_000] * 6 + [0, 7]
    section = write(run, Batches({"train": sizes}), columns=["id", "messages"])
    data = run.dataset / "data"
    assert data.names() == [f"train-{number:05d}.parquet" for number in range(3)]
    counts = [data.num_rows(name) for name in data.names()]
    assert sum(counts) == num_examples(run) == 120_007
    assert all(50_000 <= count < 70_000 for count in counts[:-1])
    ids = [name for _, table in data.tables(["id"]) for name in table["id"].to_pylist()]
    assert ids == [f"train-{number}" for number in range(120_007)]
    assert data_files(run, section) == {"train": "data/train-*.parquet"}


def test_texts_come_back_as_they_were(run: RunLayout) -> None:
    write(run, Batches({"train": [4, 8]}), splits=["train"])
    ((_, table),) = (run.dataset / "data").tables()
    assert table.schema.equals(ROUTED)
    assert [row[0]["content"] for row in table["messages"].to_pylist()] == list(TEXTS) * 2


def test_a_split_without_rows_has_no_file_and_is_not_announced(run: RunLayout) -> None:
    rows = Batches({"train": [3], "parallel": [0, 0], "heldout": []})
    section = write(run, rows, splits=["train", "parallel", "heldout"])
    assert (run.dataset / "data").names() == ["train-00000.parquet"]
    assert list(data_files(run, section)) == ["train"]
    assert not is_outdated(run, section)


def test_each_split_has_files_of_its_own(run: RunLayout) -> None:
    rows = Batches({"train": [3], "parallel": [5], "heldout": [2]})
    section = write(run, rows, splits=["heldout", "parallel", "train"])
    assert num_examples(run) == 3
    assert set(data_files(run, section)) == {"train", "parallel", "heldout"}
    for name, table in (run.dataset / "data").tables():
        assert set(table["split"].to_pylist()) == {name.split("-")[0]}


def test_a_data_set_whose_writing_was_killed_is_written_anew(run: RunLayout) -> None:
    whole = {"train": [60_000, 60_000, 5]}
    section = write(run, Batches(whole), columns=["messages"])
    assert not is_outdated(run, section)
    with pytest.raises(KeyboardInterrupt):
        write(run, Batches(whole, dies_after=1), columns=["messages"])
    assert is_outdated(run, section)
    write(run, Batches({"train": [5]}), columns=["messages"])
    assert not is_outdated(run, section)
    assert num_examples(run) == 5


@pytest.mark.parametrize("change", [{"columns": ["messages", "id"]}, {"splits": ["heldout"]}])
def test_other_columns_or_splits_make_it_outdated(
    change: dict[str, object], run: RunLayout
) -> None:
    first = {"columns": ["messages"], "splits": ["train"]}
    section = write(run, Batches({"train": [1]}), **first)
    assert not is_outdated(run, section)
    assert is_outdated(run, DatasetConfig.model_validate(first | change))


def test_the_order_in_which_columns_are_named_does_not_matter(run: RunLayout) -> None:
    write(run, Batches({"train": [1]}), columns=["messages", "id"])
    assert not is_outdated(run, DatasetConfig(columns=("id", "messages")))
    ((_, table),) = (run.dataset / "data").tables()
    assert table.column_names == ["id", "messages"]
