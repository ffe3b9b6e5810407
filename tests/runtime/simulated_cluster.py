"""Nineteen teachers of 1.5B to 405B on a cluster of fake GPUs: real raylets, real placement groups,
scripted engines. Prints what it saw as one JSON line; run by test_teacher_scheduler.py in a process
of its own, with RAY_AUTH_MODE=disabled: its raylets have no token.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from persyn_ray.method.planted import specialists
from persyn_ray.pipeline.collect import ask
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.runtime.session import worker_environment
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record

# Billions of parameters and the layout of one engine: (tensor parallel, pipeline parallel).
SIZES = (1.5, 2, 3, 3.8, 7, 7, 7, 8, 8, 9, 14, 14, 27, 32, 70, 70, 72, 72, 405)
LAYOUTS = {27: (2, 1), 32: (2, 1), 70: (4, 1), 72: (4, 1), 405: (8, 2)}
NODES, GPUS = 2, 8


def teacher(number: int, size: float) -> dict[str, Any]:
    tensor, pipeline = LAYOUTS.get(int(size), (1, 1))
    resources = {
        "gpus": 1,
        "cpus": 1,
        "tensor_parallel": tensor,
        "pipeline_parallel": pipeline,
        "across_nodes": pipeline > 1,
        "replicas": 1,
        "load_seconds": size,
    }
    return {
        "name": f"t{number:02d}-{size:g}b",
        "engine": {"kind": "scripted"},
        "resources": resources,
    }


def make_recipe(folder: Path) -> Recipe:
    teachers = [teacher(number, size) for number, size in enumerate(SIZES)]
    world = specialists(4, tuple(one["name"] for one in teachers))
    lines = [
        json.dumps({"prompt": p.text, "answer": world.right_answer(p.text)})
        for p in world.prompts(24)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    data = {
        "run": str(folder / "run"),
        "student": {"name": "random:llama"},
        "teachers": teachers,
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "reference_column": "answer",
            "num_parallel": 24,
            "shard_rows": 12,
        },
        "scoring": {"quality": {"kind": "exact_match"}},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data, "simulation")


class Watcher(threading.Thread):
    """Looks at the cluster again and again: GPUs in use, and every placement group granted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_gpus = 0.0
        self.groups: dict[str, dict[str, Any]] = {}
        self.is_done = threading.Event()

    def run(self) -> None:
        while not self.is_done.wait(0.3):
            free = ray.available_resources().get("GPU", 0.0)
            self.most_gpus = max(self.most_gpus, NODES * GPUS - free)
            for name, group in ray.util.placement_group_table().items():
                if group["state"] == "CREATED":
                    nodes = list(group["bundles_to_node_id"].values())
                    self.groups[name] = {
                        "bundles": len(group["bundles"]),
                        "strategy": group["strategy"],
                        "per_node": sorted(nodes.count(node) for node in set(nodes)),
                    }


def main() -> None:
    from rich.console import Console

    folder = Path(sys.argv[1])
    recipe = make_recipe(folder)
    run = run_of(recipe)
    write_record(
        run.records,
        Record("prompts", "x", {}, {}, write_prompts(recipe, run).model_dump(mode="json")),
    )
    memory = 80 * 2**20
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=memory, include_dashboard=False)
    for _ in range(NODES):
        cluster.add_node(num_cpus=2 * GPUS, num_gpus=GPUS, object_store_memory=memory)
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": worker_environment()},
    )
    watcher = Watcher()
    watcher.start()
    counts = ask(recipe, run, "collect", shards_of(run, "parallel"), None, Console(quiet=True))
    watcher.is_done.set()
    watcher.join()
    print(
        json.dumps(
            {
                "rows": counts.rows,
                "errors": counts.errors,
                "teachers": sorted(counts.teachers),
                "most_gpus": watcher.most_gpus,
                "groups": sorted(watcher.groups.values(), key=lambda one: one["bundles"]),
            }
        )
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
