"""A training of one or two workers on a cluster that changes: a raylet is drained and dies. Prints
what it saw as one JSON line; run by test_changing_workers.py in a process of its own, with
RAY_AUTH_MODE=disabled: its raylets have no token.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import ray.cloudpickle
from elastic_cluster import MEMORY, Run, drain, until, with_head

from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.runtime.train.checkpoints import (
    CheckpointMark,
    checkpoint_callback,
    last_checkpoint,
    reporting,
)
from persyn_ray.runtime.train.workers import Training, train_on_workers
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
NUM_STEPS = 60
SECONDS = 0.5
"""Of a step, until `HURRY` is there."""
HURRY = "hurry"
NOTES = "steps.jsonl"
NOTICE = 20
"""Seconds before the node is gone; Ray Train looks for notices every five."""
RARE = 1000
"""Steps between two checkpoints: none is written but for a notice."""


def train(folder: str, training: Training) -> None:
    """Steps as the Trainer makes them, with its callback; notes each in a file."""
    import ray.train

    context, place = ray.train.get_context(), Path(folder)
    num, rank = context.get_world_size(), context.get_world_rank()
    mark = CheckpointMark("persyn", num, zero_stage=0)
    output = place / f"worker-{os.getpid()}"
    with last_checkpoint(mark) as resume, reporting(mark) as reporter:
        begin = int((resume / "step").read_text()) if resume else 0
        callback: Any = checkpoint_callback(reporter)
        for step in range(begin + 1, NUM_STEPS + 1):
            time.sleep(0.01 if (place / HURRY).exists() else SECONDS)
            state = SimpleNamespace(output_dir=str(output)), SimpleNamespace(global_step=step)
            control = SimpleNamespace(should_save=step % RARE == 0)
            callback.on_step_end(*state, control)
            if control.should_save:
                made = output / f"checkpoint-{step}"
                made.mkdir(parents=True)
                (made / "step").write_text(str(step))
                callback.on_save(*state, control)
            if rank == 0:
                node = ray.get_runtime_context().get_node_id()
                note = {"step": step, "workers": num, "from": begin, "saved": control.should_save}
                with (place / NOTES).open("a") as file:
                    file.write(json.dumps(note | {"node": node}) + "\n")


def steps_in(folder: Path) -> list[dict[str, Any]]:
    path = folder / NOTES
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def main() -> None:
    folder = Path(sys.argv[1])
    cluster = with_head()
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in "ab"]
    cluster.wait_for_nodes()
    resources = TrainResourcesConfig.model_validate({"workers": [1, 2], "max_failures": 0})
    training = Training(RunLayout(Folder(str(folder / "run"))), resources)
    run = Run(_yields(partial(train_on_workers, partial(train, str(folder)), training, "test")))
    run.start()
    until(lambda: run.failure or len(steps_in(folder)) > 3)
    assert not run.failure, run.failure
    began_with = steps_in(folder)[0]["workers"]

    # Not that of the first worker, which keeps notes.
    going = next(node for node in nodes if node.node_id != steps_in(folder)[0]["node"])
    noticed_at = steps_in(folder)[-1]["step"]
    goes_at = time.monotonic() + NOTICE
    is_accepted = drain(cluster, going.node_id, NOTICE)
    until(lambda: run.failure or any(one["saved"] for one in steps_in(folder)))
    saved = [one["step"] for one in steps_in(folder) if one["saved"]]
    until(lambda: run.failure or time.monotonic() > goes_at)
    cluster.remove_node(going, allow_graceful=False)
    until(lambda: run.failure or any(one["workers"] == 1 for one in steps_in(folder)))
    (folder / HURRY).touch()
    run.join(300)
    steps = steps_in(folder)
    seen = {
        "failure": run.failure,
        "alive": run.is_alive(),
        "began_with": began_with,
        "drain_accepted": is_accepted,
        "noticed_at": noticed_at,
        "saved": saved,
        "went_on_from": [one["from"] for one in steps if one["workers"] == 1][:1],
        "last": steps[-1]["step"],
        "alone": sorted({one["step"] for one in steps if one["workers"] == 1}),
    }
    print(json.dumps({"training": seen}))
    ray.shutdown()
    cluster.shutdown()


def _yields(work: Any) -> Any:
    work()
    yield from ()


if __name__ == "__main__":
    main()
