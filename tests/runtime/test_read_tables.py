"""The routed data of a run as a Ray Data set."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.datasets import ray_dataset
from persyn_ray.runtime.session import Cluster

pytestmark = pytest.mark.ray


def test_every_row_comes_once_with_the_columns_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    data = tmp_path / "run" / "dataset" / "data"
    data.mkdir(parents=True)
    for number in range(3):
        ids = range(10 * number, 10 * number + 10)
        table = pa.table({"id": ids, "teacher": ["a", "b"] * 5, "text": ["x"] * 10})
        pq.write_table(table, data / f"train-{number:05d}.parquet")
    rows = ray_dataset(str(tmp_path / "run"), columns=["id", "teacher"]).take_all()
    assert sorted(row["id"] for row in rows) == list(range(30))
    assert set(rows[0]) == {"id", "teacher"}
