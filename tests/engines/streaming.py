"""What stand-ins of engines that stream share: all but how they answer."""

from collections.abc import Sequence
from typing import ClassVar

from persyn_ray.engines.base import Completion, Done, Occupancy, Request, in_order


class StreamingEngine:
    """An engine that nothing can be missing of and that refuses nothing."""

    overlaps: ClassVar[bool] = True

    def check(self) -> None:
        pass

    def refuses(self, request: Request) -> str | None:
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return in_order(len(requests), lambda done: self.stream(requests, done))

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        raise NotImplementedError

    def take_occupancy(self) -> Occupancy:
        return Occupancy()

    def close(self) -> None:
        pass
