"""A cluster of several raylets on this machine, and drivers on it that can be killed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

BENCHMARKS = Path(__file__).parents[2]
ROOT = BENCHMARKS.parent
MEMORY = 80 * 2**20
WORKERS, CPUS, GPUS = 3, 3, 2
"""Nodes beside the head, and the logical resources of each."""


class Machines:
    """A head without resources, and nodes that are lost and replaced."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.head: Any = self.cluster.add_node(
            num_cpus=0, object_store_memory=MEMORY, include_dashboard=False
        )
        self.nodes: list[Any] = [self.added() for _ in range(WORKERS)]
        self.cluster.wait_for_nodes()

    def added(self) -> Any:
        """One more node."""
        return self.cluster.add_node(
            num_cpus=CPUS, num_gpus=GPUS, object_store_memory=MEMORY, include_dashboard=False
        )

    def raylet(self, node: Any) -> psutil.Process:
        """The process of a node that starts all others."""
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def actors(self, node: Any) -> list[psutil.Process]:
        """Processes of pools on a node."""
        return [one for one in children(self.raylet(node)) if "MapWorker" in line_of(one)]

    def replace(self, node: Any) -> None:
        """Take away what is left of a node and add another."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes[self.nodes.index(node)] = self.added()

    def close(self) -> None:
        """End all of it."""
        self.cluster.shutdown()


def children(process: psutil.Process) -> list[psutil.Process]:
    """Processes that it started, if it is there."""
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def line_of(process: psutil.Process) -> str:
    """The command line; empty for one that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def engine_of(actor: psutil.Process) -> psutil.Process | None:
    """The process of an actor's simulated engine."""
    found = (one for one in children(actor) if "engine_process.py" in line_of(one))
    return next(found, None)


class Drivers:
    """The process that forks drivers, see `driver.py`."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streaming_parts.killing.driver"],
            env=os.environ | {"RAY_ADDRESS": address},
            cwd=BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def start(self, step: str, folder: Path) -> int:
        """The pid of a new attempt."""
        return int(self._ask(f"start {step} {folder / 'recipe.yaml'} {folder / 'driver.log'}"))

    def status(self, pid: int) -> str:
        """`runs`, or its exit status."""
        return self._ask(f"status {pid}")

    def close(self) -> None:
        """No more of them."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError("the process that starts drivers has ended")
        return answer
