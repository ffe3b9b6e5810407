"""Read as `sitecustomize` by every process of a run: notes what each step of a training reads, and
kills where it is told to.

FOLDER/watch.json, where FOLDER is $WATCH_STEPS, holds `checkpoints` (the folder whose bytes are
noted), and where asked for `kill_worker_at` and `kill_driver_at` (steps from 0 on).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MODULE = "persyn_ray.models.finetune.student_trainer"
IGNORED = -100
SECONDS_UNTIL_KILLED = 300


class Watched(MetaPathFinder):
    """Finds the trainer's module as it is, and watches its class once that is there."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_watch(module: Any) -> None:
            execute(module)
            watch(module.StudentTrainer, Path(os.environ["WATCH_STEPS"]))

        loader.exec_module = execute_and_watch
        return spec


def watch(trainer_class: Any, folder: Path) -> None:
    """Note every micro-batch before it is trained on."""
    told = json.loads((folder / "watch.json").read_text())
    notes = folder / f"steps-{time.time_ns()}-{os.getpid()}.jsonl"
    train: Callable[..., Any] = trainer_class.training_step

    def training_step(self: Any, model: Any, inputs: Any, *rest: Any, **settings: Any) -> Any:
        step, rank = self.state.global_step, self.args.process_index
        note = {"step": step, "rank": rank, "rows": examples_of(inputs)}
        if rank == 0:
            places = (Path(told["checkpoints"]), Path(self.args.output_dir))
            note["run_bytes"], note["worker_bytes"] = (bytes_in(place) for place in places)
        with notes.open("a") as file:
            file.write(json.dumps(note) + "\n")
        if rank == 1 and step == told.get("kill_worker_at") and is_first(folder / "worker"):
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 0 and step == told.get("kill_driver_at") and is_first(folder / "driver"):
            time.sleep(SECONDS_UNTIL_KILLED)
            os._exit(1)
        return train(self, model, inputs, *rest, **settings)

    trainer_class.training_step = training_step


def examples_of(inputs: Any) -> list[str]:
    """Token ids of every example of a micro-batch, without padding and what fills the batch up."""
    names = ("input_ids", "attention_mask", "labels")
    rows = zip(*(inputs[name].tolist() for name in names), strict=True)
    return [
        " ".join(str(token) for token, is_there in zip(ids, mask, strict=True) if is_there)
        for ids, mask, labels in rows
        if any(label != IGNORED for label in labels)
    ]


def is_first(mark: Path) -> bool:
    """Whether nobody was here before."""
    if mark.exists():
        return False
    mark.touch()
    return True


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may just go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


sys.meta_path.insert(0, Watched())
