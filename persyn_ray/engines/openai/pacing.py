"""Adaptive concurrency limit for one endpoint (additive increase, decrease on overload); pure.

The number of requests in flight grows while that helps and halves when the endpoint is overloaded
(additive increase, multiplicative decrease). What a number n in flight is worth is measured over
the requests sent since it was chosen (Little's law):

    rate(n) = n * sum(tokens) / sum(seconds)

Everything here runs in one thread; nothing here waits, sends or knows HTTP.
"""

import random
from dataclasses import dataclass

START = 4  # requests in flight before anything is known
NO_WORSE = 0.8  # of the best rate with fewer in flight; lengths differ, so a rate is a rough figure
WORSE_ROUNDS = 2  # in a row, before that is believed
HELD_ROUNDS = 4  # rounds without growth after more requests in flight brought less
LONGEST_DELAY = 60.0  # seconds of one back-off


def backoff(failures: int, first: float, key: str) -> float:
    """Seconds to wait after so many failures: doubling, with jitter drawn from the key."""
    longest = min(LONGEST_DELAY, first * 2.0 ** min(failures - 1, 30))
    return longest * random.Random(f"{key}:{failures}").uniform(0.5, 1.0)


@dataclass
class _Round:
    """What has ended of the requests sent since `began`, all under one limit."""

    began: float
    num_ended: int = 0
    tokens: int = 0
    seconds: float = 0.0
    was_full: bool = False


class Pace:
    """How many requests may be in flight, and until when nobody may send.

    The limit doubles from round to round until the first sign of trouble, then grows by an eighth
    of where the last trouble was. It is cut at most once a round trip: failures of requests sent
    before the last cut say nothing new. When `patience` different requests have led to a cut with
    no success between them, the endpoint is down: see `is_down`.
    """

    def __init__(self, most: int, patience: int, first_delay: float) -> None:
        self._most, self._patience, self._first_delay = most, patience, first_delay
        self.limit = min(START, most)
        self.in_flight = 0
        self.resumes_at = float("-inf")
        self._cut_at = float("-inf")
        self._struck: set[str] = set()
        self._step: int | None = None  # None while nothing has gone wrong
        self._best: tuple[int, float] | None = None  # of the limits below this one, and its rate
        self._num_worse = self._num_held = 0
        self._round = _Round(float("-inf"))

    def may_send(self, now: float) -> bool:
        """Whether there is a free place and no pause."""
        return self.in_flight < self.limit and now >= self.resumes_at

    def is_down(self, now: float) -> bool:
        """Whether to give up rather than wait; once the pause is over, one request may try."""
        return now < self.resumes_at and len(self._struck) >= self._patience

    def sent(self) -> None:
        """A request takes a place."""
        self.in_flight += 1
        self._round.was_full |= self.in_flight >= self.limit

    def ended(self) -> None:
        """A request ended in a way that says nothing of the endpoint's load."""
        self.in_flight -= 1

    def ok(self, now: float, sent_at: float, tokens: int) -> None:
        """A request has been answered; at the end of a round the limit is thought over."""
        self.ended()
        self._struck.clear()
        current = self._round
        if sent_at < current.began:
            return
        current.num_ended += 1
        current.tokens += max(tokens, 1)
        current.seconds += now - sent_at
        if current.num_ended >= max(2, self.limit // 2):
            self._finish_round(now)

    def overloaded(self, now: float, sent_at: float, who: str, pause: float | None = None) -> None:
        """A request was turned away or lost; `pause` is what the endpoint asked for, in seconds.

        Without such a wish, several different requests in a row make everybody pause, ever longer;
        one alone may be at fault itself.
        """
        self.ended()
        if pause is not None:
            self.resumes_at = max(self.resumes_at, now + pause)
        if sent_at <= self._cut_at:
            return
        self._cut_at = now
        self._struck.add(who)
        if pause is None and len(self._struck) > 1:
            delay = backoff(len(self._struck) - 1, self._first_delay, who)
            self.resumes_at = max(self.resumes_at, now + delay)
        self._slow_down(now, self.limit // 2)

    def _finish_round(self, now: float) -> None:
        ended = self._round
        rate = self.limit * ended.tokens / max(ended.seconds, 1e-9)
        if not ended.was_full:  # there was too little to do to learn anything
            self._round = _Round(now)
        elif self._best is not None and rate < NO_WORSE * self._best[1]:
            self._believe_worse(now, self._best[0])
        elif self._num_held > 0:
            self._num_held -= 1
            self._round = _Round(now)
        else:
            self._grow(now, rate)

    def _grow(self, now: float, rate: float) -> None:
        if self._best is None or rate >= self._best[1]:
            self._best = (self.limit, rate)
        self.limit = min(self._most, self.limit + (self._step or self.limit))
        self._round, self._num_worse = _Round(now), 0

    def _believe_worse(self, now: float, best: int) -> None:
        self._num_worse += 1
        if self._num_worse < WORSE_ROUNDS:
            self._round = _Round(now)
        else:
            self._slow_down(now, best)
            self._num_held = HELD_ROUNDS

    def _slow_down(self, now: float, limit: int) -> None:
        self._step = max(1, self.limit // 8)
        self.limit, self._round = max(1, limit), _Round(now)
        self._best, self._num_worse, self._num_held = None, 0, 0
