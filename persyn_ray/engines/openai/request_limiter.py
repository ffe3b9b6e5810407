"""FIFO admission control for one endpoint: limits concurrent requests, reserves budget.

Used from one event loop. Whoever cannot be let in within reason is told so (`Unavailable`): the
budget is used up, the endpoint is down or asks for a longer wait than a run should stand still.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from persyn_ray.engines.openai.pacing import Pace
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.usage import FREE, Usage

LONGEST_WAIT = 600.0  # seconds that a run stands still because an endpoint asks for it


class Unavailable(Exception):
    """The request was not sent; the message says why."""


@dataclass(frozen=True)
class Ticket:
    """A place in flight: for whom, since when, and what is set aside for it."""

    who: str
    sent_at: float
    bound: Usage


@dataclass(eq=False)
class _Waiter:
    who: str
    bound: Usage
    place: asyncio.Future[Ticket]


class RequestLimiter:
    """Waits for free places and keeps the books; each `enter` is followed by one way out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: Pace, account: Account) -> None:
        self._loop, self._pace, self._account = loop, pace, account
        self._queue: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: str | None = None
        self._trouble = ""
        self._reserving: asyncio.Task[None] | None = None
        self._without_room: _Waiter | None = None  # until something that is in flight has ended
        self._num_settled = 0

    async def acquire(self, who: str, bound: Usage) -> Ticket:
        """Wait for a place.

        Raises:
            Unavailable: there will be none.
        """
        waiter = _Waiter(who, bound, self._loop.create_future())
        self._queue.append(waiter)
        self._admit()
        try:
            return await waiter.place
        except asyncio.CancelledError:
            if waiter.place.done() and not waiter.place.cancelled():  # let in, and gone again
                self.ended(waiter.place.result(), FREE)
            raise

    def answered(self, ticket: Ticket, cost: Usage | None) -> None:
        """The endpoint has written; a cost of None is unknown and counts as the bound."""
        self._settle(ticket, cost)
        written = (ticket.bound if cost is None else cost).response
        self._pace.ok(self._loop.time(), ticket.sent_at, written)
        self._admit()

    def ended(self, ticket: Ticket, cost: Usage | None) -> None:
        """The request came to an end that says nothing of the endpoint's load."""
        self._settle(ticket, cost)
        self._pace.ended()
        self._admit()

    def overloaded(
        self, ticket: Ticket, cost: Usage | None, reason: str, pause: float | None
    ) -> None:
        """The endpoint turned the request away or lost it; `pause` is what it asked for."""
        self._settle(ticket, cost)
        self._trouble = reason
        self._pace.overloaded(self._loop.time(), ticket.sent_at, ticket.who, pause)
        self._admit()

    def stop(self, reason: str) -> bool:
        """Let nobody in any more; whether that is news."""
        if self._stopped is not None:
            return False
        self._stopped = reason
        self._admit()
        return True

    def _settle(self, ticket: Ticket, cost: Usage | None) -> None:
        self._account.settle(ticket.bound, cost)
        self._without_room = None
        self._num_settled += 1

    def _admit(self) -> None:
        """Serve whoever can be served; called after every change."""
        while self._queue and self._serve(self._queue[0], self._loop.time()):
            self._queue.popleft()

    def _serve(self, waiter: _Waiter, now: float) -> bool:
        """Whether the first in the queue is let in, sent away or gone by itself."""
        if waiter.place.done():  # its task was cancelled
            return True
        refusal = self._why_nobody(now)
        if refusal is None and not self._pace.may_send(now):
            self._look_again(now)
            return False
        if refusal is None and not self._account.take(waiter.bound):
            if self._without_room is not waiter:
                self._reserve(waiter)
                return False
            if self._account.is_waiting:  # what is in flight may cost less than its bound
                return False
            refusal = self._account.refusal(waiter.bound)
        if refusal is not None:
            waiter.place.set_exception(Unavailable(refusal))
        else:
            self._pace.sent()
            waiter.place.set_result(Ticket(waiter.who, now, waiter.bound))
        return True

    def _reserve(self, waiter: _Waiter) -> None:
        """Ask the ledger for more, off the loop, and see then who can be served."""
        if self._reserving is None:
            self._reserving = self._loop.create_task(self._reserve_for(waiter))

    async def _reserve_for(self, waiter: _Waiter) -> None:
        before = self._num_settled
        try:
            is_reserved = await asyncio.to_thread(self._account.more, waiter.bound)
        except Exception as error:  # whatever the storage raises: nothing is sent without a record
            self._stopped = self._stopped or f"what is spent cannot be recorded: {error}"
        else:
            if not is_reserved and before == self._num_settled:
                self._without_room = waiter
        self._reserving = None
        self._admit()

    def _why_nobody(self, now: float) -> str | None:
        if self._stopped is not None:
            return self._stopped
        if self._pace.is_down(now):
            return f"the endpoint seems to be down: {self._trouble}"
        wait = self._pace.resumes_at - now
        if wait > LONGEST_WAIT:
            return f"the endpoint asks to wait for {wait:.0f} seconds: {self._trouble}"
        return None

    def _look_again(self, now: float) -> None:
        """During a pause nothing else would wake the queue."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if now < self._pace.resumes_at:
            self._timer = self._loop.call_at(self._pace.resumes_at, self._admit)
