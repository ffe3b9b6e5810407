"""Keeps the best student of a training while it goes on: a trainer and its step in, a folder out.

It lies with the checkpoints, where a training that goes on after a worker's death finds it.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True)
class BestStudents:
    """The best student of a method so far, and the one before it.

    The last checkpoint may still know the latter as the best.
    """

    run: RunLayout
    method: str
    save: "Callable[[Trainer, Path], None]"
    """Saves a student in a folder; every worker takes part."""
    scratch: Path
    """A folder of this worker alone."""

    def keep(self, trainer: "Trainer", step: int) -> None:
        """Keep the student as it is now; called on every worker."""
        self.save(trainer, self.scratch)
        if not trainer.is_world_process_zero():
            return
        kept = sorted(int(name) for name in self._folder.names() if int(name) != step)
        for older in kept[:-1]:
            self.run.remove(self.student(older))
        self.student(step).upload(self.scratch)
        shutil.rmtree(self.scratch)

    def student(self, step: int) -> Folder:
        """Where the student of a step lies."""
        return self._folder / str(step)

    @property
    def _folder(self) -> Folder:
        return self.run.checkpoints / "best" / self.method
