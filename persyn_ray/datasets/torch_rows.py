"""Rows of parquet files as a torch IterableDataset: each row once, over all ranks and workers.

Row groups are dealt out in turns, so nobody reads what another one yields. With a seed they come in
another order in every epoch (`set_epoch`), and rows are drawn from a buffer; without one rows come
as they lie.
"""

import random
from collections.abc import Iterator, Sequence

import fsspec
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info

from persyn_ray.data.files.rows import Row, require
from persyn_ray.errors import ConfigError
from persyn_ray.storage.folder_errors import read_as_table

BUFFER_ROWS = 2048


class TorchRows(IterableDataset[Row]):
    """An iterable over rows as dicts; `collate_fn` of the DataLoader makes batches of them.

    A column that a file lacks is refused (ConfigError) when that file is read.
    """

    def __init__(
        self,
        files: Sequence[str],
        columns: Sequence[str] | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}; of {world_size} it must be from 0 to one less.")
        self.files, self.columns = list(files), None if columns is None else list(columns)
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that stay see it

    def set_epoch(self, epoch: int) -> None:
        """The order of this epoch, for the next iteration."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        groups = [(file, group) for file in self.files for group in range(_num_groups(file))]
        draw = None if self.seed is None else random.Random(f"{self.seed}:{self._epoch.item()}")
        if draw is not None:
            draw.shuffle(groups)  # alike for all, before they are dealt out
        mine = groups[self.rank * workers + worker :: self.world_size * workers]
        rows = (row for file, group in mine for row in self._rows(file, group))
        return rows if draw is None else _drawn(rows, draw)

    def _rows(self, file: str, group: int) -> Iterator[Row]:
        with fsspec.open(file, "rb") as handle, read_as_table(file):
            source = pq.ParquetFile(  # pyright: ignore[reportArgumentType]
                handle, page_checksum_verification=True
            )
            names = source.schema_arrow.names
            asked = [one if one in names else one.partition(".")[0] for one in self.columns or ()]
            require(asked, names, file, "columns")
            for batch in source.iter_batches(row_groups=[group], columns=self.columns):
                yield from batch.to_pylist()


def _num_groups(file: str) -> int:
    with fsspec.open(file, "rb") as handle:
        return pq.ParquetFile(handle).num_row_groups  # pyright: ignore[reportArgumentType]


def _drawn(rows: Iterator[Row], draw: random.Random) -> Iterator[Row]:
    """Rows in drawn order, by way of a buffer."""
    buffer: list[Row] = []
    for row in rows:
        buffer.append(row)
        if len(buffer) >= BUFFER_ROWS:
            place = draw.randrange(len(buffer))
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()
    draw.shuffle(buffer)
    yield from buffer
