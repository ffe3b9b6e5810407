"""Model FLOP/s utilisation: of named GPUs, and unknown with a reason elsewhere."""

from typing import Any

import pytest

from persyn_ray.pipeline.plan.utilisation import with_utilisation
from persyn_ray.recipe.resources import HardwareConfig, TrainResourcesConfig
from persyn_ray.storage.results import TrainingSpeed, TunedStudent

SPEED = TrainingSpeed(seconds=10.0, response_tokens=500, tokens=900, flops=990e12 * 4)


def utilised(gpus: float, hardware: dict[str, Any], speed: TrainingSpeed | None = SPEED) -> Any:
    tuned = TunedStudent(num_examples=1, num_too_long=0, num_unreadable=0, speed=speed)
    resources = TrainResourcesConfig.model_validate({"workers": 2, "gpus": gpus})
    found = with_utilisation(tuned, resources, HardwareConfig.model_validate(hardware))
    return found.mfu, found.mfu_unknown


def test_it_is_the_speed_over_what_all_gpus_can_do() -> None:
    assert utilised(1, {"gpu": "h100"}) == (pytest.approx(0.2), None)
    assert utilised(1, {"gpu_tflops": 495}) == (pytest.approx(0.4), None)


@pytest.mark.parametrize(
    ("gpus", "hardware", "speed", "why"),
    [
        (0, {"gpu": "h100"}, SPEED, "CPUs"),
        (1, {}, SPEED, "hardware.gpu"),
        (1, {"gpu": "h100"}, None, "no step"),
    ],
)
def test_what_is_not_known_says_why(
    gpus: float, hardware: dict[str, Any], speed: TrainingSpeed | None, why: str
) -> None:
    mfu, reason = utilised(gpus, hardware, speed)
    assert mfu is None
    assert why in reason
