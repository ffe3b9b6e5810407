"""Refuses a training on nodes that do not share the run folder: a folder and nodes in, errors out.

Workers leave their parts of checkpoints and examples there, and would find out after hours that
each has written to a disk of its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from persyn_ray.errors import StepError
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.storage.folder import Folder

MARK_FILE = "storage.mark"
SECONDS = 60.0  # for every node to look


def nodes_for(resources: TrainResourcesConfig) -> dict[str, str]:
    """Nodes that may get a worker of a training, their addresses by their ids."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"]
        and all(node["Resources"].get(name, 0.0) >= num for name, num in wanted.items())
    }


def require_shared(
    folder: Folder, nodes: dict[str, str], sees: Callable[[Sequence[str], Path, str], list[bool]]
) -> None:
    """Refuse nodes that do not see what this process writes in a folder.

    Raises:
        StepError: naming them.
    """
    if not folder.is_local or len(nodes) < 2:
        return
    mark = uuid4().hex
    folder.write_text(MARK_FILE, mark)
    try:
        seen = sees(list(nodes), folder.local_path / MARK_FILE, mark)
    finally:
        folder.remove(MARK_FILE)
    if blind := [nodes[node] for node, is_seen in zip(nodes, seen, strict=True) if not is_seen]:
        raise StepError(
            f"{len(blind)} of {len(nodes)} nodes that workers of this training may be placed on do "
            f"not see {folder.address} as this process does: {', '.join(blind)}. Name a `run` on "
            "storage that all nodes share, such as /shared/NAME or s3://bucket/NAME."
        )


def sees(nodes: Sequence[str], path: Path, mark: str) -> list[bool]:
    """Whether each node reads a mark in a file; asked of all at once. One that does not answer is
    not judged."""
    look = ray.remote(num_cpus=0, max_retries=0)(_reads)
    asked = [
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        ).remote(path, mark)
        for node in nodes
    ]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=SECONDS)
    return [one not in ready or ray.get(one) for one in asked]


def _reads(path: Path, mark: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == mark
    except OSError:
        return False
