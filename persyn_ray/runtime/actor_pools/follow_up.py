"""A pool that follows others: looks for what it can do by now, and does it while they go on.

What it looks for lies in the run folder: it does not matter which pool wrote it, and what it has
not done when something goes wrong is found by the step whose work it is.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from persyn_ray.runtime.actor_pools.nodes import nodes_now
from persyn_ray.runtime.actor_pools.unit_board import QueueHandle, new_queue
from persyn_ray.runtime.placement import Place
from persyn_ray.runtime.pools import pull
from persyn_ray.shards.units import Unit, Work

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LOOK_SHARE = 10.0
"""A look is followed by at least so many times its own duration without one."""
TICKETS = 1000
"""Units of one execution; the next one starts the actors anew."""


def _built(build: Callable[[], Work], placement: Any) -> Work:
    """Nothing that is followed up stands in a placement group."""
    return build()


@dataclass(frozen=True)
class FollowUp:
    """What is done with the results of others, and how it is found."""

    step: str
    build: Callable[[], Work]
    find: Callable[[], Sequence[Unit]]
    """Units that can be done now and have not been; called from a thread of the driver."""
    wanted: Place
    is_small: bool = False
    """Whether its models and those of the pool that it follows may share one process."""


@contextmanager
def followed(what: FollowUp | None, place: Place | None) -> Iterator[None]:
    """Carry out what is found while the body runs, and what it left when it has ended.

    Nothing without a place for it. Ends early, without an error, where a node is lost (others may
    need its place) or a unit fails.
    """
    if what is None or place is None:
        yield
        return
    follower = _Follower(what, place)
    follower.start()
    try:
        yield
    except BaseException:
        follower.give_up()
        raise
    finally:
        follower.body_ended.set()
        follower.join()


class _Follower(threading.Thread):
    """Looks, hands out what it found, waits until that is done, and looks again."""

    def __init__(self, what: FollowUp, place: Place) -> None:
        super().__init__(daemon=True)
        self.what, self.place = what, place
        self.queue: QueueHandle = new_queue([], is_fed=True)
        self.body_ended, self.over = threading.Event(), threading.Event()
        self.nodes = nodes_now().ids

    def give_up(self) -> None:
        """Begin nothing more."""
        self.over.set()

    def run(self) -> None:
        pool = threading.Thread(target=self._pool, daemon=True)
        pool.start()
        try:
            self._feed()
        except Exception:
            log.warning("%s beside other work ended; its step goes on", self.what.step)
            log.debug("because of", exc_info=True)
        finally:
            self.queue.close()
            pool.join()
            self.queue.drop()

    def _pool(self) -> None:
        build = partial(_built, self.what.build)
        try:
            step, number = self.what.step, TICKETS
            for _ in pull(build, self.queue, self.place, step, tickets=number):
                pass
        except Exception as error:  # the step itself will meet it again, and say it
            log.warning("%s beside other work ended: %s", self.what.step, error)
        finally:
            self.over.set()

    def _feed(self) -> None:
        """Rounds until the body has ended and a look after that has found nothing."""
        pause = 0.0
        while not self.over.is_set():
            self.body_ended.wait(pause)
            is_last, began = self.body_ended.is_set(), time.monotonic()
            if not nodes_now().ids >= self.nodes:
                return
            units = self.what.find()
            pause = max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - began))
            self.queue.add(units)
            while not self.over.is_set() and (state := self.queue.state()).waiting + state.held:
                self.over.wait(0.2)
            if is_last:
                return
