"""Encodes a method's training examples once, each worker its share, and maps them on every worker.

Shares go through files in the run's checkpoints, so that nothing but the examples of the batch at
hand becomes a Python object on any worker. A file system that cannot be mapped is read from a copy.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import ray.train
from ray.train.collective import barrier

from persyn_ray.errors import StepError
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

    from persyn_ray.stages.encode import LeftOut


@dataclass(frozen=True)
class Encoded:
    """The examples of a method that a student is tuned on, and what became of the others."""

    table: "pa.Table"
    """Of the schema TOKENS, mapped."""
    left_out: "LeftOut"


def tokens_folder(run: RunLayout, method: str) -> Folder:
    """Where the shares of a method's examples lie while it is trained."""
    return run.checkpoints / "tokens" / method


def encode_together(
    run: RunLayout,
    student: StudentConfig,
    config: FinetuneConfig,
    method: str,
    tokenizer: "PreTrainedTokenizerBase",
    scratch: Path,
) -> Encoded:
    """Encode this worker's share of a method's examples, and map those of all workers.

    Called by every worker of a training run, and no worker goes on before all are done.

    Args:
        scratch: a folder of this worker alone.

    Raises:
        ConfigError: the chat template breaks every conversation.
        StepError: an example is too long where the recipe forbids it, or none is left.
    """
    from persyn_ray.models.finetune.token_table import map_tokens
    from persyn_ray.stages.encode import LeftOut, require_examples

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = tokens_folder(run, method)
    _write_share(run, student, config, method, tokenizer, scratch, (rank, world))
    barrier()
    left_out = LeftOut()
    for number in range(world):
        said = folder.read_json(f"{number}.json")
        if said.get("error"):
            raise StepError(said["error"])
        counts = Counter(said.pop("too_long"))
        left_out.add(LeftOut(counts, **said))
    here = folder.local_path if folder.is_local else folder.download(scratch / "tokens")
    table = map_tokens([here / f"{number}.arrow" for number in range(world)])
    require_examples(method, table.num_rows, config.max_length, left_out)
    return Encoded(table, left_out)


def _write_share(
    run: RunLayout,
    student: StudentConfig,
    config: FinetuneConfig,
    method: str,
    tokenizer: "PreTrainedTokenizerBase",
    scratch: Path,
    share: tuple[int, int],
) -> None:
    """Write every so many-th example as token ids, or why that cannot be done."""
    from persyn_ray.models.finetune.token_table import write_tokens
    from persyn_ray.stages.encode import Encoder

    rank, folder = share[0], tokens_folder(run, method)
    encode = Encoder(tokenizer, student, config.max_length, config.too_long)
    try:
        table = encode(_share(run, method, *share))
    except StepError as error:  # told to all workers, which would wait for this one
        folder.write_json(f"{rank}.json", {"error": str(error)})
        return
    write_tokens(scratch / "share.arrow", table)
    folder.move_in(scratch / "share.arrow", f"{rank}.arrow")
    folder.write_json(f"{rank}.json", vars(encode.left_out))


def _share(run: RunLayout, method: str, rank: int, world: int) -> "Iterator[pa.Table]":
    """Rows of this worker: of `world` consecutive ones the one at its place."""
    for _, table in run.examples(method).tables():
        yield table.take(np.arange(rank, table.num_rows, world))
