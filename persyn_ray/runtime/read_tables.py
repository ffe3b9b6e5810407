"""Reads parquet files as a Ray Data set, from any fsspec address."""

from collections.abc import Sequence

import fsspec
import ray.data

RayDataset = ray.data.Dataset


def read_tables(files: Sequence[str], columns: Sequence[str] | None = None) -> RayDataset:
    """A data set of the files' rows; `columns`: those that are read, all by default."""
    system, _ = fsspec.core.url_to_fs(files[0])
    paths = [fsspec.core.url_to_fs(file)[1] for file in files]
    rows = ray.data.read_parquet(paths, filesystem=system)
    return rows if columns is None else rows.select_columns(list(columns))
