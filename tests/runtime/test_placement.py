"""Crews and nodes to tasks: every unit once, no GPU twice, and clear refusals."""

from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime.placement import Crew, Node, Task, place_crews
from persyn_ray.shards.units import units_of

NODES = [Node("n0", 32, 8), Node("n1", 32, 8), Node("head", 8, 0)]


def build(placement: Any) -> Any:
    raise AssertionError("nothing is built here")


def crew(name: str, num_units: int = 40, seconds: float = 600.0, **resources: Any) -> Crew:
    units = tuple(units_of([f"shard-{number}" for number in range(num_units)]))
    return Crew(name, build, units, TeacherResourcesConfig(**resources), False, 30.0, seconds)


def units(tasks: list[Task], name: str) -> list[str]:
    return sorted(unit["shard"] for task in tasks if task.crew.name == name for unit in task.units)


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
    crews = [
        crew("large", tensor_parallel=8, pipeline_parallel=2, across_nodes=True),
        crew("middle", tensor_parallel=4, seconds=2000.0),
        crew("small", seconds=9000.0),
        crew("tiny", num_units=1),
    ]
    tasks = place_crews(crews, NODES)
    for one in crews:
        assert units(tasks, one.name) == sorted(unit["shard"] for unit in one.units)


def test_tasks_that_may_run_together_fit_each_node() -> None:
    crews = [crew(f"t{n}", seconds=300.0 * n, tensor_parallel=2 ** (n % 4)) for n in range(1, 9)]
    tasks = place_crews(crews, NODES)
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
    crews = [
        crew("pair", tensor_parallel=2),
        crew("huge", tensor_parallel=8, pipeline_parallel=2, across_nodes=True),
    ]
    for task in place_crews(crews, NODES):
        if task.crew.name == "pair":
            assert len(task.place.bundles) == 2
            assert len(set(task.place.nodes)) == 1
        else:
            assert len(task.place.bundles) == 16
            assert task.place.nodes[:8].count(task.place.nodes[0]) == 8
            assert len(set(task.place.nodes)) == 2


def test_processes_of_one_actor_take_their_gpus_with_it() -> None:
    (task, *_) = place_crews([crew("mp", tensor_parallel=4, executor="mp", replicas=1)], NODES)
    assert task.place.bundles == ()
    assert task.place.gpus == 4


def test_engines_of_half_a_gpu_share_one() -> None:
    (task,) = place_crews([crew("half", gpus=0.5, replicas=2)], [Node("n", 8, 1)])
    assert (task.place.size, task.place.gpus) == (2, 0.5)


def test_endpoints_take_nothing_and_wait_for_nobody() -> None:
    remote = Crew(
        "api", build, tuple(units_of(["s"])), TeacherResourcesConfig(gpus=0, cpus=0), True
    )
    tasks = place_crews([crew("local"), remote], NODES)
    (task,) = [task for task in tasks if task.crew.name == "api"]
    assert (task.place.cpus, task.place.gpus, task.place.size, task.after) == (0.0, 0.0, 1, ())


def test_a_lone_shared_pool_is_as_the_recipe_says() -> None:
    resources = StepResourcesConfig(actors=4, cpus=0.5)
    shared = Crew("shared", build, tuple(units_of(["a", "b", "c"])), resources)
    (task,) = place_crews([shared], [Node("n", 2, 0)])
    assert (task.place.size, task.place.cpus, task.place.nodes) == (3, 0.5, ())


def test_two_crews_on_cpus_share_the_cores() -> None:
    crews = [crew("a", gpus=0, cpus=2), crew("b", gpus=0, cpus=2)]
    tasks = place_crews(crews, [Node("laptop", 2, 0)])
    first, second = tasks
    assert first.after == ()
    assert second.after == (0,)


def test_crews_without_units_start_nothing() -> None:
    assert place_crews([crew("idle", num_units=0)], NODES) == []


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
        place_crews([crew("big", **resources)], NODES)
    assert all(word in str(refused.value) for word in words), str(refused.value)
