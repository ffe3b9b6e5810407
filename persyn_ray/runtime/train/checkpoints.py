"""Checkpoints of a student's training through Ray Train: handed over, taken up, told apart.

Every worker writes its part and hands it over; Ray joins the parts in the run folder while training
goes on, and what was handed over leaves the worker's disk. A node that is going to be taken away
makes all workers write one at once. A checkpoint says whose student it is and how it was
partitioned; a worker fetches its own student's alone.
"""

import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
import ray.train.collective
from pydantic import TypeAdapter

from persyn_ray.errors import StepError
from persyn_ray.storage.folder import Folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback, TrainerState, TrainingArguments

MARK_FILE = "student.json"  # in a checkpoint
LOOK_SECONDS = 0.1
LOOKS_EVERY = 5.0  # seconds, for nodes that are going to be taken away
GIB = 1 << 30


@dataclass(frozen=True)
class CheckpointMark:
    """What a checkpoint is of."""

    method: str
    """Whose student."""
    num_workers: int
    zero_stage: int


@contextmanager
def last_checkpoint(mark: CheckpointMark) -> Generator[Path | None]:
    """Folder of the last checkpoint of this student, as long as it is needed; once on each node.

    Raises:
        StepError: it is partitioned for another number of workers, or in another way.
    """
    checkpoint = ray.train.get_checkpoint()
    found = None if checkpoint is None else _mark_of(checkpoint)
    if checkpoint is None or found is None or found.method != mark.method:
        yield None
        return
    is_other = found.num_workers != mark.num_workers or found.zero_stage != mark.zero_stage
    if is_other and max(found.zero_stage, mark.zero_stage) > 0:
        raise StepError(
            f"The last checkpoint of student {mark.method} was written by {found.num_workers} "
            f"workers with ZeRO stage {found.zero_stage}, which {mark.num_workers} with stage "
            f"{mark.zero_stage} cannot load. Go on from it with resources.finetune.workers "
            f"{found.num_workers} and finetune.deepspeed as it was, or start over with "
            "`persyn run RECIPE --from finetune`."
        )
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def _mark_of(checkpoint: ray.train.Checkpoint) -> CheckpointMark | None:
    """What a checkpoint is of, read without fetching the rest of it."""
    files: Any = checkpoint.filesystem
    try:
        with files.open_input_stream(f"{checkpoint.path.rstrip('/')}/{MARK_FILE}") as stream:
            return TypeAdapter(CheckpointMark).validate_json(stream.read())
    except FileNotFoundError:
        return None


class CheckpointReporter:
    """Hands every checkpoint of a training to Ray Train, on all workers.

    Training goes on while one is uploaded. No other is written before that is done, so that a
    worker's disk never holds two.
    """

    def __init__(self, mark: CheckpointMark) -> None:
        self._mark = mark
        self._uploading: Path | None = None
        self._before: str | None = None
        self._noticed: set[str] = set()
        self._steps = self._next_look = 0
        self._looked_at = 0.0

    def is_wanted_now(self) -> bool:
        """Whether a node of this training is going to be taken away, and no checkpoint was asked
        for since; the same on all workers, which must all ask after every step.

        Ray Train's own answer makes all workers wait for one another, and changes every five
        seconds at most: it is fetched that often, at steps that the first worker chooses for all.
        """
        self._steps += 1
        if self._steps < self._next_look:
            return False
        info = ray.train.get_preemption_info()
        seconds = (now := time.monotonic()) - self._looked_at
        num = max(1, int(LOOKS_EVERY * self._steps / max(seconds, 1e-3))) if self._next_look else 1
        self._next_look = ray.train.collective.broadcast_from_rank_zero(num)
        self._looked_at, self._steps = now, 0
        nodes = set(info.preempted_node_ids) if info else set[str]()
        is_news = not nodes <= self._noticed
        self._noticed |= nodes
        return is_news

    def hand_over(self, folder: Path, step: int) -> None:
        """Begin to upload a checkpoint; Ray Train deletes the folder when that is done."""
        self.wait()
        folder.mkdir(exist_ok=True)
        (folder / MARK_FILE).write_bytes(TypeAdapter(CheckpointMark).dump_json(self._mark))
        before = _last_path()
        ray.train.report(
            {"step": step},
            checkpoint=ray.train.Checkpoint.from_directory(str(folder)),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
        self._uploading, self._before = folder, before

    def wait(self) -> None:
        """Until what was handed over is uploaded; Ray Train ends the worker where that fails."""
        if self._uploading is None:
            return
        # A folder that cannot be deleted is uploaded all the same.
        while self._uploading.exists() and _last_path() == self._before:
            time.sleep(LOOK_SECONDS)
        shutil.rmtree(self._uploading, ignore_errors=True)
        self._uploading = None


def _last_path() -> str | None:
    """Where the last checkpoint lies that this worker has reported."""
    checkpoint = ray.train.get_checkpoint()
    return None if checkpoint is None else checkpoint.path


@contextmanager
def reporting(mark: CheckpointMark) -> Generator[CheckpointReporter]:
    """Reports a student's checkpoints, and waits for the last one at the end."""
    reporter = CheckpointReporter(mark)
    try:
        yield reporter
    finally:
        reporter.wait()


def checkpoint_callback(reporter: CheckpointReporter) -> "TrainerCallback":
    """A Trainer callback that reports checkpoints, and asks for one when a node of the training is
    going to be taken away.
    """
    from transformers import TrainerCallback

    class ReportCheckpoint(TrainerCallback):
        def on_step_end(
            self, args: "TrainingArguments", state: "TrainerState", control: Any, **kwargs: Any
        ) -> None:
            if reporter.is_wanted_now():
                control.should_save = True
            if control.should_save:
                reporter.wait()

        def on_save(
            self, args: "TrainingArguments", state: "TrainerState", control: Any, **kwargs: Any
        ) -> None:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            reporter.hand_over(folder, state.global_step)

    return ReportCheckpoint()


def room_keeper(storage: Folder) -> "TrainerCallback":
    """A Trainer callback that refuses to train where a disk has no room for checkpoints.

    Args:
        storage: where checkpoints are kept.
    """
    from transformers import TrainerCallback

    from persyn_ray.models.finetune.train import checkpoint_bytes

    class RequireRoom(TrainerCallback):
        def on_train_begin(
            self,
            args: "TrainingArguments",
            state: "TrainerState",
            control: Any,
            *,
            model: "PreTrainedModel",
            **kwargs: Any,
        ) -> None:
            # One is written at the end, however rare they are.
            _require_room(checkpoint_bytes(model), Path(str(args.output_dir)), storage)

    return RequireRoom()


def _require_room(needed: int, scratch: Path, storage: Folder) -> None:
    """Refuse disks without room; all workers do, so that none waits for another."""
    import torch

    context = ray.train.get_context()
    share = -(-needed * context.get_local_world_size() // context.get_world_size())
    wants = {scratch: share}
    if storage.is_local:
        # Ray Train deletes one when the next is registered, while a third is uploaded (measured by
        # benchmarks/sft.py, part kill).
        wants[storage.local_path] = 3 * needed
    told: list[str | None] = [None] * context.get_world_size()
    torch.distributed.all_gather_object(told, _lack_of_room(wants))
    if lacks := [text for text in told if text is not None]:
        raise StepError(
            f"No room for checkpoints of {needed / GIB:.1f} GiB: {lacks[0]}. Free some, or name a "
            "`run` on a larger disk."
        )


def _lack_of_room(wants: dict[Path, int]) -> str | None:
    """Which disk has less room than all that is wanted of it, in a sentence."""
    of_disk: dict[int, int] = {}
    for path, num_bytes in wants.items():
        there = next(place for place in (path, *path.parents) if place.exists())
        device = os.stat(there).st_dev
        of_disk[device] = of_disk.get(device, 0) + num_bytes
        free = shutil.disk_usage(there).free
        if free < of_disk[device]:
            return (
                f"the disk of {path} has {free / GIB:.1f} GiB left of the "
                f"{of_disk[device] / GIB:.1f} GiB that are needed"
            )
    return None
