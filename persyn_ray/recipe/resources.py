"""The recipe's `resources` and `hardware`: what steps take. Never part of a run's identity."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from persyn_ray.recipe.base import Section
from persyn_ray.recipe.gpus import GPUS, GpuName


class StepResourcesConfig(Section):
    """What a pool of actors takes from the cluster.

    Either `actors`, or `min` and `max`: then it grows while there is room and work, and shrinks.
    """

    actors: int = Field(1, ge=1)
    """Size of a pool that keeps it."""
    min: int | None = Field(None, ge=1)
    """Fewest actors of a pool that grows: what the cluster must hold; 1 by default."""
    max: int | None = Field(None, ge=1)
    """Most actors of a pool that grows."""
    cpus: float = Field(1.0, ge=0)
    """Logical CPUs per actor."""
    gpus: float = Field(0.0, ge=0)
    """GPUs per actor."""
    threads: int | None = Field(None, ge=1)
    """Torch threads per actor; the number of logical CPUs by default."""

    @property
    def fewest(self) -> int:
        """Actors without which the step does not begin."""
        return self.actors if self.max is None else self.min or 1

    @property
    def most(self) -> int:
        """Actors that the step has at most."""
        return self.max or self.actors

    @property
    def at_once(self) -> int:
        """Actors that the cluster must hold at the same time."""
        return self.fewest

    @model_validator(mode="after")
    def _one_way(self) -> "StepResourcesConfig":
        if self.max is None and self.min is not None:
            raise ValueError(f"min is {self.min} without a max: add max, or give actors alone")
        if self.max is not None and self.actors != 1:
            raise ValueError(f"actors is {self.actors} beside max {self.max}: give one of them")
        if self.max is not None and self.fewest > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}; min may not be larger")
        return self


_Number = Annotated[int, Field(ge=1)]


def _num_workers(value: Any) -> Any:
    """A number of workers, or the fewest and the most of them."""
    both = value if isinstance(value, list | tuple) else (value, value)
    if len(both) != 2 or not all(type(one) is int and one >= 1 for one in both):
        raise ValueError("give a number from 1 on, or [fewest, most]")
    if both[0] > both[1]:
        raise ValueError(f"the fewest, {both[0]}, are more than the most, {both[1]}")
    return both[0] if both[0] == both[1] else tuple(both)


class TrainResourcesConfig(Section):
    """What a training run takes from the cluster."""

    workers: Annotated[_Number | tuple[_Number, _Number], BeforeValidator(_num_workers)] = 1
    """Processes that train together. `[fewest, most]`: as many as the cluster has room for, also
    when that changes; training then goes on from its last checkpoint with the new number."""
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    max_failures: int = Field(2, ge=-1)
    """Restarts after the death of a worker."""
    side_by_side: int = Field(1, ge=1)
    """Students fine-tuned at the same time, each with its own workers."""

    @model_validator(mode="after")
    def _one_at_a_time(self) -> "TrainResourcesConfig":
        if self.is_elastic and self.side_by_side > 1:
            raise ValueError(
                f"side_by_side is {self.side_by_side} and workers is [{self.fewest}, {self.most}]: "
                "the first training would take what the second waits for; give one number of "
                "workers, or side_by_side 1"
            )
        return self

    @property
    def fewest(self) -> int:
        """Workers without which a training does not begin."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        """Workers that a training has at most."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def at_once(self) -> int:
        """Workers that the cluster must hold at the same time."""
        return self.fewest * self.side_by_side

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change while they train."""
        return self.fewest < self.most


class StudentSizeConfig(Section):
    """Facts of the student for `persyn plan`, where its files are not at hand: its config.json has
    them."""

    parameters: float = Field(gt=0)
    """In billions."""
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    """Width of a layer."""
    vocabulary: int = Field(ge=1)


class FinetuneResourcesConfig(TrainResourcesConfig):
    """What fine-tuning takes from the cluster."""

    size: StudentSizeConfig | None = None


class ResourcesConfig(Section):
    """Execution only: never part of a run's identity."""

    collect: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    score: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    quality: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    score_with_collect: bool = True
    """Score responses while others are still written: on actors of their own where the cluster has
    room for those beside the teachers, or in the teachers' process where all models are small."""
    route: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    synthesize: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    evaluate: StepResourcesConfig = StepResourcesConfig()  # pyright: ignore[reportCallIssue]
    router: TrainResourcesConfig = TrainResourcesConfig()  # pyright: ignore[reportCallIssue]
    finetune: FinetuneResourcesConfig = FinetuneResourcesConfig()  # pyright: ignore[reportCallIssue]


class HardwareConfig(Section):
    """The cluster that `persyn plan` reckons with. Never part of a run's identity."""

    nodes: int = Field(0, ge=0)
    """Nodes with GPUs; 0 plans for no GPU."""
    gpus_per_node: int = Field(8, ge=1)
    gpu: GpuName | None = None
    """Sets memory, bandwidth and arithmetic below to this GPU's published figures (`recipe/gpus.py`
    names the sources), but for those that are given."""
    gpu_memory_gib: float = Field(80.0, gt=0)
    gpu_bandwidth_gb: float = Field(3350.0, gt=0)
    """Memory bandwidth of a GPU in GB/s (H100 SXM: 3,350)."""
    gpu_tflops: float = Field(990.0, gt=0)
    """Dense bf16 arithmetic of a GPU (H100 SXM: 990)."""
    read_gb_per_second: float = Field(2.0, gt=0)
    """How fast a node reads weights."""
    gpu_hour_dollars: float | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _published_figures(cls, data: Any) -> Any:
        """The figures of a named GPU stand where the recipe gives none."""
        figures = GPUS.get(str(data.get("gpu"))) if isinstance(data, dict) else None
        if figures is None:
            return data
        return {
            "gpu_memory_gib": figures.memory_gib,
            "gpu_bandwidth_gb": figures.bandwidth_gb,
            "gpu_tflops": figures.tflops,
        } | data
