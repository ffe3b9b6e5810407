"""Actor groups and nodes to tasks: every unit once, no GPU twice, and clear refusals."""

from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime.placement import ActorGroup, Node, Task, place_actor_groups
from persyn_ray.shards.units import units_of

NODES = [Node("n0", 32, 8), Node("n1", 32, 8), Node("head", 8, 0)]


def build(placement: Any) -> Any:
    raise AssertionError("nothing is built here")


def group(name: str, num_units: int = 40, seconds: float = 600.0, **resources: Any) -> ActorGroup:
    units = tuple(units_of([f"shard-{number}" for number in range(num_units)]))
    return ActorGroup(name, build, units, TeacherResourcesConfig(**resources), False, 30.0, seconds)


def units(tasks: list[Task], name: str) -> list[str]:
    return sorted(unit["shard"] for task in tasks if task.group.name == name for unit in task.units)


def ancestors(tasks: list[Task], number: int) -> set[int]:
    found: set[int] = set()
    for before in tasks[number].after:
        found |= {before} | ancestors(tasks, before)
    return found


def gpus_in(task: Task, node: str) -> float:
    if task.place.bundles:
        return sum(1.0 for place in task.place.nodes if place == node)
    return task.place.size * task.place.gpus if task.place.nodes == (node,) else 0.0


def test_every_unit_is_in_exactly_one_task() -> None:
    groups = [
        group("large", tensor_parallel=8, pipeline_parallel=2, across_nodes=True),
        group("middle", tensor_parallel=4, seconds=2000.0),
        group("small", seconds=9000.0),
        group("tiny", num_units=1),
    ]
    tasks = place_actor_groups(groups, NODES)
    for one in groups:
        assert units(tasks, one.name) == sorted(unit["shard"] for unit in one.units)


def test_tasks_that_may_run_together_fit_each_node() -> None:
    groups = [group(f"t{n}", seconds=300.0 * n, tensor_parallel=2 ** (n % 4)) for n in range(1, 9)]
    tasks = place_actor_groups(groups, NODES)
    related = [ancestors(tasks, number) for number in range(len(tasks))]
    for number in range(len(tasks)):
        # All that neither follow one another: the worst that can be on a node at once.
        free = [
            other
            for other in range(len(tasks))
            if other == number or (other not in related[number] and number not in related[other])
        ]
        chain = [
            one for one in free if not any(one in related[other] for other in free if other != one)
        ]
        for node in ("n0", "n1"):
            assert sum(gpus_in(tasks[one], node) for one in chain) <= 8


def test_an_engine_of_several_workers_stands_in_one_node_unless_it_may_not() -> None:
    groups = [
        group("pair", tensor_parallel=2),
        group("huge", tensor_parallel=8, pipeline_parallel=2, across_nodes=True),
    ]
    for task in place_actor_groups(groups, NODES):
        if task.group.name == "pair":
            assert len(task.place.bundles) == 2
            assert len(set(task.place.nodes)) == 1
        else:
            assert len(task.place.bundles) == 16
            assert task.place.nodes[:8].count(task.place.nodes[0]) == 8
            assert len(set(task.place.nodes)) == 2


def test_processes_of_one_actor_take_their_gpus_with_it() -> None:
    (task, *_) = place_actor_groups(
        [group("mp", tensor_parallel=4, executor="mp", replicas=1)], NODES
    )
    assert task.place.bundles == ()
    assert task.place.gpus == 4


def test_engines_of_half_a_gpu_share_one() -> None:
    (task,) = place_actor_groups([group("half", gpus=0.5, replicas=2)], [Node("n", 8, 1)])
    assert (task.place.size, task.place.gpus) == (2, 0.5)


def test_endpoints_take_nothing_and_wait_for_nobody() -> None:
    remote = ActorGroup(
        "api", build, tuple(units_of(["s"])), TeacherResourcesConfig(gpus=0, cpus=0), True
    )
    tasks = place_actor_groups([group("local"), remote], NODES)
    (task,) = [task for task in tasks if task.group.name == "api"]
    assert (task.place.cpus, task.place.gpus, task.place.size, task.after) == (0.0, 0.0, 1, ())


def test_a_lone_shared_pool_is_as_the_recipe_says() -> None:
    resources = StepResourcesConfig(actors=4, cpus=0.5)
    shared = ActorGroup("shared", build, tuple(units_of(["a", "b", "c"])), resources)
    (task,) = place_actor_groups([shared], [Node("n", 2, 0)])
    assert (task.place.size, task.place.cpus, task.place.nodes) == (3, 0.5, ())


def test_two_actor_groups_on_cpus_share_the_cores() -> None:
    groups = [group("a", gpus=0, cpus=2), group("b", gpus=0, cpus=2)]
    tasks = place_actor_groups(groups, [Node("laptop", 2, 0)])
    first, second = tasks
    assert first.after == ()
    assert second.after == (0,)


def test_actor_groups_without_units_start_nothing() -> None:
    assert place_actor_groups([group("idle", num_units=0)], NODES) == []


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (
            {"tensor_parallel": 8, "pipeline_parallel": 4, "across_nodes": True},
            ["big", "32", "2 of 8"],
        ),
        ({"tensor_parallel": 16}, ["big", "16"]),
        ({"cpus": 5}, ["big", "5 CPUs", "resources.cpus"]),
    ],
)
def test_what_fits_nowhere_is_refused_with_the_numbers(
    resources: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        place_actor_groups([group("big", **resources)], NODES)
    assert all(word in str(refused.value) for word in words), str(refused.value)
