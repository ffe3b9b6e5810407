"""Rate limit per API key: a token bucket for each owner, of one replica."""

import time
from collections.abc import Callable

ROUNDING = 1e-9  # of a token: whoever waits as long as told is not sent away again


class Rates:
    """Token buckets by owner. A replica sees its part of a key's requests and allows its part of
    the limit, but always a burst of one."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """All buckets are full.

        Args:
            per_second: Requests of one owner, over all replicas.
            burst: Requests of one owner at once after a pause, over all replicas.
            clock: Seconds, never falling.
        """
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._rate, self._capacity = float(per_second), float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def wait(self, owner: str) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now = self._clock()
        tokens = self._tokens(owner, now)
        is_granted = tokens >= 1 - ROUNDING
        if is_granted:
            tokens = max(0.0, tokens - 1)
        self._buckets[owner] = (tokens, now)
        return 0.0 if is_granted else (1 - tokens) / self._rate

    def share(self, num_replicas: int) -> None:
        """Allow one part in so many from now on."""
        now = self._clock()
        counted = {owner: self._tokens(owner, now) for owner in self._buckets}
        num = max(1, num_replicas)
        self._rate = self._per_second / num
        self._capacity = max(1.0, self._burst / num)
        self._buckets = {k: (min(tokens, self._capacity), now) for k, tokens in counted.items()}

    def _tokens(self, owner: str, now: float) -> float:
        tokens, then = self._buckets.get(owner, (self._capacity, now))
        return min(self._capacity, tokens + max(0.0, now - then) * self._rate)
