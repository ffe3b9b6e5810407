"""Finds and repairs what a crash or a full disk left in a run, before it resumes.

A table that cannot be read counts as absent: it is set aside (NAME.damaged), and the step that made
it is open again, which makes anew what is missing and keeps the rest. Temporary files of writers
that have died are removed. On object stores a file appears whole or not at all: nothing is looked
for there.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from persyn_ray.errors import DamagedError
from persyn_ray.pipeline.choices import collected_splits
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage import atomic_files
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import read_record

DAMAGED = ".damaged"


@dataclass(frozen=True)
class Damage:
    """A table that cannot be read."""

    folder: Folder
    name: str
    step: str | None
    """The step of this run that made it or asks for it."""
    reason: str

    def set_aside(self) -> None:
        """Take it out of the way, for whoever wants to look at it."""
        path = self.folder.path(self.name)
        os.replace(path, path + DAMAGED)


def find_damage(recipe: Recipe, run: RunLayout) -> Iterator[Damage]:
    """Every table of the run, and of its teachers in its store, that cannot be read."""
    places = [(folder, step.name) for step in STEPS for folder in step.leaves(run)]
    places += [(run.root / "tables" / name, "score") for name in ("learnability", "quality")]
    for folder, step in places:
        for place, name, reason in _unreadable(folder):
            yield Damage(place, name, step, reason)
    if read_record(run.records, "prompts") is None:
        return
    collected = {
        shard.partition(".")[0] for shard in shards_of(run, *collected_splits(recipe.compare))
    }
    for teacher in recipe.teachers:
        ours = run.responses(teacher).address
        for place, name, reason in _unreadable(run.stored_responses(teacher)):
            step = "collect" if name.partition(".")[0] in collected else "synthesize"
            yield Damage(place, name, step if place.address == ours else None, reason)


def remove_leftovers(run: RunLayout) -> None:
    """Remove temporary files of writers that have died, in the run and in its store."""
    for folder in dict.fromkeys((run.root, run.response_store)):
        if folder.is_local:
            atomic_files.remove_abandoned(str(folder.local_path))


def _unreadable(folder: Folder) -> Iterator[tuple[Folder, str, str]]:
    """Folder, name and what is wrong of each Parquet file at or below a folder."""
    if not folder.is_local:
        return
    for root, _, names in os.walk(folder.local_path):
        place = Folder(str(Path(root)))
        for name in sorted(name for name in names if name.endswith(".parquet")):
            try:
                place.num_rows(name)
            except DamagedError as error:
                yield place, name, str(error)
