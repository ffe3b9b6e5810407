"""Finds and repairs what a crash or a full disk left in a run, before it resumes.

A table that cannot be read counts as absent: it is set aside (NAME.damaged), and the step that made
it is open again, which makes anew what is missing and keeps the rest. Temporary files of writers
that have died are removed. On object stores a file appears whole or not at all.

Looking at the footers is cheap, and is done before each run. What is damaged behind a sound footer
is only found by reading everything (`with_pages`): on request, and after a step that met such.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from persyn_ray.errors import DamagedError
from persyn_ray.pipeline.choices import collected_splits
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import parts_in, shard_number
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
        if self.folder.is_local:
            path = self.folder.path(self.name)
            os.replace(path, path + DAMAGED)
        else:
            self.folder.write_bytes(self.name + DAMAGED, self.folder.read_bytes(self.name))
            self.folder.remove(self.name)


def find_damage(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    compare: CompareConfig,
    with_pages: bool = False,
) -> Iterator[Damage]:
    """Every table of the run, and of its teachers in its store, that cannot be read.

    Args:
        compare: says which splits step collect asks for, and so whose table a response's is.
        with_pages: read all of every table, not the footers alone.
    """
    places = [(folder, step.name) for step in STEPS for folder in step.leaves(run)]
    places += [(run.root / "tables" / name, "score") for name in ("learnability", "quality")]
    for folder, step in places:
        for place, name, reason in _unreadable(folder, with_pages):
            yield Damage(place, name, step, reason)
    if read_record(run.records, "prompts") is None:
        return
    collected = {shard_number(shard) for shard in shards_of(run, *collected_splits(compare))}
    for teacher in teachers:
        ours = run.responses(teacher).address
        for place, name, reason in _unreadable(run.stored_responses(teacher), with_pages):
            step = _asking(place, name, collected) if place.address == ours else None
            yield Damage(place, name, step, reason)


def remove_leftovers(run: RunLayout) -> None:
    """Remove temporary files of writers that have died, in the run and in its store."""
    for folder in dict.fromkeys((run.root, run.response_store)):
        if folder.is_local:
            atomic_files.remove_abandoned(str(folder.local_path))


def _asking(folder: Folder, name: str, collected: set[int]) -> str:
    """The first step that asks for what a part file of responses may hold; later ones follow it."""
    (held,) = [range(p.first, p.last + 1) for p in parts_in(folder) if p.name == name] or [()]
    return "synthesize" if collected.isdisjoint(held) else "collect"


def _unreadable(folder: Folder, with_pages: bool) -> Iterator[tuple[Folder, str, str]]:
    """Folder, name and what is wrong of each Parquet file at or below a folder."""
    if not folder.is_local and not with_pages:
        return
    for path in folder.names_below(".parquet"):
        above, _, name = path.rpartition("/")
        place = folder / above if above else folder
        try:
            if with_pages:
                place.require_whole(name)
            else:
                place.num_rows(name)
        except DamagedError as error:
            yield place, name, str(error)
