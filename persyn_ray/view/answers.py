"""Answers of the viewer: what an address asks for in, what it shows out; slow ones are kept."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from persyn_ray.pipeline.assign.methods import Parallel, parallel_of
from persyn_ray.view.dead_letters import DeadLetterCounts, dead_letters_of
from persyn_ray.view.index import Index
from persyn_ray.view.now import Now, RowCounts, now_of
from persyn_ray.view.overview import Overview, overview_of
from persyn_ray.view.prompts.facts import PromptFacts, prompt_facts
from persyn_ray.view.prompts.filters import Filters
from persyn_ray.view.prompts.listing import WAIT_SECONDS, PromptList
from persyn_ray.view.snapshot import Snapshot
from persyn_ray.view.teachers import Teachers, teachers_of
from persyn_ray.view.viewed import Viewed

Made = TypeVar("Made")
KEPT_SECONDS = 30.0
"""How long an answer that takes long is kept while its run goes on."""


class Kept(Generic[Made]):
    """An answer that is made anew when the run has gone on, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Made, object, float] | None = None

    def get(self, key: object, is_live: bool, make: Callable[[], Made]) -> Made:
        """The answer to a key; an old one of a live run is made anew."""
        with self._lock:
            if self._found is not None:
                made, of, moment = self._found
                if of == key and not (is_live and time.monotonic() - moment > KEPT_SECONDS):
                    return made
            made = make()
            self._found = (made, key, time.monotonic())
            return made


class Answers:
    """All that can be asked of one run."""

    def __init__(self, address: str) -> None:
        self._viewed = Viewed(address)
        self._viewed.look()
        self.list = PromptList(self._viewed)
        self._counts = RowCounts()
        self._teachers: Kept[Teachers] = Kept()
        self._letters: Kept[DeadLetterCounts] = Kept()
        self._parallel: Kept[Parallel] = Kept()

    def overview(self) -> Overview:
        """The run at a glance."""
        index = self._viewed.indexed(lambda one: one.num_read == len(one.task_P), 0.2)
        return overview_of(self._viewed.look(), index)

    def now(self) -> Now:
        """How far the run is."""
        index = self._viewed.indexed(lambda one: one.has_responses, 0.5)
        return now_of(self._viewed.look(), index, self._counts)

    def teachers(self) -> Teachers:
        """The teachers beside one another."""
        index = self._viewed.indexed(lambda one: one.has_responses, WAIT_SECONDS)
        seen = self._viewed.look()
        key = (_key(seen), index is not None and index.has_responses)
        return self._teachers.get(key, _is_live(seen), lambda: teachers_of(seen, index))

    def dead_letters(self) -> DeadLetterCounts:
        """What was lost, by reason."""
        seen = self._viewed.look()
        return self._letters.get(_key(seen), _is_live(seen), lambda: dead_letters_of(seen))

    def prompt(self, prompt_id: str, filters: Filters) -> PromptFacts | None:
        """One prompt; None if there is none of this id.

        Raises:
            ConfigError: a filter that no prompt can fit.
        """
        filters.require_known(self._viewed.look().recipe.pool.names)
        index = self._viewed.indexed(
            lambda one: one.num_read == len(one.task_P) or _has(one, prompt_id), WAIT_SECONDS
        )
        place = index.place_of(prompt_id) if index is not None else None
        if index is None or place is None:
            return None
        seen, (shard, _) = self._viewed.look(), index.shard_of(place)
        around = self.list.neighbours(filters, place)
        return prompt_facts(seen, shard, prompt_id, around, self._parallel_of(seen))

    def report(self) -> str | None:
        """The run's report.html; None where it has none."""
        run = self._viewed.look().run
        return run.root.read_text("report.html") if run.root.exists("report.html") else None

    def _parallel_of(self, seen: Snapshot) -> Parallel | None:
        """What methods beside PerSyn go by; None where they are not asked for or cannot choose."""
        if not seen.recipe.compare.methods or "rewards" not in seen.records:
            return None
        make = lambda: parallel_of(seen.recipe.pool, seen.run)  # noqa: E731
        return self._parallel.get(seen.stamp("rewards", "route"), False, make)


def _has(index: Index, prompt_id: str) -> bool:
    return index.place_of(prompt_id) is not None


def _key(seen: Snapshot) -> str:
    return seen.stamp(*sorted(seen.records)) + ",".join(sorted(seen.records))


def _is_live(seen: Snapshot) -> bool:
    return seen.state == "running"
