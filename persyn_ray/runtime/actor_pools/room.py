"""Finds room for a second pool beside actor groups: groups and nodes in, a place in one node out.

Never where the groups could be kept from their own place: then each would wait for the other. So
what a group may have at most counts as taken, and the second pool is pinned to its node. Pure: no
Ray here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persyn_ray.runtime.placement import ActorGroup, Node, Place, place_actor_groups


@dataclass
class _Free:
    """What is left of a node."""

    id: str
    cpus: float
    gpus: float

    def slots(self, place: Place) -> int:
        """Actors of a pool that it still holds."""
        each = [
            int(have / need + 1e-9)
            for have, need in ((self.cpus, place.cpus), (self.gpus, place.gpus))
            if need
        ]
        return max(0, min(each, default=place.size))

    def take(self, place: Place, number: int) -> None:
        """Set aside so many actors."""
        self.cpus -= number * place.cpus
        self.gpus -= number * place.gpus


def room_beside(groups: Sequence[ActorGroup], wanted: Place, nodes: Sequence[Node]) -> Place | None:
    """A place for as much of a wanted pool as one node has room for; None if its fewest do not fit.

    Groups that are scheduled over GPUs or CPUs take all of them while they run.
    """
    tasks = place_actor_groups(groups, nodes)
    pinned = [task for task in tasks if task.place.nodes or task.place.bundles]
    if any(not task.group.resources.gpus for task in pinned) and wanted.cpus:
        return None
    on_gpus = [task.group.resources for task in pinned if task.group.resources.gpus]
    cpus_per_gpu = max((one.cpus / min(1.0, one.gpus) for one in on_gpus), default=0.0)
    loose = [task.place for task in tasks if task not in pinned]
    for number in range(wanted.size, max(1, wanted.fewest) - 1, -1):
        for node in nodes:
            left = [
                _Free(one.id, one.cpus - cpus_per_gpu * one.gpus, 0.0 if on_gpus else one.gpus)
                for one in nodes
            ]
            (here,) = (one for one in left if one.id == node.id)
            if here.slots(wanted) >= number:
                here.take(wanted, number)
                if all(_fits(place, left) for place in loose):
                    return replace(wanted, size=number, fewest=0, nodes=(node.id,))
    return None


def _fits(place: Place, left: Sequence[_Free]) -> bool:
    """Take a pool's actors from what is left, wherever they fit; whether all did."""
    open_ = place.size
    for node in left:
        number = min(open_, node.slots(place))
        node.take(place, number)
        open_ -= number
    return not open_
