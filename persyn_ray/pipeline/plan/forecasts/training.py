"""Forecasts step finetune: a recipe and its examples in; memory, steps and time of a student out.

The arithmetic is that of scheduling/training_memory.py. Sizes come from `resources.finetune.size`,
or from config.json where the student lies on this machine; without either nothing is forecast.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.models.finetune.partitioning import (
    offloads,
    partitioned_for,
    zero_stage,
)
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.plan.forecasts.expected_tokens import Length
from persyn_ray.pipeline.plan.model_sizes import known_parameters, local_folder
from persyn_ray.pipeline.plan.placement import cluster_text, gib
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import (
    FinetuneResourcesConfig,
    HardwareConfig,
    StudentSizeConfig,
)
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.scheduling.gpu_memory import GIB, Gpu
from persyn_ray.scheduling.training_memory import (
    Setup,
    TrainedModel,
    TrainingNeed,
    remedies,
    training_need,
    training_seconds,
)

USABLE = 0.95  # of a GPU's memory: what is left beside fragments of the allocator


@dataclass(frozen=True)
class TrainingForecast:
    """What fine-tuning takes, for each of its students."""

    students: int
    parameters: float
    adapters: str
    """Whether adapters are trained, and why."""
    need: TrainingNeed | None
    """On each worker's GPU; None where it takes none, or there is no hardware."""
    usable_bytes: float
    examples: int
    """At most: none is left out."""
    steps: int
    tokens: float
    """Read by one student, over all epochs."""
    at_most: bool
    seconds: float | None
    """Of all students."""
    gpu_seconds: float


def forecast_training(
    recipe: Recipe, num_prompts: Mapping[str, int], lengths: Mapping[str, Length]
) -> TrainingForecast | None:
    """What step finetune takes; None where the student's size is not known.

    Raises:
        ConfigError: it does not fit the hardware, with the settings that would help.
    """
    model = trained_model(recipe.student.model, recipe.resources.finetune.size)
    if model is None:
        return None
    config, resources, hardware = recipe.finetune, recipe.resources.finetune, recipe.hardware
    setup = _setup(config, resources, model)
    gpu = Gpu(hardware.gpu_memory_gib * GIB * USABLE, 0.0, hardware.gpu_tflops * 1e12)
    is_placed = bool(hardware.nodes and resources.gpus)
    need = training_need(model, setup) if is_placed else None
    if need is not None:
        _require_fit(need, model, setup, gpu, hardware)
    examples = num_prompts["parallel"] + num_prompts["routed"]
    steps, seen = _steps(config, examples)
    tokens = seen * _mean_tokens(lengths, config.max_length)
    students = len(assigned_methods(recipe.compare))
    each = training_seconds(model, setup, tokens, gpu) if is_placed else None
    return TrainingForecast(
        students=students,
        parameters=model.parameters,
        adapters=_said(setup.rank, config.lora == "auto"),
        need=need,
        usable_bytes=gpu.usable_bytes,
        examples=examples,
        steps=steps,
        tokens=tokens,
        at_most=any(length.is_bound for length in lengths.values()),
        seconds=each and each * math.ceil(students / resources.side_by_side),
        gpu_seconds=(each or 0.0) * students * resources.most * math.ceil(resources.gpus),
    )


def trained_model(student: ModelConfig, given: StudentSizeConfig | None) -> TrainedModel | None:
    """What a student weighs, as the recipe says or its files on this machine do."""
    if given is not None:
        return TrainedModel(given.parameters * 1e9, given.layers, given.hidden, given.vocabulary)
    folder, parameters = local_folder(student), known_parameters(student)
    if folder is None or parameters is None:
        return None
    return _read(folder, parameters)


def _read(folder: Path, parameters: float) -> TrainedModel | None:
    try:
        whole: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        config = whole.get("text_config") or whole
        sizes = (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"])
        return TrainedModel(parameters, *map(int, sizes))
    except (KeyError, TypeError, ValueError):
        return None


def _setup(
    config: FinetuneConfig, resources: FinetuneResourcesConfig, model: TrainedModel
) -> Setup:
    partitioned = partitioned_for(config, resources)
    adapters = config.adapters(model.parameters)
    return Setup(
        workers=resources.most,
        stage=zero_stage(partitioned),
        offloads_optimiser=offloads(partitioned, "optimizer"),
        offloads_weights=offloads(partitioned, "param"),
        bytes_of_weight=2 if config.dtype == "bfloat16" else 4,
        micro_batch=config.micro_batch_size,
        length=config.max_length,
        is_checkpointed=config.gradient_checkpointing,
        logits_at_once=config.logits_at_once,
        rank=adapters.rank if adapters else None,
    )


def _require_fit(
    need: TrainingNeed, model: TrainedModel, setup: Setup, gpu: Gpu, hardware: HardwareConfig
) -> None:
    if need.total <= gpu.usable_bytes:
        return
    found = remedies(model, setup, gpu.usable_bytes)
    advice = f"It would fit with {', or '.join(found)}." if found else "No setting here makes it."
    raise ConfigError(
        f"{cluster_text(hardware)} cannot hold the fine-tuning of a student of "
        f"{model.parameters / 1e9:.2f}B parameters on {setup.workers} workers: each needs "
        f"{gib(need.total)} GiB (weights {gib(need.weights)}, gradients {gib(need.gradients)}, "
        f"optimiser {gib(need.optimiser)}, activations {gib(need.activations)}, logits "
        f"{gib(need.logits)}, buffers {gib(need.buffers)}), and {gib(gpu.usable_bytes)} are "
        f"usable. {advice} More workers (resources.finetune.workers) share what ZeRO partitions; a "
        "smaller finetune.max_length takes fewer activations."
    )


def _steps(config: FinetuneConfig, examples: int) -> tuple[int, float]:
    """Optimiser steps of a student, and the examples that it reads in them."""
    learned = examples * (1 - config.heldout_fraction)
    steps = math.ceil(math.ceil(learned / config.batch_size) * config.epochs)
    if config.max_steps is not None and config.max_steps < steps:
        return config.max_steps, float(config.max_steps * config.batch_size)
    return steps, learned * config.epochs


def _mean_tokens(lengths: Mapping[str, Length], most: int) -> float:
    """Tokens of an example, all teachers alike; longer ones count as long as they may be."""
    return sum(min(most, one.prompt + one.response) for one in lengths.values()) / len(lengths)


def _said(rank: int | None, is_by_rule: bool) -> str:
    by_rule = ", by the paper's rule (finetune.lora auto)" if is_by_rule else ""
    return f"all weights{by_rule}" if rank is None else f"adapters of rank {rank}{by_rule}"
