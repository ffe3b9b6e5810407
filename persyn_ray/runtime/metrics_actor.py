"""Actor that sums the counters of the endpoint's replicas."""

import time

from persyn_ray.serving.metrics import Family, merged

SILENT_SECONDS = 5.0  # after which a replica no longer counts as there
GONE_SECONDS = 600.0  # after which its counters are added to those of all that went before


class MetricsActor:
    """Sums the replicas' counters, and tells each how many there are. Its methods are coroutines,
    so that Serve runs them one after the other and not in threads.
    """

    def __init__(self) -> None:
        self.latest: dict[str, tuple[float, list[Family]]] = {}
        self.gone: list[Family] = []
        self.names_gone: set[str] = set()

    async def push(self, replica: str, counted: list[Family]) -> int:
        """A replica's counters as they stand now; returns the number of replicas."""
        if replica not in self.names_gone:  # or it would count twice
            self.latest[replica] = (time.monotonic(), counted)
        return self._num_replicas()

    async def everywhere(self) -> tuple[list[Family], int]:
        """The sum over all replicas that ever were, and the number of those that are."""
        now = time.monotonic()
        for replica in [k for k, (then, _) in self.latest.items() if now - then > GONE_SECONDS]:
            self.gone = merged([self.gone, self.latest.pop(replica)[1]])
            self.names_gone.add(replica)
        counted = [families for _, families in self.latest.values()]
        return merged([self.gone, *counted]), max(1, self._num_replicas())

    def _num_replicas(self) -> int:
        now = time.monotonic()
        return sum(now - then < SILENT_SECONDS for then, _ in self.latest.values())
