"""The recipe's `resources` and `hardware`: what steps take. Never part of a run's identity."""

from pydantic import Field

from persyn_ray.recipe.base import Section


class StepResourcesConfig(Section):
    """What a pool of actors takes from the cluster."""

    actors: int = Field(1, ge=1)
    cpus: float = Field(1.0, ge=0)
    """Logical CPUs per actor."""
    gpus: float = Field(0.0, ge=0)
    """GPUs per actor."""
    threads: int | None = Field(None, ge=1)
    """Torch threads per actor; the number of logical CPUs by default."""


class TrainResourcesConfig(Section):
    """What a training run takes from the cluster."""

    workers: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    max_failures: int = Field(2, ge=-1)
    """Restarts after the death of a worker."""
    side_by_side: int = Field(1, ge=1)
    """Students fine-tuned at the same time, each with its own workers."""


class ResourcesConfig(Section):
    """Execution only: never part of a run's identity."""

    collect: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    score: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    quality: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    score_with_collect: bool = False
    """Score responses in the actors that collect them: teachers and student share a process."""
    route: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    synthesize: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    evaluate: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    router: TrainResourcesConfig = TrainResourcesConfig()  # pyright: ignore[reportCallIssue]
    finetune: TrainResourcesConfig = TrainResourcesConfig()  # pyright: ignore[reportCallIssue]


class HardwareConfig(Section):
    """The cluster that `persyn plan` reckons with. Never part of a run's identity."""

    nodes: int = Field(0, ge=0)
    """Nodes with GPUs; 0 plans for no GPU."""
    gpus_per_node: int = Field(8, ge=1)
    gpu_memory_gib: float = Field(80.0, gt=0)
    gpu_bandwidth_gb: float = Field(3350.0, gt=0)
    """Memory bandwidth of a GPU in GB/s (H100 SXM: 3,350)."""
    gpu_tflops: float = Field(990.0, gt=0)
    """Dense bf16 arithmetic of a GPU (H100 SXM: 990)."""
    read_gb_per_second: float = Field(2.0, gt=0)
    """How fast a node reads weights."""
    gpu_hour_dollars: float | None = Field(None, ge=0)
