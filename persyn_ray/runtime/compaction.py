"""Compacts tables in tasks of the cluster: folders with many small parts in, few large ones out."""

from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from persyn_ray.errors import StepError
from persyn_ray.runtime.pools import describe
from persyn_ray.shards.compaction import compact
from persyn_ray.shards.part_files import parts_in
from persyn_ray.storage.folder import Folder

FEWEST_PARTS = 16
"""Parts that a table may have without anybody being slowed down by them."""


def compact_tables(folders: Sequence[Folder]) -> None:
    """Put together the small parts of those tables that have many; rows stay as they are.

    Raises:
        StepError: a table cannot be read or written.
    """
    many = [folder for folder in folders if len(parts_in(folder)) > FEWEST_PARTS]
    if not many:
        return
    # No CPUs of the plan: by now the actors of the step are going or gone.
    task = ray.remote(compact).options(num_cpus=0)
    try:
        ray.get([task.remote(folder) for folder in many])
    except RayError as error:
        raise StepError(f"Tables could not be compacted. {describe(error)}") from error
