"""GPU memory and time of a fine-tuning, by arithmetic.

One of W workers, each on a GPU of its own, trains T of P parameters that are held in b bytes (4 in
float32, 2 in bfloat16), at ZeRO stage s, on micro-batches of n examples of up to L tokens. It holds

    weights      = P b / (W from stage 3 on)                                        bytes
    gradients    = T b / (W from stage 2 on)
    optimiser    = 12 T / (W from stage 1 on)           a float32 copy, AdamW's two averages
                 = 8 T in float32 at stage 0            the weights themselves, and the averages
    activations  = n L hidden (34 b / 2) layers         17 numbers of each layer's width
                 = n L hidden (b layers + 34 b / 2)     with checkpointing: one layer anew
    logits       = 8 V R + 4 V hidden                   R response tokens at once, and the gradient
                                                        of the head where it is trained
    buffers      = b min(P, 1e9) at stage 3             gathered weights, DeepSpeed's default
                 = b min(T, 5e8) at stages 1 and 2      a bucket of gradients, DeepSpeed's default

besides OVERHEAD. What is offloaded counts nothing. Activations are those of Korthikanti et al. 2022
(arXiv 2205.05198) without attention's matrices, which no kernel here keeps. All weights work on
every token but for adapters of rank r, which are about 22 r hidden a layer: seven matrices, with an
inner width of 3.5 hidden. A token takes

    6 P operations, 4 P with adapters, and 2 P more with checkpointing

at COMPUTES of the GPU's arithmetic. Expect the right order of magnitude.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from persyn_ray.scheduling.gpu_memory import COMPUTES, OVERHEAD_BYTES, Gpu

OF_LAYER = 17  # numbers of the layer's width that its backward pass needs, for a token
AVERAGES_BYTES, COPY_BYTES = 8, 4
LIVE_WEIGHTS, BUCKET = 1e9, 5e8
ADAPTER_WIDTHS = 22


@dataclass(frozen=True)
class TrainedModel:
    """What a student weighs."""

    parameters: float
    layers: int
    hidden: int
    vocabulary: int


@dataclass(frozen=True)
class Setup:
    """How it is trained."""

    workers: int
    stage: int
    offloads_optimiser: bool
    offloads_weights: bool
    bytes_of_weight: int
    micro_batch: int
    length: int
    is_checkpointed: bool
    logits_at_once: int
    """0 for those of a whole micro-batch."""
    rank: int | None
    """Of adapters; None trains all weights."""


@dataclass(frozen=True)
class TrainingNeed:
    """Bytes on the GPU of one worker."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    buffers: float

    @property
    def total(self) -> float:
        """All of it, with the overhead of a process."""
        return sum(vars(self).values()) + OVERHEAD_BYTES


def trained_parameters(model: TrainedModel, rank: int | None) -> float:
    """Parameters that are trained: all, or those of the adapters."""
    if rank is None:
        return model.parameters
    return float(ADAPTER_WIDTHS * rank * model.layers * model.hidden)


def training_need(model: TrainedModel, setup: Setup) -> TrainingNeed:
    """What each worker's GPU must hold."""
    each, workers, stage = setup.bytes_of_weight, setup.workers, setup.stage
    trained = trained_parameters(model, setup.rank)
    tokens = setup.micro_batch * setup.length
    layers = OF_LAYER * model.layers
    if setup.is_checkpointed:
        layers = OF_LAYER + model.layers
    rows = min(tokens, setup.logits_at_once or tokens)
    head = 4 * model.vocabulary * model.hidden if setup.rank is None else 0
    bucket = each * min(trained, BUCKET) if stage else 0.0
    weights = model.parameters * each / (workers if stage == 3 else 1)
    optimiser = AVERAGES_BYTES + (0 if stage == 0 and each == COPY_BYTES else COPY_BYTES)
    return TrainingNeed(
        weights=0.0 if setup.offloads_weights else weights,
        gradients=trained * each / (workers if stage >= 2 else 1),
        optimiser=0.0
        if setup.offloads_optimiser
        else trained * optimiser / (workers if stage >= 1 else 1),
        activations=float(tokens * model.hidden * layers * each),
        logits=8.0 * model.vocabulary * rows + head,
        buffers=each * min(model.parameters, LIVE_WEIGHTS) if stage == 3 else bucket,
    )


def training_seconds(model: TrainedModel, setup: Setup, tokens: float, gpu: Gpu) -> float:
    """Time of all workers together for so many tokens, loading left out."""
    operations = (6 if setup.rank is None else 4) + (2 if setup.is_checkpointed else 0)
    return operations * model.parameters * tokens / (COMPUTES * gpu.flops * setup.workers)


def remedies(model: TrainedModel, setup: Setup, usable_bytes: float) -> list[str]:
    """Changes of settings that would make a training fit: each that does alone, or else the first
    few that do together; none where nothing here does."""
    changes = list(_changes(setup))
    alone = [name for name, one in changes if _fits(model, replace(setup, **one), usable_bytes)]
    if alone:
        return alone
    names: Sequence[str] = ()
    for name, one in changes:
        setup = replace(setup, **one)
        key = name.split()[0]  # what an earlier change has set is set anew
        names = [*(other for other in names if other.split()[0] != key), name]
        if _fits(model, setup, usable_bytes):
            return [" and ".join(names)]
    return []


def _fits(model: TrainedModel, setup: Setup, usable_bytes: float) -> bool:
    return training_need(model, setup).total <= usable_bytes


def _changes(setup: Setup) -> Iterator[tuple[str, dict[str, object]]]:
    """What is not set yet, the cheapest first."""
    if not setup.logits_at_once:
        yield "finetune.logits_at_once 1024", {"logits_at_once": 1024}
    if setup.bytes_of_weight > 2:
        # One worker leaves stages 1 and 2 out in float32 alone.
        stage = 2 if setup.workers == 1 and setup.stage == 0 else setup.stage
        yield "finetune.dtype bfloat16", {"bytes_of_weight": 2, "stage": stage}
    if not setup.is_checkpointed:
        yield "finetune.gradient_checkpointing true", {"is_checkpointed": True}
    if setup.micro_batch > 1:
        yield "finetune.micro_batch_size 1", {"micro_batch": 1}
    if setup.stage < 3:
        yield "finetune.deepspeed zero3", {"stage": 3}
    if not setup.offloads_weights:
        offloaded = {"stage": 3, "offloads_optimiser": True, "offloads_weights": True}
        yield "finetune.deepspeed zero3_offload", offloaded
    if setup.rank is None:
        yield "finetune.lora {rank: 16}", {"rank": 16}
