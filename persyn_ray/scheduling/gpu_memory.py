"""GPU memory and decoding speed of a model on given GPUs, by arithmetic.

For TP tensor-parallel times PP pipeline-parallel workers, each GPU must hold

    need = weights / (TP PP) + length x cache + OVERHEAD                            bytes

where `cache` is what one token leaves on one GPU: 2 x layers / PP x head size x bytes for each of
its kv heads, of which every GPU has kv heads / TP, and one at the least. An engine that works on B
responses at once, of mean length L, takes for one token of each

    step = max( (weights + B x L x cache x TP PP) / (READS x bandwidth x TP PP),
                2 x active parameters x B / (COMPUTES x flops x TP PP) )            seconds

and writes B / step tokens a second, besides the time in which it reads prompts

    prefill = 2 x active parameters x prompt tokens / (COMPUTES x flops x TP PP)   seconds a prompt

Attention's arithmetic, the ramp of a pipeline and traffic between GPUs are left out; READS and
COMPUTES are what engines reach in practice, in round figures. Expect the right order of magnitude
until a speed has been measured.
"""

from dataclasses import dataclass

from persyn_ray.scheduling.engine_model import StepTime

GIB = 2.0**30
OVERHEAD_BYTES = 2 * GIB  # activations, graphs and buffers of one GPU
READS, COMPUTES = 0.6, 0.4  # shares of a GPU's bandwidth and arithmetic that decoding reaches
START_SECONDS = 60.0  # an engine's start beside the reading of weights: compilation, graphs


@dataclass(frozen=True)
class ModelSize:
    """What a model weighs."""

    parameters: float
    active: float
    """Parameters that work on one token: fewer than all in a mixture of experts."""
    weight_bytes: float
    cache_bytes: float
    """One token in the caches of all layers and kv heads."""
    kv_heads: int
    context: int
    """Longest prompt + response in tokens."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: bytes that an engine may use, bytes per second, operations per second."""

    usable_bytes: float
    bandwidth: float
    flops: float


@dataclass(frozen=True)
class Layout:
    """How one engine is cut into workers, one GPU each."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def workers(self) -> int:
        """GPUs of one engine."""
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class Need:
    """Bytes that each GPU of an engine must hold."""

    weights: float
    cache: float
    overhead: float = OVERHEAD_BYTES

    @property
    def total(self) -> float:
        """All three."""
        return self.weights + self.cache + self.overhead


def token_bytes(model: ModelSize, layout: Layout) -> float:
    """What one token leaves in the cache of one GPU."""
    heads = max(1.0, model.kv_heads / layout.tensor)
    return model.cache_bytes * heads / model.kv_heads / layout.pipeline


def need_per_gpu(model: ModelSize, layout: Layout, length: float) -> Need:
    """Bytes on each GPU when one response of this length (with its prompt) is to fit."""
    return Need(model.weight_bytes / layout.workers, length * token_bytes(model, layout))


def fits(model: ModelSize, layout: Layout, length: float, gpu: Gpu) -> bool:
    """Whether the weights and one response fit."""
    return need_per_gpu(model, layout, length).total <= gpu.usable_bytes


def smallest_layout(
    model: ModelSize, length: float, gpu: Gpu, gpus_per_node: int, nodes: int
) -> Layout | None:
    """The fewest GPUs that hold the model: tensor parallel in a node, by powers of two, and beyond
    it one pipeline stage a node; None if the cluster cannot.
    """
    widest = 1 << (gpus_per_node.bit_length() - 1)
    layouts = [Layout(1 << power) for power in range(widest.bit_length())]
    layouts += [Layout(widest, stages) for stages in range(2, nodes + 1)]
    return next((one for one in layouts if fits(model, one, length, gpu)), None)


def responses_at_once(model: ModelSize, layout: Layout, length: float, gpu: Gpu) -> int:
    """Responses of this length whose caches fit beside the weights."""
    free = gpu.usable_bytes - need_per_gpu(model, layout, 0).total
    return max(0, int(free / (length * token_bytes(model, layout))))


def step_time(
    model: ModelSize, layout: Layout, mean_length: float, gpu: Gpu, prompt_tokens: float = 0.0
) -> StepTime:
    """One step of an engine, by the number of responses of this mean length in it."""
    bandwidth = READS * gpu.bandwidth * layout.workers
    token_seconds = 2 * model.active / (COMPUTES * gpu.flops * layout.workers)
    return StepTime(
        fixed=model.weight_bytes / bandwidth,
        per_response=mean_length * token_bytes(model, layout) * layout.workers / bandwidth,
        computing=token_seconds,
        prefill=token_seconds * prompt_tokens,
    )


def tokens_per_second(
    model: ModelSize, layout: Layout, at_once: int, mean_length: float, gpu: Gpu
) -> float:
    """Tokens that one engine writes in a second, working on `at_once` responses."""
    return at_once / float(step_time(model, layout, mean_length, gpu).seconds(at_once))


def load_seconds(
    model: ModelSize, layout: Layout, workers_in_node: int, read_bytes_per_second: float
) -> float:
    """Time until an engine can write: each node reads its part of the weights, all at once."""
    in_node = model.weight_bytes * min(workers_in_node, layout.workers) / layout.workers
    return START_SECONDS + in_node / read_bytes_per_second
