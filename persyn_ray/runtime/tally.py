"""The sum of what the endpoint's replicas count, in an actor of its own."""

import time

from persyn_ray.endpoint.counting import Family, merged

SILENT_SECONDS = 5.0  # after which a replica no longer counts as there
GONE_SECONDS = 600.0  # after which its counters are added to those of all that went before


class Tally:
    """Sums the replicas' counters, and tells each how many there are."""

    def __init__(self) -> None:
        self.latest: dict[str, tuple[float, list[Family]]] = {}
        self.gone: list[Family] = []

    def push(self, replica: str, counted: list[Family]) -> int:
        """A replica's counters as they stand now; returns the number of replicas."""
        self.latest[replica] = (time.monotonic(), counted)
        return self._num_replicas()

    def everywhere(self) -> tuple[list[Family], int]:
        """The sum over all replicas that ever were, and the number of those that are."""
        old = [k for k, (then, _) in self.latest.items() if time.monotonic() - then > GONE_SECONDS]
        for replica in old:
            self.gone = merged([self.gone, self.latest.pop(replica)[1]])
        return merged([self.gone, *(counted for _, counted in self.latest.values())]), max(
            1, self._num_replicas()
        )

    def _num_replicas(self) -> int:
        now = time.monotonic()
        return sum(now - then < SILENT_SECONDS for then, _ in self.latest.values())
