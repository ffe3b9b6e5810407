"""What simulated engines share of the interface of streaming engines: all but the simulation."""

from collections.abc import Sequence
from typing import ClassVar

from persyn_ray.engines.base import Completion, Done, Request, in_order


class AllAtOnce:
    """An engine that takes every request, all at once; how they end is up to its `stream`."""

    overlaps: ClassVar[bool] = True

    def check(self) -> None:
        """Nothing can be missing."""

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused."""
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """All requests at once."""
        return in_order(len(requests), lambda done: self.stream(requests, done))

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """All requests at once; each ends by itself."""
        raise NotImplementedError
