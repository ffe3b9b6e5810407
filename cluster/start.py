"""Ask Ray's autoscaler for the nodes that a recipe needs, wait for them, and become `persyn run`.

    python cluster/start.py RECIPE [key=value ...] [options of `persyn run`]

`persyn run` takes the cluster as it finds it, and a cluster that scales by itself is empty at
first. What is asked for: `hardware.nodes` nodes of `hardware.gpus_per_node` GPUs each, and the CPUs
of the greediest step without GPUs. Ray keeps the request until the cluster ends, so that no node is
taken away between two steps. PERSYN_WAIT_MINUTES (60) limits the wait.
"""

import logging
import os
import sys
import time

from persyn_ray.errors import ConfigError, PersynError
from persyn_ray.recipe.recipe import Recipe, load_recipe

Bundles = list[dict[str, float]]
POLL_SECONDS = 5.0


def bundles_of(recipe: Recipe) -> Bundles:
    """What must fit into the cluster at once, a bundle in one node."""
    resources, hardware = recipe.resources, recipe.hardware
    steps = [getattr(resources, name) for name in type(resources).model_fields]
    pools = [step for step in steps if not isinstance(step, bool)]
    shapes = [
        [{"CPU": pool.cpus, "GPU": pool.gpus} if pool.gpus else {"CPU": pool.cpus}] * pool.at_once
        for pool in pools
        if not (pool.gpus and hardware.nodes)
    ]
    greediest = max(shapes, key=lambda shape: sum(bundle["CPU"] for bundle in shape), default=[])
    nodes: Bundles = [{"GPU": float(hardware.gpus_per_node)}] * hardware.nodes
    return nodes + greediest


def missing(recipe: Recipe, node_gpus: list[float]) -> str:
    """What the plan has and the cluster has not, or nothing."""
    hardware = recipe.hardware
    there = sum(gpus >= hardware.gpus_per_node for gpus in node_gpus)
    if there >= hardware.nodes:
        return ""
    return f"{there} of {hardware.nodes} nodes of {hardware.gpus_per_node} GPUs are there"


def wait(recipe: Recipe, minutes: float) -> None:
    """Return when the cluster holds the recipe.

    Raises:
        ConfigError: it does not after so many minutes; with what is missing.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    from persyn_ray.runtime.session import check_fits, describe

    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    request_resources(bundles=bundles_of(recipe))
    deadline, said = time.monotonic() + 60 * minutes, ""
    while True:
        nodes = [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]
        lacks = missing(recipe, nodes)
        try:
            check_fits(recipe.run, recipe.resources, describe())
        except ConfigError as error:
            lacks = lacks or str(error)
        if not lacks:
            break
        if time.monotonic() > deadline:
            raise ConfigError(f"After {minutes:g} min (PERSYN_WAIT_MINUTES) still: {lacks}")
        if lacks != said:
            print(f"Waiting for nodes: {lacks}", flush=True)
            said = lacks
        time.sleep(POLL_SECONDS)
    ray.shutdown()


def main(arguments: list[str]) -> None:
    """Wait, then replace this process by `persyn run` with the same arguments."""
    os.environ.setdefault("RAY_ADDRESS", "auto")  # without it `persyn run` starts a Ray of its own
    recipe = load_recipe(arguments[0], tuple(a for a in arguments[1:] if "=" in a and a[0] != "-"))
    wait(recipe, float(os.environ.get("PERSYN_WAIT_MINUTES", "60")))
    os.execvp("persyn", ["persyn", "run", *arguments])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1:])
    except PersynError as problem:
        sys.exit(str(problem))
