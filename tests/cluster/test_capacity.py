"""The clusters' sizes against what `persyn plan` derives from the recipes that they are for."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _generate_available_node_types_from_ray_cr_spec,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.placement import Placed, deployment_of, place_teachers
from persyn_ray.pipeline.plan.plan import on_cluster, plan_run
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.runtime.session import Cluster, check_fits

ROOT = Path(__file__).parents[2]
UNITS = {"Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Group:
    """The nodes of one group at their most."""

    nodes: int
    cpus: float
    gpus: float
    memory: float = 0.0
    disk: float = 0.0
    shared_memory: float = 0.0


def bytes_of(quantity: str) -> float:
    return float(quantity[:-2]) * UNITS[quantity[-2:]]


def groups_of(spec: dict[str, Any]) -> dict[str, Group]:
    """Nodes, CPUs and GPUs as Ray's autoscaler reads them from the manifest; the rest as given."""
    types = _generate_available_node_types_from_ray_cr_spec(spec)
    found: dict[str, Group] = {}
    for group in spec["workerGroupSpecs"]:
        read, pod = types[group["groupName"]], group["template"]["spec"]
        requests = pod["containers"][0]["resources"]["requests"]
        sizes = {v["name"]: v["emptyDir"].get("sizeLimit") for v in pod["volumes"]}
        found[group["groupName"]] = Group(
            read["max_workers"],
            read["resources"]["CPU"],
            read["resources"].get("GPU", 0),
            read["resources"]["memory"],
            bytes_of(requests["ephemeral-storage"]),
            bytes_of(sizes["shm"]),
        )
    assert types["headgroup"]["resources"]["CPU"] == 0
    return found


@pytest.fixture
def large(overlays: dict[str, Any]) -> dict[str, Group]:
    (job,) = (one for one in overlays["large"] if one["kind"] == "RayJob")
    return groups_of(job["spec"]["rayClusterSpec"])


@pytest.fixture
def small(overlays: dict[str, Any]) -> dict[str, Group]:
    (job,) = (one for one in overlays["small"] if one["kind"] == "RayJob")
    return groups_of(job["spec"]["rayClusterSpec"])


@pytest.fixture
def on_aws() -> dict[str, Group]:
    config = yaml.safe_load((ROOT / "cluster/aws.yaml").read_text())
    types = config["available_node_types"].items()
    return {
        name: Group(one["max_workers"], one["resources"]["CPU"], one["resources"].get("GPU", 0))
        for name, one in types
        if name != config["head_node_type"]
    }


def recipe(name: str, run: Path | str = "nowhere/run") -> Recipe:
    return load_recipe(ROOT / f"jobs/{name}.yaml", (f"run={run}",))


def cluster_of(*groups: Group) -> Cluster:
    """What `persyn run` finds when these groups are at their most."""
    alive = [group for group in groups if group.nodes]
    return Cluster(
        sum(group.nodes * group.cpus for group in alive),
        sum(group.nodes * group.gpus for group in alive),
        sum(group.nodes * group.memory for group in alive) / 2**30,
        max(group.cpus for group in alive),
        max(group.gpus for group in alive),
    )


def require_fits(asked: Recipe, cluster: Cluster) -> None:
    """Every step of a recipe has room."""
    check_fits(asked.run, asked.resources, cluster)


def require_held(placed: dict[str, Placed], group: Group) -> None:
    """Every engine stands on the group's nodes, with its CPUs."""
    for name, one in placed.items():
        assert one.per_node <= group.gpus, name
        assert one.gpus / one.per_node <= group.nodes, name
        assert one.resources.cpus * one.per_node <= group.cpus, name


def test_teacher_large_is_the_hardware_that_the_plan_reckons_with(
    large: dict[str, Group], tmp_path: Path
) -> None:
    asked = recipe("instruct", tmp_path / "run")
    group = large["teacher-large"]
    cluster = f"{group.nodes}x{group.gpus:g}x{asked.hardware.gpu_memory_gib:g}"
    plan = plan_run(on_cluster(asked, cluster))
    assert cluster == "2x8x80"
    assert on_cluster(asked, cluster).hardware == asked.hardware
    assert not plan.warnings  # no teacher is short of memory
    require_held(plan.placed, group)
    biggest = max(plan.placed.values(), key=lambda one: one.model.parameters)
    assert biggest.layout.workers == group.gpus  # the 405B takes a whole node


def test_a_pair_of_teacher_large_holds_an_engine_over_two_nodes(large: dict[str, Group]) -> None:
    placed = place_teachers(deployment_of(recipe("math")))
    widest = max(placed.values(), key=lambda one: one.gpus)
    assert (widest.layout.tensor, widest.layout.pipeline) == (8, 2)
    require_held(placed, large["teacher-large"])


@pytest.mark.parametrize("name", ["instruct", "math"])
def test_disks_hold_every_teacher_and_memory_holds_the_largest(
    name: str, large: dict[str, Group]
) -> None:
    placed, group = place_teachers(deployment_of(recipe(name))), large["teacher-large"]
    in_node = [
        one.model.weight_bytes * min(one.per_node, one.layout.workers) / one.layout.workers
        for one in placed.values()
    ]
    # Any teacher may come to any node; a pipeline stage still downloads the whole model.
    assert sum(one.model.weight_bytes for one in placed.values()) < group.disk
    # Weights are read through the page cache, beside Ray's objects.
    assert max(in_node) + group.shared_memory < group.memory


@pytest.mark.parametrize("name", ["instruct", "math"])
def test_every_step_fits_the_spot_nodes_alone(name: str, large: dict[str, Group]) -> None:
    require_fits(recipe(name), cluster_of(large["teacher-large"]))
    require_fits(recipe(name), cluster_of(*large.values()))


@pytest.mark.parametrize("name", ["instruct", "math"])
def test_every_step_and_teacher_fits_the_vms(name: str, on_aws: dict[str, Group]) -> None:
    require_fits(recipe(name), cluster_of(on_aws["teacher-large"]))
    require_held(place_teachers(deployment_of(recipe(name))), on_aws["teacher-large"])
    require_held(place_teachers(deployment_of(recipe(name))), on_aws["trainer"])


def test_the_check_would_find_a_cluster_too_small(large: dict[str, Group]) -> None:
    with pytest.raises(ConfigError, match="GPUs"):
        require_fits(recipe("instruct"), cluster_of(large["cpu"]))


def test_the_quickstart_fits_the_small_cluster_s_cpus(small: dict[str, Group]) -> None:
    require_fits(recipe("quickstart"), cluster_of(small["cpu"]))
    assert (small["teacher"].nodes, small["teacher"].gpus) == (1, 4)
    assert small["teacher-large"].nodes == small["trainer"].nodes == 0


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_shared_memory_is_a_part_of_the_memory(overlay: str, request: Any) -> None:
    for name, group in request.getfixturevalue(overlay).items():
        # Ray's object store takes 30 % of a node's memory, at most 200 GB, and lies there.
        assert min(0.3 * group.memory, 200e9) <= group.shared_memory <= 0.5 * group.memory, name


def test_ray_takes_the_vm_launcher_s_file() -> None:
    config = prepare_config(yaml.safe_load((ROOT / "cluster/aws.yaml").read_text()))
    validate_config(config)
    types = config["available_node_types"]
    spot = {name for name, one in types.items() if "InstanceMarketOptions" in one["node_config"]}
    assert spot == {"cpu", "teacher", "teacher-large"}
    profiles = {
        name: one["node_config"]["IamInstanceProfile"]["Name"] for name, one in types.items()
    }
    assert profiles.pop("head") == "persyn"  # starts and ends instances
    assert set(profiles.values()) == {"persyn-worker"}
    assert types["head"]["resources"] == {"CPU": 0}
    assert sum(one["max_workers"] for one in types.values()) <= config["max_workers"]
    locked = [word for line in config["setup_commands"] for word in line.split() if ".txt" in word]
    for path in (word for word in locked if word.startswith("requirements/")):
        assert (ROOT / path).is_file()


# What cluster/start.py asks the autoscaler for.


@pytest.fixture
def start() -> Any:
    spec = importlib.util.spec_from_file_location("start", ROOT / "cluster/start.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nodes_are_asked_for_whole_and_exist(start: Any, large: dict[str, Group]) -> None:
    asked = start.bundles_of(recipe("instruct"))
    assert asked[:2] == [{"GPU": 8.0}, {"GPU": 8.0}]
    assert sum(bundle.get("GPU", 0) for bundle in asked) == 16  # steps use the same GPUs
    group = large["teacher-large"]
    assert group.nodes == 2
    assert sum(bundle.get("CPU", 0) for bundle in asked) <= large["cpu"].cpus


def test_a_recipe_without_gpus_asks_for_its_greediest_step(start: Any) -> None:
    assert start.bundles_of(recipe("quickstart")) in ([{"CPU": 1.0}] * 2, [{"CPU": 2.0}])


def test_a_range_of_workers_asks_for_the_fewest(start: Any) -> None:
    given = ("resources.router.workers=[3, 4]", "resources.router.cpus=7")
    asked = load_recipe(ROOT / "jobs/quickstart.yaml", ("run=nowhere/run", *given))
    assert start.bundles_of(asked) == [{"CPU": 7.0}] * 3


def test_nodes_that_are_too_small_do_not_count(start: Any) -> None:
    asked = recipe("instruct")
    assert start.missing(asked, [0.0, 8.0, 4.0]) == "1 of 2 nodes of 8 GPUs are there"
    assert start.missing(asked, [8.0, 8.0]) == ""
    assert start.missing(recipe("quickstart"), []) == ""


def test_it_becomes_the_run_with_the_same_arguments(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(start, "wait", lambda found, minutes: calls.append((found.run, minutes)))
    monkeypatch.setattr(start.os, "execvp", lambda *given: calls.append(given))
    monkeypatch.setenv("PERSYN_WAIT_MINUTES", "7")
    monkeypatch.setenv("RAY_ADDRESS", "to be put back")  # to nothing, where there was none
    monkeypatch.delenv("RAY_ADDRESS")
    arguments = [str(ROOT / "jobs/quickstart.yaml"), "run=s3://b/q", "--until", "collect"]
    start.main(arguments)
    assert calls == [("s3://b/q", 7.0), ("persyn", ["persyn", "run", *arguments])]
    assert start.os.environ["RAY_ADDRESS"] == "auto"  # else it would start a Ray of its own
