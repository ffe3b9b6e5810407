"""Logs of trainings: what the Trainer logs in; JSON lines, progress and trackers' files out.

The Trainer's own callbacks speak to trackers. Where they write is set here before each training, in
their environment variables, unless the user has set these.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from persyn_ray.errors import ConfigError
from persyn_ray.runtime.train.workers import PROGRESS_FILE
from persyn_ray.storage.layout import RunLayout

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
"""Any of which a tracker needs."""


class TrainingLogs:
    """Logs of the trainings of a step, one after the other, on one worker.

    Args:
        report_to: trackers beside the run's own log.

    Raises:
        ConfigError: a tracker's package is not installed.
    """

    def __init__(self, run: RunLayout, step: str, report_to: Sequence[str] = ()) -> None:
        for name in report_to:
            if not any(find_spec(package) for package in PACKAGES[name]):
                raise ConfigError(
                    f"report_to names {name}, whose package is not installed: "
                    f"pip install {PACKAGES[name][0]}."
                )
        self._logs, self._records, self._report_to = run.logs(step), run.records, tuple(report_to)
        self._theirs = frozenset(os.environ)

    def begin(self, what: str) -> "TrainerCallback":
        """Start on a training, before its Trainer is made.

        Returns:
            A Trainer callback that files the log and how far the training is.
        """
        self.end()
        name = re.sub(r"\W+", "-", what).strip("-")
        if self._logs.is_local and self._report_to:
            self._place_trackers(name)
        return self._writer(what, f"{name}.jsonl")

    def end(self) -> None:
        """End a tracker's run, so that the next training gets one of its own."""
        if "wandb" in self._report_to:
            import wandb  # pyright: ignore[reportMissingImports]

            if wandb.run is not None:
                wandb.finish()
                wandb.teardown()  # it reads its environment, the next name in it, once a session

    def _place_trackers(self, name: str) -> None:
        root = self._logs.local_path
        places = {
            "TENSORBOARD_LOGGING_DIR": str(root / "tensorboard" / name),
            "WANDB_DIR": str(root),
            "WANDB_NAME": name,
            "MLFLOW_TRACKING_URI": (root / "mlflow").as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",  # newer ones refuse files otherwise
        }
        for variable, value in places.items():
            if variable.lower().startswith(self._report_to) and variable not in self._theirs:
                os.environ[variable] = value
        root.mkdir(parents=True, exist_ok=True)

    def _writer(self, what: str, file: str) -> "TrainerCallback":
        from transformers import TrainerCallback

        logs, records = self._logs, self._records

        class WriteLog(TrainerCallback):
            def on_log(
                self,
                args: "TrainingArguments",
                state: "TrainerState",
                control: "TrainerControl",
                **kwargs: Any,
            ) -> None:
                if not (state.is_world_process_zero and state.log_history):
                    return
                # With what was logged before a training was resumed.
                lines = (json.dumps(entry) for entry in state.log_history)
                logs.write_text(file, "".join(f"{line}\n" for line in lines))
                last = state.log_history[-1]
                loss = last.get("loss", last.get("eval_loss", last.get("train_loss", 0.0)))
                steps = {"step": state.global_step, "steps": state.max_steps, "loss": loss}
                records.write_json(PROGRESS_FILE, {"what": what, **steps})

        return WriteLog()
