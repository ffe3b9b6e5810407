"""Actor groups on a real Ray: one that fails stops alone, dying engines are given up, and nineteen
teachers share sixteen fake GPUs of a simulated cluster.
"""

import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray.cloudpickle

from persyn_ray.errors import EngineDead, StepError
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime.placement import ActorGroup
from persyn_ray.runtime.session import Cluster
from persyn_ray.runtime.teacher_scheduler import GroupProgress, cluster_nodes, run_actor_groups
from persyn_ray.shards.units import Progress, Unit, units_of
from persyn_ray.storage.folder import Folder

from .own_cluster import printed_by

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Touch:
    """Leaves a file for each unit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, unit: Unit) -> Progress:
        (self.folder / unit["shard"]).touch()
        return Progress(rows=1, tokens=2)


class Dying(Touch):
    """Its engine dies with each unit; leaves a file for each process that tried."""

    def __call__(self, unit: Unit) -> Progress:
        (self.folder / f"died-{os.getpid()}").touch()
        raise EngineDead("no memory left")


class Together(Touch):
    """Two units of one actor that wait for each other: serial calls would never end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.barrier = threading.Barrier(2)

    def __call__(self, unit: Unit) -> Progress:
        self.barrier.wait(60)
        return super().__call__(unit)


def build(kind: type[Touch], folder: Path, placement: Any) -> Touch:
    return kind(folder)


def group(
    name: str, kind: type[Touch], folder: Path, num_units: int, in_flight: int = 1, **changes: Any
) -> ActorGroup:
    resources = TeacherResourcesConfig(**({"gpus": 0, "cpus": 1, "replicas": 1} | changes))
    units = tuple(units_of([f"{name}-{number}" for number in range(num_units)]))
    build_it = partial(build, kind, folder)
    return ActorGroup(name, build_it, units, resources, in_flight=in_flight)


def test_actor_groups_share_the_cores_and_a_failing_one_stops_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    groups = [
        group("good", Touch, tmp_path, 3),
        group("dying", Dying, tmp_path, 2, max_deaths=1),
        group("together", Together, tmp_path, 2, in_flight=2),
    ]
    counts: dict[str, GroupProgress] = {}
    marks = Folder(str(tmp_path / "marks"))
    with pytest.raises(StepError) as failed:
        for _ in run_actor_groups(groups, cluster_nodes(), "collect", marks, counts):
            pass
    message = str(failed.value)
    assert "1 of 3" in message
    assert "dying" in message
    assert "2 deaths" in message
    assert "no memory left" in message
    assert counts["good"].done == Progress(rows=3, tokens=6)
    assert counts["together"].done == Progress(rows=2, tokens=4)
    assert counts["good"].seconds > 0
    done = {path.name for path in tmp_path.iterdir()}
    assert {"good-0", "good-1", "good-2", "together-0", "together-1"} <= done
    assert len([name for name in done if name.startswith("died-")]) == 2


def test_a_shared_pool_is_an_actor_group_too(cluster: Cluster, tmp_path: Path) -> None:
    units = tuple(units_of(["a", "b", "c"]))
    shared = ActorGroup(
        "shared", partial(build, Touch, tmp_path), units, StepResourcesConfig(actors=2, cpus=1)
    )
    counts: dict[str, GroupProgress] = {}
    marks = Folder(str(tmp_path / "marks"))
    done = list(run_actor_groups([shared], cluster_nodes(), "collect", marks, counts))
    assert len(done) == 3
    assert {"a", "b", "c"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.timeout(2400)
def test_nineteen_teachers_share_sixteen_fake_gpus(tmp_path: Path) -> None:
    lines = printed_by("simulated_cluster.py", tmp_path, 2300)
    seen = json.loads(lines[-1])
    assert (seen["rows"], seen["errors"]) == (19 * 24, 0)
    assert len(seen["teachers"]) == 19
    assert 8 < seen["most_gpus"] <= 16
    groups = seen["groups"]
    assert [one["bundles"] for one in groups] == [2, 2, 4, 4, 4, 4, 16]
    # Tensor parallel workers in one node; the pipeline's two stages in two.
    assert all(one["per_node"] == [one["bundles"]] for one in groups[:-1])
    assert groups[-1]["per_node"] == [8, 8]
    responses = tmp_path / "run" / "tables" / "responses"
    parts = list(responses.rglob("*.parquet"))
    assert 19 <= len(parts) <= 19 * 2  # batches that end together are written together
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 19 * 24
