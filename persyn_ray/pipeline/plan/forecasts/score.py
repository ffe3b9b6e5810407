"""Forecasts step score: collected responses and sizes in, tokens and seconds of each model out.

The student reads every prompt once and all its responses; a reward model reads the prompt anew with
every response. A pass is arithmetic: 2 x parameters x tokens at the share of a GPU's arithmetic
that decoding reaches too, on as many actors as there are GPUs for. Time is known where a model's
files are on this machine. Checks take no GPU; judges are endpoints or engines of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from persyn_ray.pipeline.plan.forecasts.estimate import Forecast
from persyn_ray.pipeline.plan.model_sizes import BITS, known_parameters
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.resources import HardwareConfig, StepResourcesConfig
from persyn_ray.scheduling.gpu_memory import COMPUTES


@dataclass(frozen=True)
class Reader:
    """A model that reads responses in step score, and its actors."""

    model: ModelConfig
    resources: StepResourcesConfig
    shares_prompts: bool
    """Whether a prompt is read once for all its responses."""


@dataclass(frozen=True)
class ScorePass:
    """One model over all collected responses."""

    model: str
    responses: float
    tokens: float
    at_most: bool
    actors: int
    """That there are GPUs for."""
    seconds: float | None
    """Loading included; None where the model's size is not known, or it takes no GPU."""


def forecast_score(
    collected: Forecast, readers: Sequence[Reader], hardware: HardwareConfig
) -> tuple[ScorePass, ...]:
    """What each model has to read of the responses of step collect, all of them unscored.

    Nothing where the length of some responses is not known (recorded ones).
    """
    asked = [one for one in collected.teachers.values() if one.prompts]
    if not asked or any(not one.tokens for one in asked):
        return ()
    return tuple(_passes(collected, readers, hardware))


def _passes(
    collected: Forecast, readers: Sequence[Reader], hardware: HardwareConfig
) -> Iterator[ScorePass]:
    teachers = collected.teachers.values()
    written = sum(one.tokens for one in teachers)
    once = max(one.prompt_tokens for one in teachers)
    every = sum(one.prompt_tokens for one in teachers)
    for reader in readers:
        tokens = written + (once if reader.shares_prompts else every)
        actors = _actors(reader.resources, hardware)
        yield ScorePass(
            model=reader.model.name,
            responses=sum(one.prompts for one in teachers),
            tokens=tokens,
            at_most=collected.at_most,
            actors=actors,
            seconds=_seconds(reader.model, tokens, actors * reader.resources.gpus, hardware),
        )


def _actors(resources: StepResourcesConfig, hardware: HardwareConfig) -> int:
    """Actors that run at once: as many as the recipe says, if there are GPUs for them.

    An actor's GPUs lie in one node, and an actor with a part of a GPU takes it of a single one.
    """
    gpus, per_node = resources.gpus, hardware.gpus_per_node
    if not gpus or not hardware.nodes:
        return resources.most
    in_node = per_node * int(1 / gpus) if gpus < 1 else int(per_node / gpus)
    return min(resources.most, hardware.nodes * in_node)


def _seconds(
    model: ModelConfig, tokens: float, gpus: float, hardware: HardwareConfig
) -> float | None:
    parameters = known_parameters(model)
    if parameters is None or not gpus or not hardware.nodes:
        return None
    loading = parameters * BITS[model.dtype] / 8 / (hardware.read_gb_per_second * 1e9)
    return loading + 2 * parameters * tokens / (COMPUTES * hardware.gpu_tflops * 1e12 * gpus)
