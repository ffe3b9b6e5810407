"""Decides whether ambiguous refusals are the prompts' own or have one cause for all requests.

A refusal waits for its verdict, which costs no place in flight. It is its prompt's own once a
request sent after it has been answered. It has one cause, and the teacher is to be stopped, when
the first prompts, or many in a row later on, were refused alike and none that was under way with
them was answered. Where neither is found out, a prompt of an endpoint that has never answered
stays open. Used from one event loop.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

FIRST_ALIKE = 3  # prompts refused alike before anything was answered
LATER_ALIKE = 10  # the same once the endpoint has answered, since its last answer

Verdict = Literal["own", "open", "stop"]


@dataclass(eq=False)
class _Held:
    key: str
    refused_at: float
    verdict: asyncio.Future[Verdict]


@dataclass
class Verdicts:
    """Follows what becomes of the requests of one endpoint."""

    has_answered: bool = False
    _num_busy: int = 0  # requests that are neither ended nor held
    _in_flight: set[object] = field(default_factory=set)
    _witnesses: set[object] | None = None  # under way when enough were refused alike
    _alike: dict[str, set[str]] = field(default_factory=dict)
    _held: list[_Held] = field(default_factory=list)

    def began(self) -> None:
        """A request wants its answer; each is followed by `ended`."""
        self._num_busy += 1

    def ended(self) -> None:
        """A request has its answer, or will get none."""
        self._num_busy -= 1
        self._decide_at_rest()

    def sent(self, ticket: object) -> None:
        """An attempt is under way; each is followed by `back`."""
        self._in_flight.add(ticket)

    def back(self, ticket: object) -> None:
        """An attempt is over, after `answered` where it was answered."""
        self._in_flight.discard(ticket)
        if self._witnesses is not None:
            self._witnesses.discard(ticket)
            self._stop_without_witnesses()

    def answered(self, sent_at: float) -> None:
        """The endpoint has answered a request that was sent then."""
        self.has_answered, self._witnesses = True, None
        self._alike.clear()
        for held in self._held:
            if held.refused_at <= sent_at:
                _tell(held, "own")

    async def of(self, who: str, key: str, now: float) -> Verdict:
        """The verdict on a refusal: of whom, what it has in common with others, and since when."""
        held = _Held(key, now, asyncio.get_running_loop().create_future())
        self._held.append(held)
        self._num_busy -= 1
        self._alike.setdefault(key, set()).add(who)
        if self._witnesses is None and self._are_alike(key):
            self._witnesses = set(self._in_flight)
        self._stop_without_witnesses()  # also for one that comes after the last witness
        self._decide_at_rest()
        try:
            return await held.verdict
        finally:
            self._num_busy += 1
            self._held.remove(held)

    def _are_alike(self, key: str) -> bool:
        enough = LATER_ALIKE if self.has_answered else FIRST_ALIKE
        return len(self._alike.get(key, ())) >= enough

    def _stop_without_witnesses(self) -> None:
        if self._witnesses is not None and not self._witnesses:
            for held in self._held:
                _tell(held, "stop" if self._are_alike(held.key) else "open")

    def _decide_at_rest(self) -> None:
        """Nothing more is to come that could tell."""
        if self._num_busy == 0 and self._witnesses is None:
            for held in self._held:
                _tell(held, "own" if self.has_answered else "open")


def _tell(held: _Held, verdict: Verdict) -> None:
    if not held.verdict.done():
        held.verdict.set_result(verdict)
