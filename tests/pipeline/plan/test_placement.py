"""Who stands on GPUs, what each needs and has, and what would do where it does not fit."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.placement import (
    deployment_of,
    gpu_teachers,
    place_known,
    place_teachers,
)
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.scheduling.gpu_memory import Layout

OnGpus = Callable[..., Recipe]
LARGE = {"parameters": 70.6, "layers": 80, "kv_heads": 8, "head_dim": 128, "context": 8192}
HUGE = {"parameters": 405.9, "layers": 126, "kv_heads": 8, "head_dim": 128, "context": 8192}


def refusal(recipe: Recipe) -> str:
    with pytest.raises(ConfigError) as refused:
        place_teachers(deployment_of(recipe))
    return str(refused.value)


def test_local_teachers_with_gpus_of_their_own_are_placed(on_gpus: OnGpus) -> None:
    endpoint = {"engine": {"kind": "openai", "model": "x"}, "resources": {}}
    kinds: dict[str, dict[str, Any]] = {
        "alone": {},
        "by-default": {"resources": None},
        "on-cpus": {"resources": {"gpus": 0}},
        "endpoint": endpoint,
        "shared": {
            "engine": {"kind": "transformers", "model": {"name": "random:llama"}},
            "resources": None,
        },
        "hugging": {"engine": {"kind": "transformers", "model": {"name": "random:llama"}}},
    }
    recipe = on_gpus(kinds)
    names = [teacher.name for teacher in gpu_teachers(recipe.teachers)]
    assert names == ["alone", "by-default", "hugging"]
    assert list(place_teachers(deployment_of(recipe))) == names


def test_without_hardware_nothing_is_placed_or_refused(on_gpus: OnGpus) -> None:
    assert (
        place_teachers(deployment_of(on_gpus({"a": {"size": HUGE}}, {"hardware.nodes": 0}))) == {}
    )


def test_a_teacher_that_fits_knows_its_need_and_the_smallest_layout(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": {"size": LARGE, "resources": {"tensor_parallel": 4}}})
    placed = place_teachers(deployment_of(recipe))["a"]
    assert placed.layout == Layout(4)
    assert placed.smallest == Layout(2)
    assert placed.need.weights == pytest.approx(141.2e9 / 4)
    assert (placed.gpus, placed.per_node) == (4, 4)


def test_too_little_memory_is_refused_with_need_have_and_remedy(on_gpus: OnGpus) -> None:
    text = refusal(on_gpus({"a": {}, "b": {"size": LARGE}}))
    assert text.startswith("1 node x 8 GPUs of 80 GiB cannot hold:")
    assert "Teacher 'b' needs 136.0 GiB on each GPU with tensor_parallel 1" in text
    assert "weights 131.5" in text
    assert "72.0 of 80 GiB are usable" in text
    assert "It would fit with tensor_parallel 2" in text
    assert "'a'" not in text


def test_all_that_do_not_fit_are_named_at_once(on_gpus: OnGpus) -> None:
    text = refusal(on_gpus({"a": {"size": LARGE}, "b": {"size": HUGE}}))
    assert "'a'" in text
    assert "'b'" in text
    assert "No layout here holds it" in text


@pytest.mark.parametrize(
    ("resources", "hardware", "complaint"),
    [
        ({"tensor_parallel": 16}, {}, "needs 16 GPUs in one node for one engine"),
        (
            {"tensor_parallel": 8, "pipeline_parallel": 2},
            {"hardware.nodes": 2},
            "needs 16 GPUs in one node for one engine",
        ),
        (
            {"tensor_parallel": 8, "pipeline_parallel": 2, "across_nodes": True},
            {},
            "needs 16 GPUs (tensor_parallel 8 x pipeline_parallel 2); there are 8",
        ),
        (
            {"tensor_parallel": 16, "across_nodes": True},
            {"hardware.nodes": 2},
            "needs 16 GPUs in one node for one pipeline stage",
        ),
    ],
)
def test_a_layout_larger_than_the_cluster_is_refused(
    on_gpus: OnGpus, resources: dict[str, Any], hardware: dict[str, Any], complaint: str
) -> None:
    assert complaint in refusal(on_gpus({"a": {"resources": resources}}, hardware))


def test_stages_in_different_nodes_hold_what_one_node_cannot(on_gpus: OnGpus) -> None:
    across = {"tensor_parallel": 8, "pipeline_parallel": 2, "across_nodes": True}
    teacher = {"size": HUGE, "resources": across}
    placed = place_teachers(deployment_of(on_gpus({"a": teacher}, {"hardware.nodes": 2})))["a"]
    assert (placed.gpus, placed.per_node, placed.smallest) == (16, 8, Layout(8, 2))
    alone = {"size": HUGE, "resources": {"tensor_parallel": 8}}
    text = refusal(on_gpus({"a": alone}, {"hardware.nodes": 2}))
    assert "tensor_parallel 8 x pipeline_parallel 2 and across_nodes true" in text


def test_a_long_context_can_be_what_does_not_fit(on_gpus: OnGpus) -> None:
    size = {"parameters": 3.82, "layers": 32, "kv_heads": 32, "head_dim": 96, "context": 262144}
    model = {"name": "nowhere/x", "dtype": "bfloat16"}
    engine = {"kind": "vllm", "model": model}
    assert "one response of 262,144 tokens 96.0" in refusal(
        on_gpus({"a": {"size": size, "engine": engine}})
    )
    shorter = {"size": size, "engine": engine | {"max_model_len": 8192}}
    assert place_teachers(deployment_of(on_gpus({"a": shorter})))["a"].length == 8192


def test_settings_of_the_engine_count(on_gpus: OnGpus) -> None:
    arguments = {"gpu_memory_utilization": 0.5, "max_num_seqs": 7}
    placed = place_teachers(deployment_of(on_gpus({"a": {"resources": {"arguments": arguments}}})))[
        "a"
    ]
    assert placed.gpu.usable_bytes == 40 * 2**30
    assert placed.at_once(100) == 7
    half = place_teachers(deployment_of(on_gpus({"a": {"resources": {"gpus": 0.5}}})))["a"]
    assert half.gpu.usable_bytes == 36 * 2**30


def test_given_speed_and_loading_go_before_estimates(on_gpus: OnGpus) -> None:
    resources = {"tokens_per_second": 123.0, "load_seconds": 7.0}
    recipe = on_gpus({"a": {"resources": resources}, "b": {}})
    placed = place_teachers(deployment_of(recipe))
    assert placed["a"].tokens_per_second(500) == 123
    assert placed["a"].load_seconds(recipe.hardware) == 7
    assert placed["b"].load_seconds(recipe.hardware) == pytest.approx(60 + 16.06 / 2)


def test_sizes_that_are_not_known_are_asked_for_all_at_once(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"a": {}, "b": {"size": None}, "c": {"size": None}})
    text = refusal(recipe)
    assert "teacher 'b' (nowhere/b)" in text
    assert "teacher 'c' (nowhere/c)" in text
    placed, unknown = place_known(deployment_of(recipe))
    assert (set(placed), set(unknown)) == ({"a"}, {"b", "c"})
