"""The cluster's nodes as they are now: which are alive, which are about to go, what they hold."""

from dataclasses import dataclass

import ray
import ray._private.state

from persyn_ray.runtime.placement import Node, Place


@dataclass(frozen=True)
class NodesNow:
    """Nodes by whether one may count on them."""

    alive: tuple[Node, ...]
    draining: frozenset[str]
    """Ids of those alive that are going: their machine is to be taken away."""

    @property
    def ids(self) -> frozenset[str]:
        """Ids of all that are alive, draining ones too."""
        return frozenset(node.id for node in self.alive)

    @property
    def lasting(self) -> tuple[Node, ...]:
        """Those that stay, in a stable order."""
        stay = [node for node in self.alive if node.id not in self.draining]
        return tuple(sorted(stay, key=lambda node: (-node.gpus, -node.cpus, node.id)))

    def hold(self, place: Place) -> bool:
        """Whether the nodes that a place names are there to stay."""
        return set(place.nodes) <= {node.id for node in self.lasting}


def nodes_now() -> NodesNow:
    """What the cluster says of its nodes at this moment."""
    alive = tuple(
        Node(node["NodeID"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    )
    # Ray's public table of nodes does not say which drain; Ray Data and Ray Train ask like this.
    draining = ray._private.state.state.get_draining_nodes()
    return NodesNow(alive, frozenset(draining))


def actors_that_fit(place: Place, nodes: tuple[Node, ...]) -> int:
    """Actors of a pool that whole, empty nodes could hold at once; at least one."""
    found = 0
    for node in nodes:
        each = [
            int(have / need + 1e-9)
            for have, need in ((node.cpus, place.cpus), (node.gpus, place.gpus))
            if need
        ]
        found += min(each, default=place.size)
    return max(1, min(found, place.size))
