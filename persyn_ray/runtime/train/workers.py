"""Runs a training loop on Ray Train workers: a loop and what it is told in, its failure out.

The Trainer finds the process group that Ray set up. Checkpoints go through Ray Train, so that a
worker's death or a new start goes on from the last one.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import ray.train
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer

from persyn_ray.errors import PersynError, StepError
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.runtime.pools import describe
from persyn_ray.runtime.train.shared_storage import nodes_for, require_shared, sees
from persyn_ray.storage.layout import RunLayout

FAILURE_FILE = "training.failed"
PROGRESS_FILE = "training.progress"  # in the records: what is trained and how far it is


@dataclass(frozen=True)
class Training:
    """What every worker of a training is told."""

    run: RunLayout
    resources: TrainResourcesConfig


_Training = TypeVar("_Training", bound=Training)


def clear(run: RunLayout) -> None:
    """Remove what an earlier training left for the driver to read."""
    for leftover in (FAILURE_FILE, PROGRESS_FILE):
        run.records.remove(leftover)


def train_on_workers(loop: Callable[[_Training], None], training: _Training, name: str) -> None:
    """Run a loop on all workers of a training, going on from its last checkpoint.

    Raises:
        StepError: it failed, with what is wrong; or nodes do not see the run folder.
    """
    resources, records = training.resources, training.run.records
    trainer = TorchTrainer(
        partial(_on_worker, loop, training, os.getcwd()),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, "GPU": resources.gpus},
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=training.run.checkpoints.address,
            failure_config=ray.train.FailureConfig(max_failures=resources.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        require_shared(records, nodes_for(resources), sees)
        trainer.fit()
    except (RayError, ray.train.TrainingFailedError) as error:
        raise StepError(f"Training {name} failed. {describe(error)}") from error
    if records.exists(FAILURE_FILE):
        raise StepError(f"Training {name} failed. {records.read_text(FAILURE_FILE)}")


def _on_worker(loop: Callable[[_Training], None], training: _Training, folder: str) -> None:
    """Run a loop; what is wrong with the recipe or the data is told once instead of tried again.

    Args:
        folder: the driver's working folder, which relative paths of the recipe start from.
    """
    try:
        prepare_worker(training.resources, folder)
        loop(training)
    except PersynError as error:
        # It follows from the data, so every worker has met it and none waits for another.
        if ray.train.get_context().get_world_rank() == 0:
            training.run.records.write_text(FAILURE_FILE, str(error))


def prepare_worker(resources: TrainResourcesConfig, folder: str) -> None:
    """Common start of both loops: working folder and threads."""
    import torch

    if os.path.isdir(folder):
        os.chdir(folder)
    if not resources.gpus:
        torch.set_num_threads(max(1, int(resources.cpus)))
