"""Model FLOP/s utilisation of a training: its speed and the recipe's hardware in, a share out."""

from persyn_ray.recipe.resources import HardwareConfig, TrainResourcesConfig
from persyn_ray.storage.results import TunedStudent


def with_utilisation(
    tuned: TunedStudent, resources: TrainResourcesConfig, hardware: HardwareConfig
) -> TunedStudent:
    """The facts of a training with its utilisation, or why it is not known."""
    why = _unknown(tuned, resources, hardware)
    if why is not None or tuned.speed is None:
        return tuned.model_copy(update={"mfu": None, "mfu_unknown": why})
    could = hardware.gpu_tflops * 1e12 * resources.gpus * resources.most
    mfu = tuned.speed.flops / tuned.speed.seconds / could
    return tuned.model_copy(update={"mfu": mfu, "mfu_unknown": None})


def _unknown(
    tuned: TunedStudent, resources: TrainResourcesConfig, hardware: HardwareConfig
) -> str | None:
    if tuned.speed is None:
        return "no step was timed"
    if not resources.gpus:
        return "trained on CPUs, whose arithmetic no data sheet gives"
    if resources.is_elastic:
        return "the number of workers may have changed"
    if hardware.gpu is None and "gpu_tflops" not in hardware.model_fields_set:
        return "hardware.gpu does not say on which GPU"
    return None
