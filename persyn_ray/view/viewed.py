"""A run that is looked at: its address in, the newest snapshot and a growing index out."""

import logging
import threading
import time
from collections.abc import Callable

from persyn_ray.storage.folder import Folder
from persyn_ray.view.index import Index
from persyn_ray.view.snapshot import Snapshot, take_snapshot

log = logging.getLogger(__name__)
FRESH_SECONDS, FRESH_SECONDS_REMOTE = 2.0, 10.0
"""How old what is known of the run may be; a run that nobody looks at is not read."""
STEP_SECONDS = 0.005


class Viewed:
    """One run, for use by many threads; reads the folder when somebody asks and never writes."""

    def __init__(self, address: str) -> None:
        self.address = address
        is_local = Folder.absolute(address).is_local
        self._fresh = FRESH_SECONDS if is_local else FRESH_SECONDS_REMOTE
        self._lock = threading.Lock()
        self._seen: Snapshot | None = None
        self._taken = float("-inf")
        self._worker: threading.Thread | None = None
        self.index: Index | None = None
        """None before step prompts is done."""

    def look(self) -> Snapshot:
        """What the run says of itself, at most some seconds old; its index follows behind.

        Raises:
            PersynError: the run cannot be read.
        """
        with self._lock:
            if self._seen is None or time.monotonic() - self._taken > self._fresh:
                self._seen = self._renewed(take_snapshot(self.address))
                self._taken = time.monotonic()
            return self._seen

    def indexed(self, is_enough: Callable[[Index], bool], seconds: float) -> Index | None:
        """The index once it has what is needed, or as it is after so many seconds."""
        self.look()
        end = time.monotonic() + seconds
        while (index := self.index) is not None and not is_enough(index):
            worker = self._worker
            if time.monotonic() > end or worker is None or not worker.is_alive():
                break
            time.sleep(STEP_SECONDS)
        return index

    def _renewed(self, seen: Snapshot) -> Snapshot:
        before = self._seen
        if seen.prompts is None:
            self.index = None
        elif (
            self.index is None
            or before is None
            or before.recipe != seen.recipe
            or before.stamp("prompts") != seen.stamp("prompts")
        ):
            self.index = Index(seen)
        if self.index is not None and (self._worker is None or not self._worker.is_alive()):
            arguments = (self.index, seen)
            self._worker = threading.Thread(target=_update, args=arguments, daemon=True)
            self._worker.start()
        return seen


def _update(index: Index, seen: Snapshot) -> None:
    """A pass over the tables; what cannot be read now may be at the next."""
    try:
        index.update(seen)
    except Exception as error:
        log.warning("The tables of %s cannot all be read: %s", seen.run.root.address, error)
