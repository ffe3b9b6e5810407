"""Memory and time of a fine-tuning: by hand, limits and invariances."""

from dataclasses import replace
from typing import Any

import pytest

from persyn_ray.scheduling.gpu_memory import COMPUTES, GIB, OVERHEAD_BYTES, Gpu
from persyn_ray.scheduling.training_memory import (
    Setup,
    TrainedModel,
    remedies,
    trained_parameters,
    training_need,
    training_seconds,
)

QWEN = TrainedModel(parameters=1.54e9, layers=28, hidden=1536, vocabulary=151_936)
LARGE = TrainedModel(parameters=14.8e9, layers=48, hidden=5120, vocabulary=152_064)
H100 = Gpu(usable_bytes=76 * GIB, bandwidth=0.0, flops=990e12)
PLAIN = Setup(
    workers=8,
    stage=2,
    offloads_optimiser=False,
    offloads_weights=False,
    bytes_of_weight=2,
    micro_batch=4,
    length=4096,
    is_checkpointed=True,
    logits_at_once=1024,
    rank=None,
)


def test_need_by_hand() -> None:
    need = training_need(QWEN, PLAIN)
    assert need.weights == 1.54e9 * 2
    assert need.gradients == 1.54e9 * 2 / 8
    assert need.optimiser == 1.54e9 * 12 / 8
    assert need.activations == 4 * 4096 * 1536 * 2 * (28 + 17)
    assert need.logits == 8 * 151_936 * 1024 + 4 * 151_936 * 1536
    assert need.buffers == 5e8 * 2
    parts = (need.weights, need.gradients, need.optimiser, need.activations, need.logits)
    assert need.total == pytest.approx(sum(parts) + need.buffers + OVERHEAD_BYTES)


def test_float32_keeps_no_copy_of_weights_where_nothing_is_partitioned() -> None:
    alone = replace(PLAIN, stage=0, workers=1, bytes_of_weight=4)
    assert training_need(QWEN, alone).optimiser == 1.54e9 * 8
    assert training_need(QWEN, replace(alone, stage=2)).optimiser == 1.54e9 * 12
    assert training_need(QWEN, replace(alone, bytes_of_weight=2)).optimiser == 1.54e9 * 12


def test_bfloat16_is_no_remedy_where_its_bucket_of_gradients_does_not_fit() -> None:
    alone = replace(PLAIN, stage=0, workers=1, bytes_of_weight=4)
    in_half = replace(alone, bytes_of_weight=2)
    without = training_need(QWEN, in_half).total
    with_bucket = training_need(QWEN, replace(in_half, stage=2)).total
    assert without < with_bucket < training_need(QWEN, alone).total
    assert "finetune.dtype bfloat16" in remedies(QWEN, alone, with_bucket)
    assert "finetune.dtype bfloat16" not in remedies(QWEN, alone, (without + with_bucket) / 2)


@pytest.mark.parametrize(
    ("stage", "shared"),
    [
        (0, set[str]()),
        (1, {"optimiser"}),
        (2, {"optimiser", "gradients"}),
        (3, {"optimiser", "gradients", "weights"}),
    ],
)
def test_each_stage_shares_what_it_partitions(stage: int, shared: set[str]) -> None:
    one, eight = (
        vars(training_need(QWEN, replace(PLAIN, stage=stage, workers=num))) for num in (1, 8)
    )
    for part in one:
        assert eight[part] == pytest.approx(one[part] / (8 if part in shared else 1)), part


def test_what_is_offloaded_is_not_on_the_gpu() -> None:
    need = training_need(QWEN, replace(PLAIN, offloads_optimiser=True))
    assert (need.optimiser, need.weights) == (0, 1.54e9 * 2)
    both = replace(PLAIN, stage=3, offloads_optimiser=True, offloads_weights=True)
    assert (training_need(QWEN, both).optimiser, training_need(QWEN, both).weights) == (0, 0)


def test_all_logits_of_a_micro_batch_are_most_of_what_a_small_student_takes() -> None:
    every = training_need(QWEN, replace(PLAIN, logits_at_once=0))
    assert every.logits > every.total / 2
    few = replace(PLAIN, micro_batch=1, length=100)
    assert training_need(QWEN, few).logits < training_need(QWEN, PLAIN).logits  # there are no more


def test_adapters_have_hardly_any_optimiser() -> None:
    adapted = training_need(LARGE, replace(PLAIN, rank=16))
    whole = training_need(LARGE, PLAIN)
    assert adapted.optimiser < whole.optimiser / 100
    assert adapted.weights == whole.weights
    # Rank 16 on all linear layers of Qwen2.5-14B has 69 million parameters.
    assert trained_parameters(LARGE, 16) == pytest.approx(69e6, rel=0.3)


def test_time_goes_by_operations_and_workers() -> None:
    seconds = training_seconds(QWEN, PLAIN, 1e9, H100)
    assert seconds == pytest.approx(8 * 1.54e9 * 1e9 / (COMPUTES * 990e12 * 8))
    half = training_seconds(QWEN, replace(PLAIN, workers=4), 1e9, H100)
    assert half == pytest.approx(2 * seconds)
    plain = training_seconds(QWEN, replace(PLAIN, is_checkpointed=False), 1e9, H100)
    assert plain == pytest.approx(seconds * 6 / 8)
    assert training_seconds(QWEN, replace(PLAIN, rank=8), 1e9, H100) < seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"is_checkpointed": False, "length": 16_384},
        {"logits_at_once": 0, "length": 16_384},
        {"bytes_of_weight": 4, "stage": 0, "workers": 1, "length": 65_536},
        {"stage": 0},
    ],
)
def test_every_remedy_is_one(changes: dict[str, Any]) -> None:
    model = LARGE if "stage" in changes and "length" not in changes else QWEN
    setup = replace(PLAIN, **changes)
    assert training_need(model, setup).total > H100.usable_bytes
    found = remedies(model, setup, H100.usable_bytes)
    assert found
    for remedy in found:
        mended = replace(setup, **setting(remedy))
        assert training_need(model, mended).total <= H100.usable_bytes, remedy


def setting(remedy: str) -> dict[str, Any]:
    """The change that a remedy asks for, in the words of a setup."""
    offloaded = {"stage": 3, "offloads_optimiser": True, "offloads_weights": True}
    of = {
        "finetune.logits_at_once 1024": {"logits_at_once": 1024},
        "finetune.dtype bfloat16": {"bytes_of_weight": 2},
        "finetune.gradient_checkpointing true": {"is_checkpointed": True},
        "finetune.micro_batch_size 1": {"micro_batch": 1},
        "finetune.deepspeed zero3": {"stage": 3},
        "finetune.deepspeed zero3_offload": offloaded,
        "finetune.lora {rank: 16}": {"rank": 16},
    }
    found: dict[str, Any] = {}
    for name in remedy.split(" and "):
        found |= of[name]
    return found


def test_settings_that_help_only_together_are_named_together_and_none_is_invented() -> None:
    setup = replace(PLAIN, micro_batch=16, length=16_384, is_checkpointed=False, logits_at_once=0)
    (remedy,) = remedies(LARGE, setup, 40 * GIB)
    assert " and " in remedy
    assert training_need(LARGE, replace(setup, **setting(remedy))).total <= 40 * GIB
    assert remedies(LARGE, setup, 2 * GIB) == []
