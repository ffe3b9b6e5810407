"""Checks whether teachers fit the cluster's GPUs, before anything starts.

A teacher stands on GPUs when it runs here (engines vllm and transformers) in a pool of its own that
takes some. Teachers that share the actors of `resources.collect` are not sized.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.choices import VLLM_SEQUENCES, has_own_pool, resources_of
from persyn_ray.pipeline.plan.model_sizes import arguments_of, model_size
from persyn_ray.recipe.engines import TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import HardwareConfig
from persyn_ray.recipe.teachers import GPU_USE, TeacherConfig, TeacherResourcesConfig
from persyn_ray.scheduling import gpu_memory
from persyn_ray.scheduling.gpu_memory import GIB, Gpu, Layout, ModelSize, Need


@dataclass(frozen=True)
class Placed:
    """One teacher on the cluster's GPUs."""

    model: ModelSize
    gpu: Gpu
    layout: Layout
    length: int
    """Longest prompt + response."""
    most_at_once: int
    """Responses that one engine is given at once."""
    resources: TeacherResourcesConfig
    smallest: Layout | None
    """The fewest GPUs that hold it on this cluster."""

    @property
    def need(self) -> Need:
        """Bytes on each GPU for one response of full length."""
        return gpu_memory.need_per_gpu(self.model, self.layout, self.length)

    @property
    def gpus(self) -> int:
        """Whole GPUs that one engine keeps from others."""
        return max(1, math.ceil(self.resources.gpus * self.layout.workers))

    @property
    def per_node(self) -> int:
        """GPUs of one engine that stand in one node."""
        return self.gpus // self.layout.pipeline if self.resources.across_nodes else self.gpus

    def at_once(self, length: float) -> int:
        """Responses of this length, prompt included, that an engine works on at once."""
        length = min(length, self.length)
        held = gpu_memory.responses_at_once(self.model, self.layout, length, self.gpu)
        return max(1, min(held, self.most_at_once))

    def tokens_per_second(self, mean_length: float) -> float:
        """Speed of one engine: as the recipe says, or estimated at this length while writing."""
        if self.resources.tokens_per_second is not None:
            return self.resources.tokens_per_second
        length = min(mean_length, self.length)
        return gpu_memory.tokens_per_second(
            self.model, self.layout, self.at_once(length), length, self.gpu
        )

    def load_seconds(self, hardware: HardwareConfig) -> float:
        """Time until an engine can write: as the recipe says, or estimated."""
        if self.resources.load_seconds is not None:
            return self.resources.load_seconds
        rate = hardware.read_gb_per_second * 1e9
        return gpu_memory.load_seconds(self.model, self.layout, self.per_node, rate)


@dataclass(frozen=True)
class Deployment:
    """Teachers, and the cluster that they are to stand on."""

    teachers: tuple[TeacherConfig, ...]
    hardware: HardwareConfig


def deployment_of(recipe: Recipe) -> Deployment:
    """The teachers of a recipe on its hardware."""
    return Deployment(recipe.teachers, recipe.hardware)


def stands_on_gpus(teacher: TeacherConfig) -> bool:
    """Whether a teacher runs on GPUs of its own."""
    is_local = isinstance(teacher.engine, VllmEngineConfig | TransformersEngineConfig)
    return is_local and has_own_pool(teacher) and resources_of(teacher).gpus > 0


def gpu_teachers(teachers: Sequence[TeacherConfig]) -> tuple[TeacherConfig, ...]:
    """The teachers that run on GPUs of their own, in the same order."""
    return tuple(teacher for teacher in teachers if stands_on_gpus(teacher))


def place_teachers(deployment: Deployment) -> dict[str, Placed]:
    """Every teacher that stands on GPUs, on the given hardware; none without hardware.

    Raises:
        ConfigError: teachers do not fit, each with its need, what there is and what would do; or
            sizes of models are not known.
    """
    hardware = deployment.hardware
    if not hardware.nodes:
        return {}
    placed, unknown = place_known(deployment)
    if unknown:
        raise ConfigError("\n".join(unknown.values()))
    lines = [
        f"Teacher {name!r} {problem} {_advice(one, hardware)}"
        for name, one in placed.items()
        if (problem := _problem(one, hardware)) is not None
    ]
    if lines:
        raise ConfigError("\n  ".join([f"{cluster_text(hardware)} cannot hold:", *lines]))
    return placed


def place_known(deployment: Deployment) -> tuple[dict[str, Placed], dict[str, str]]:
    """Teachers on GPUs whose size is known, fitting or not; and why it is not for the others."""
    placed: dict[str, Placed] = {}
    unknown: dict[str, str] = {}
    for teacher in gpu_teachers(deployment.teachers):
        try:
            placed[teacher.name] = place(teacher, deployment.hardware)
        except ConfigError as error:
            unknown[teacher.name] = str(error)
    return placed, unknown


def place(teacher: TeacherConfig, hardware: HardwareConfig) -> Placed:
    """One teacher as the recipe lays it out, fitting or not."""
    resources = resources_of(teacher)
    model, arguments = model_size(teacher), arguments_of(teacher)
    use = float(arguments.get("gpu_memory_utilization", GPU_USE * min(1.0, resources.gpus)))
    gpu = Gpu(
        hardware.gpu_memory_gib * GIB * use,
        hardware.gpu_bandwidth_gb * 1e9,
        hardware.gpu_tflops * 1e12,
    )
    length = longest(teacher, model.context)
    return Placed(
        model=model,
        gpu=gpu,
        layout=Layout(resources.tensor_parallel, resources.pipeline_parallel),
        length=length,
        most_at_once=_most_at_once(teacher, int(arguments.get("max_num_seqs", VLLM_SEQUENCES))),
        resources=resources,
        smallest=gpu_memory.smallest_layout(
            model, length, gpu, hardware.gpus_per_node, hardware.nodes
        ),
    )


def longest(teacher: TeacherConfig, context: int) -> int:
    """Longest prompt + response that a local engine takes."""
    if isinstance(teacher.engine, VllmEngineConfig) and teacher.engine.max_model_len is not None:
        return min(context, teacher.engine.max_model_len)
    return context


def _most_at_once(teacher: TeacherConfig, engine_limit: int) -> int:
    """Responses that an engine is given at once: its batch, or as many as it takes."""
    if isinstance(teacher.engine, TransformersEngineConfig):
        return teacher.engine.batch_size
    return engine_limit


def _problem(placed: Placed, hardware: HardwareConfig) -> str | None:
    """Why a teacher cannot stand on the cluster as it is laid out; None if it can."""
    each, layout = hardware.gpus_per_node, layout_text(placed.layout)
    if placed.per_node > each:
        where = "for one pipeline stage" if placed.resources.across_nodes else "for one engine"
        return f"needs {placed.per_node} GPUs in one node {where} ({layout}); a node has {each}."
    engines = each // placed.per_node * hardware.nodes
    if engines * placed.per_node < placed.gpus:
        return f"needs {placed.gpus} GPUs ({layout}); there are {each * hardware.nodes}."
    need = placed.need
    if need.total <= placed.gpu.usable_bytes:
        return None
    return (
        f"needs {gib(need.total)} GiB on each GPU with {layout} (weights {gib(need.weights)}, one "
        f"response of {placed.length:,} tokens {gib(need.cache)}, overhead {gib(need.overhead)}); "
        f"{gib(placed.gpu.usable_bytes)} of {hardware.gpu_memory_gib:g} GiB are usable."
    )


def _advice(placed: Placed, hardware: HardwareConfig) -> str:
    smallest = placed.smallest
    if smallest is None:
        return "No layout here holds it: quantize it, lower engine.max_model_len, or add nodes."
    apart = " and across_nodes true" if smallest.pipeline > 1 else ""
    return f"It would fit with {layout_text(smallest)}{apart} (`resources`)."


def cluster_text(hardware: HardwareConfig) -> str:
    """The cluster in words."""
    nodes = f"{hardware.nodes} node{'s' if hardware.nodes > 1 else ''}"
    return f"{nodes} x {hardware.gpus_per_node} GPUs of {hardware.gpu_memory_gib:g} GiB"


def layout_text(layout: Layout) -> str:
    """A layout under the recipe's keys."""
    pipeline = f" x pipeline_parallel {layout.pipeline}" if layout.pipeline > 1 else ""
    return f"tensor_parallel {layout.tensor}{pipeline}"


def gib(value: float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{value / GIB:,.1f}"
