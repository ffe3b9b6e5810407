"""Actor that sums the counters of the endpoint's replicas, and how a replica reports to it."""

import asyncio
import contextlib
import logging
import time

from ray.serve.handle import DeploymentHandle

from persyn_ray.serving.error_response import RETRY_SOON, Refusal
from persyn_ray.serving.metrics import Counts, Family, merged
from persyn_ray.serving.middleware.rate_limit import Rates

logger = logging.getLogger("ray.serve")

SILENT_SECONDS = 5.0  # after which a replica no longer counts as there
PUSH_SECONDS = 1.0
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


class MetricsReporter:
    """A replica's side of the metrics actor: pushes its counters, asks for everyone's."""

    def __init__(self, actor: DeploymentHandle, replica: str, counts: Counts, rates: Rates) -> None:
        """`rates` is told how many replicas share each key's limit."""
        self._actor, self._replica, self._counts, self._rates = actor, replica, counts, rates

    async def push_forever(self) -> None:
        """Push the counters every second."""
        while True:
            # Whatever happens while the actor restarts: the next push says the same.
            with contextlib.suppress(Exception):
                num = await self._actor.push.remote(self._replica, self._counts.snapshot())
                self._rates.share(num)
            await asyncio.sleep(PUSH_SECONDS)

    async def everywhere(self) -> tuple[list[Family], int]:
        """Counters of all replicas, those of this one as they stand now.

        Raises:
            Refusal: 503 while the metrics actor is out of reach: less than the sum would look like
                a restart to Prometheus.
        """
        try:
            async with asyncio.timeout(2.0):
                await self._actor.push.remote(self._replica, self._counts.snapshot())
                return await self._actor.everywhere.remote()
        except Exception as error:  # whatever Serve raises while the actor restarts
            logger.warning("The metrics actor is out of reach: %s", error)
            raise Refusal(503, "The replicas' counts are out of reach.", RETRY_SOON) from error
