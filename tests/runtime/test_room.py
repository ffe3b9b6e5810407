"""A second pool stands beside others only where it can never keep them from their place."""

from typing import Any

import pytest

from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime.actor_pools.room import room_beside
from persyn_ray.runtime.placement import ActorGroup, Node, place_of
from persyn_ray.shards.units import units_of

TWO_CORES = (Node("a", 2, 0),)
FOUR_AND_TWO = (Node("a", 4, 0), Node("b", 2, 0))
GPU_NODES = (Node("a", 16, 2), Node("b", 4, 2))


def shared(actors: int, cpus: float = 1.0, **changes: Any) -> ActorGroup:
    resources = StepResourcesConfig(**({"actors": actors, "cpus": cpus} | changes))
    return ActorGroup("shared pool", lambda _: None, tuple(units_of(list("abcdefgh"))), resources)


def teacher(name: str = "t", is_remote: bool = False, **resources: Any) -> ActorGroup:
    units = tuple(units_of(list("abcdefgh")))
    taken = TeacherResourcesConfig(**resources)
    return ActorGroup(name, lambda _: None, units, taken, is_remote=is_remote)


def room(groups: list[ActorGroup], nodes: tuple[Node, ...], **score: Any) -> tuple[str, int] | None:
    resources = StepResourcesConfig(**score)
    place = room_beside(groups, place_of(resources, resources.most), nodes)
    return None if place is None else (place.nodes[0], place.size)


def test_two_full_cores_have_none_and_a_free_one_has() -> None:
    assert room([shared(2)], TWO_CORES, actors=2) is None
    assert room([shared(1)], TWO_CORES, actors=2) is None, "both actors or none"
    assert room([shared(1)], TWO_CORES, actors=1) == ("a", 1)
    assert room([shared(1)], TWO_CORES, min=1, max=4) == ("a", 1)


def test_the_node_is_one_without_which_the_others_still_fit() -> None:
    # Two actors of two CPUs fit into node a alone, or one in each: b is free, or half of a is.
    assert room([shared(2, 2)], FOUR_AND_TWO, actors=2) == ("a", 2)
    assert room([shared(1, 4)], FOUR_AND_TWO, actors=2) == ("b", 2)
    assert room([shared(3, 2)], FOUR_AND_TWO, actors=1) is None


def test_a_pool_that_may_grow_counts_at_its_most() -> None:
    assert room([shared(1, 1, min=1, max=6)], FOUR_AND_TWO, actors=1) is None
    assert room([shared(1, 1, min=1, max=5)], FOUR_AND_TWO, actors=1) is not None


def test_endpoints_leave_all_gpus_to_the_student() -> None:
    groups = [teacher(is_remote=True, gpus=0, cpus=0)]
    assert room(groups, GPU_NODES, actors=2, gpus=1) == ("a", 2)


def test_teachers_that_are_scheduled_over_gpus_take_them_all_and_their_cpus() -> None:
    groups = [teacher("s", gpus=1, cpus=2), teacher("t", gpus=1, cpus=1)]
    assert room(groups, GPU_NODES, actors=1, gpus=1) is None
    assert room(groups, GPU_NODES, actors=12, cpus=1) == ("a", 12)
    assert room(groups, GPU_NODES, actors=13, cpus=1) is None


def test_teachers_that_are_scheduled_over_cpus_take_them_all() -> None:
    groups = [teacher("s", gpus=0, cpus=1), teacher("t", gpus=0, cpus=1)]
    assert room(groups, FOUR_AND_TWO, actors=1) is None


@pytest.mark.parametrize("actors", [1, 3])
def test_without_anything_to_follow_all_is_free(actors: int) -> None:
    assert room([], FOUR_AND_TWO, actors=actors) == ("a", actors)
