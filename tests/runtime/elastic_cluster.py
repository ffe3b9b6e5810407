"""Pools on a changing cluster: real raylets come, die and are drained while scripted engines run.
Prints what it saw as one JSON line; run by test_elastic_pools.py in a process of its own, with
RAY_AUTH_MODE=disabled: its raylets have no token.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.recipe.teachers import TeacherResourcesConfig
from persyn_ray.runtime.placement import ActorGroup
from persyn_ray.runtime.pools import run_units
from persyn_ray.runtime.session import worker_environment
from persyn_ray.runtime.teacher_scheduler import cluster_nodes, run_actor_groups
from persyn_ray.shards.units import Progress, Unit, units_of
from persyn_ray.storage.folder import Folder

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
MEMORY = 80 * 2**20
PATIENCE = 300.0
"""Seconds after which what a busy machine is slow with is given up."""
HURRY = "hurry"
"""A file: once it is there calls take no time, for nothing is watched any more."""
Call = dict[str, Any]
NUM_UNITS = {"teacher": 600, "pool": 240}
"""So many that some wait until the last node has gone, however slowly nodes come and go."""


class Logged:
    """A scripted engine: notes each call's begin and end; slow on one node."""

    def __init__(self, folder: Path, slow: str, seconds: float) -> None:
        node = ray.get_runtime_context().get_node_id()
        self.file = folder / f"{node}-{os.getpid()}.jsonl"
        self.node, self.seconds = node, seconds * (10 if node == slow else 1)
        self.lock = threading.Lock()

    def note(self, unit: Unit, what: str) -> None:
        call = {"unit": unit["shard"], "node": self.node, "what": what, "at": time.time()}
        with self.lock, self.file.open("a") as file:
            file.write(json.dumps(call) + "\n")

    def __call__(self, unit: Unit) -> Progress:
        self.note(unit, "begin")
        if not (self.file.parent / HURRY).exists():
            time.sleep(self.seconds)
        self.note(unit, "end")
        return Progress(rows=1)


def calls_in(folder: Path, what: str = "begin") -> list[Call]:
    found: list[Call] = []
    for file in folder.glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        found += [json.loads(line) for line in lines if line.endswith("\n")]
    return sorted((call for call in found if call["what"] == what), key=lambda call: call["at"])


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE} s")
        time.sleep(0.1)
    return found


def calls_on(node: str, folder: Path) -> list[Call]:
    return [call for call in calls_in(folder) if call["node"] == node]


def in_flight_on(node: str, folder: Path) -> set[str]:
    ended = {call["unit"] for call in calls_in(folder, "end")}
    return {call["unit"] for call in calls_on(node, folder)} - ended


class Run(threading.Thread):
    """Carries out what yields progress, beside what happens to the cluster."""

    def __init__(self, done: Any) -> None:
        super().__init__(daemon=True)
        self.generator, self.done, self.failure = done, list[Progress](), ""

    def run(self) -> None:
        try:
            self.done += list(self.generator)
        except Exception as error:
            self.failure = repr(error)


def crash(cluster: Cluster, node: Any, folder: Path) -> set[str]:
    """Take a working node away as a power cut does, its workers too; returns the units it had in
    hand."""
    until(lambda: in_flight_on(node.node_id, folder))
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    for file in folder.glob(f"{node.node_id}-*.jsonl"):
        with suppress(ProcessLookupError):  # an earlier process of its actor
            os.kill(int(file.stem.rpartition("-")[2]), signal.SIGKILL)
    lost = in_flight_on(node.node_id, folder)
    cluster.remove_node(node, allow_graceful=False)
    return lost


def drain(cluster: Cluster, node: str, seconds: float) -> bool:
    """Give notice that a node will be taken away, as clouds do for spot machines."""
    internals: Any = ray  # the command line's `ray drain-node` calls the same
    client = internals._raylet.GcsClient(address=cluster.address)
    reasons: Any = autoscaler_pb2
    reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, _ = client.drain_node(node, reason, "spot", int((time.time() + seconds) * 1000))
    return accepted


def teacher_on_changing_nodes(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """One engine on each GPU: a slow node and a fast one; one comes, one dies, one is drained."""
    folder.mkdir()
    slow, fast = (
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=MEMORY) for _ in "ab"
    )
    cluster.wait_for_nodes()
    units = tuple(units_of([f"unit-{number:03d}" for number in range(NUM_UNITS["teacher"])]))
    build = partial(_built, folder, slow.node_id, 0.4)
    resources = TeacherResourcesConfig(gpus=1, cpus=1)
    group = ActorGroup("t", build, units, resources, load_seconds=1, work_seconds=40, in_flight=2)
    run = Run(
        run_actor_groups([group], cluster_nodes(), "collect", Folder(str(folder / "marks")), {})
    )
    run.start()
    until(lambda: run.failure or len({call["node"] for call in calls_in(folder)}) == 2)
    assert not run.failure, run.failure
    time.sleep(8)
    shares = [sum(c["node"] == n.node_id for c in calls_in(folder)) for n in (slow, fast)]

    added_at = time.time()
    added = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=MEMORY)
    first = until(lambda: calls_on(added.node_id, folder))[0]

    killed_at = time.time()
    lost = crash(cluster, fast, folder)

    def again() -> list[Call]:
        return [c for c in calls_in(folder) if c["unit"] in lost and c["node"] != fast.node_id]

    until(lambda: {call["unit"] for call in again()} == lost)
    recovered = max((call["at"] for call in again()), default=killed_at) - killed_at

    drained_at = time.time()
    is_accepted = drain(cluster, added.node_id, 2 * PATIENCE)
    # It would begin a call every fifth of a second.
    until(lambda: time.time() - max(drained_at, calls_on(added.node_id, folder)[-1]["at"]) > 4)
    last_begun = calls_on(added.node_id, folder)[-1]["at"]
    left_in_flight = len(in_flight_on(added.node_id, folder))
    cluster.remove_node(added, allow_graceful=False)
    before_end = len(calls_in(folder))
    (folder / HURRY).touch()
    run.join(PATIENCE)
    calls = calls_in(folder)
    for node in set(cluster.worker_nodes):  # the next part has nodes of its own
        cluster.remove_node(node)
    return {
        "failure": run.failure,
        "alive": run.is_alive(),
        "shares": shares,
        "added_used_after": first["at"] - added_at,
        "lost_in_flight": len(lost),
        "recovered_after": recovered,
        "drain_accepted": is_accepted,
        "drain_heeded_after": max(0.0, last_begun - drained_at),
        "in_flight_after_drain": left_in_flight,
        "units": len({call["unit"] for call in calls}),
        "rework": len(calls) - len(units),
        "after_drain": len(calls) - before_end,
        "results": sum(done.rows for done in run.done),
    }


def _built(folder: Path, slow: str, seconds: float, placement: Any = None) -> Logged:
    return Logged(folder, slow, seconds)


def pool_between_bounds(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """A step's pool of 1 to 3 actors: grows on a node that comes; its rows outlive that node."""
    folder.mkdir()
    first = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    resources = StepResourcesConfig(min=1, max=3, cpus=1)  # pyright: ignore[reportCallIssue]
    units = units_of([f"unit-{number:03d}" for number in range(NUM_UNITS["pool"])])
    run = Run(run_units(partial(_built, folder, "", 0.5), units, resources, "score"))
    run.start()
    until(lambda: run.failure or len(calls_in(folder)) > 3)
    assert not run.failure, run.failure
    added_at = time.time()
    added = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
    used = until(lambda: calls_on(added.node_id, folder))[0]
    time.sleep(3)
    killed_at = time.time()
    lost = crash(cluster, added, folder)

    def again() -> list[Call]:
        return [c for c in calls_in(folder) if c["unit"] in lost and c["node"] == first.node_id]

    until(lambda: {call["unit"] for call in again()} >= lost)
    recovered = max((call["at"] for call in again()), default=killed_at) - killed_at
    (folder / HURRY).touch()
    run.join(PATIENCE)
    calls = calls_in(folder)
    return {
        "failure": run.failure,
        "alive": run.is_alive(),
        "added_used_after": used["at"] - added_at,
        "lost_in_flight": len(lost),
        "recovered_after": recovered,
        "units": len({call["unit"] for call in calls}),
        "rework": len(calls) - len(units),
        "results": sum(done.rows for done in run.done),
    }


def with_head() -> Cluster:
    """A cluster of a head without CPUs, to which this process is connected."""
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=MEMORY, include_dashboard=False)
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": worker_environment()},
    )
    return cluster


def main() -> None:
    folder = Path(sys.argv[1])
    cluster = with_head()
    seen = {
        "teacher": teacher_on_changing_nodes(cluster, folder / "teacher"),
        "pool": pool_between_bounds(cluster, folder / "pool"),
    }
    print(json.dumps(seen))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
