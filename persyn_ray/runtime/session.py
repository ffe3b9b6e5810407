"""Connect to Ray and check, before anything starts, that the cluster can hold each step.

A Ray Data pipeline whose actors need more logical CPUs than there are waits without a word. So
every pool is compared with the cluster first, and refused with the numbers.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.resources import ResourcesConfig, StepResourcesConfig, TrainResourcesConfig
from persyn_ray.signals import keep_sigterm


@dataclass(frozen=True)
class Cluster:
    """What there is: logical CPUs, GPUs and memory in GiB, over all nodes."""

    cpus: float
    gpus: float
    memory_gib: float
    largest_node_cpus: float
    largest_node_gpus: float


@contextmanager
def session(verbose: bool = False, modules: Sequence[str] = ()) -> Iterator[Cluster]:
    """A connection to the cluster at RAY_ADDRESS, or to a Ray of this machine that ends with it.

    `modules` are files and folders of the user's own code, which workers get a copy of.

    `ray job submit` sets RAY_ADDRESS for what it starts.
    """
    started = not ray.is_initialized()
    if started:
        connect(verbose, modules)
    try:
        yield describe()
    finally:
        if started:
            ray.shutdown()
            keep_sigterm()


def connect(verbose: bool = False, modules: Sequence[str] = ()) -> None:
    """Connect to the cluster at RAY_ADDRESS, or start a Ray of this machine."""
    if not verbose:
        # Ray's C++ side warns of restarts in ways that say nothing about the run.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Nobody preempts this machine, and the watcher's process costs seconds of a core.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # A training waits for the next look at it whenever it reports, and once more at its end.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        runtime_env={"env_vars": worker_environment()}
        | ({"py_modules": list(modules)} if modules else {}),
    )
    keep_sigterm()  # Ray's own handlers dump a stack and leave the run as after kill -9


def worker_environment() -> dict[str, str]:
    """Variables of every worker process."""
    return {
        # Each forked tokenizer warns on every batch otherwise.
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    }


def describe() -> Cluster:
    """The connected cluster's size."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Cluster(
        cpus=sum(node.get("CPU", 0.0) for node in nodes),
        gpus=sum(node.get("GPU", 0.0) for node in nodes),
        memory_gib=sum(node.get("memory", 0.0) for node in nodes) / 2**30,
        largest_node_cpus=max((node.get("CPU", 0.0) for node in nodes), default=0.0),
        largest_node_gpus=max((node.get("GPU", 0.0) for node in nodes), default=0.0),
    )


def check_fits(run: str, resources: ResourcesConfig, cluster: Cluster) -> None:
    """Refuse a step that the cluster cannot hold, or a run (its address) that would be lost.

    Raises:
        ConfigError: with what is needed, what there is, and the settings that change it.
    """
    _check_place(run)
    for name in type(resources).model_fields:
        step: StepResourcesConfig | TrainResourcesConfig | bool = getattr(resources, name)
        if isinstance(step, bool):
            continue
        count, word, setting = step.at_once, "workers", "workers"
        if isinstance(step, StepResourcesConfig):
            word, setting = "actors", "actors" if step.max is None else "min"
        for unit, each, total, largest in (
            ("CPUs", step.cpus, cluster.cpus, cluster.largest_node_cpus),
            ("GPUs", step.gpus, cluster.gpus, cluster.largest_node_gpus),
        ):
            if count * each > total + 1e-9 or each > largest + 1e-9:
                key = f"resources.{name}"
                raise ConfigError(
                    f"Step {name} needs {count} {word} x {each:g} {unit} = {count * each:g}; "
                    f"the cluster has {total:g} (largest node {largest:g}). "
                    f"Lower {key}.{setting} or {key}.{unit.lower()}, or use a larger cluster."
                )


def _check_place(run: str) -> None:
    """A job with `--working-dir` works in a copy that Ray deletes, on one node."""
    if "/working_dir_files/" in os.getcwd() and "://" not in run and not os.path.isabs(run):
        raise ConfigError(
            f"`run` is {run!r}, which lies in the copy of the working folder that Ray made for "
            "this job and deletes after it. Name a place that all nodes share: run=/shared/NAME "
            "or run=s3://bucket/NAME; cluster/submit.sh makes a relative one absolute."
        )
