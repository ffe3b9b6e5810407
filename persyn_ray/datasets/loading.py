"""Loads the routed data set of a run in the form that Ray Data, `datasets` or torch takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from persyn_ray.datasets.sources import files_of

if TYPE_CHECKING:  # nobody needs all three
    import datasets

    from persyn_ray.datasets.torch_rows import TorchRows
    from persyn_ray.runtime.read_tables import RayDataset


def ray_dataset(
    source: str, split: str = "train", columns: Sequence[str] | None = None
) -> RayDataset:
    """A Ray Data set of a split's rows, read where it is used.

    Args:
        source: a run folder, or the folder of a data set; any fsspec address.
        columns: those that are read; all by default.

    Raises:
        ConfigError: there is no data set, or no such split.
    """
    from persyn_ray.runtime.read_tables import read_tables

    return read_tables(files_of(source, split), columns)


def hf_dataset(
    source: str, split: str = "train", streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """A data set of Hugging Face's `datasets`; `streaming` reads rows as they are asked for.

    Raises:
        ConfigError: as `ray_dataset`.
    """
    import datasets

    files = {split: files_of(source, split)}
    return datasets.load_dataset("parquet", data_files=files, split=split, streaming=streaming)


def torch_dataset(
    source: str,
    split: str = "train",
    columns: Sequence[str] | None = None,
    rank: int = 0,
    world_size: int = 1,
    seed: int | None = None,
) -> TorchRows:
    """Rows as dicts for a torch DataLoader; see `TorchRows` for ranks, workers and epochs.

    Raises:
        ConfigError: as `ray_dataset`, or the rank is not below the world size.
    """
    from persyn_ray.datasets.torch_rows import TorchRows

    return TorchRows(files_of(source, split), columns, rank, world_size, seed)
