"""What step finetune is forecast to take, and what is refused because it cannot fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.as_json import plan_json
from persyn_ray.pipeline.plan.forecasts.training import TrainingForecast, trained_model
from persyn_ray.pipeline.plan.model_sizes import settled
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.recipe import Recipe

Make = Callable[..., Recipe]
SMALL = {"parameters": 1.54, "layers": 28, "hidden": 1536, "vocabulary": 151_936}
LARGE = {"parameters": 14.8, "layers": 48, "hidden": 5120, "vocabulary": 152_064}
HARDWARE = {"nodes": 1, "gpus_per_node": 8, "gpu_memory_gib": 80}
SETTINGS = {"dtype": "bfloat16", "gradient_checkpointing": True, "batch_size": 32}


def changes(size: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A recipe's changes: eight workers on GPUs, and a student of this size."""
    return {
        "hardware": HARDWARE,
        "finetune": SETTINGS | settings,
        "resources.finetune": {"workers": 8, "gpus": 1, "size": size},
    }


def forecast(recipe: Recipe) -> TrainingForecast:
    found = plan_run(recipe).training
    assert found is not None
    return found


def test_memory_steps_and_time_are_forecast(make_recipe: Make) -> None:
    found = forecast(make_recipe(changes(SMALL, batch_size=32, micro_batch_size=1, epochs=2)))
    # 12 parallel and 8 routed prompts: a step an epoch.
    assert (found.examples, found.steps) == (20, 2)
    assert found.need is not None
    assert found.need.weights == 1.54e9 * 2
    assert found.need.total < found.usable_bytes
    assert found.tokens > 0
    assert found.seconds == pytest.approx(8 * 1.54e9 * found.tokens / (0.4 * 990e12 * 8))
    assert found.gpu_seconds == pytest.approx(8 * found.seconds)


def test_examples_that_are_kept_and_a_limit_of_steps_count(make_recipe: Make) -> None:
    halved = forecast(make_recipe(changes(SMALL, batch_size=8, micro_batch_size=1)))
    fewer = forecast(
        make_recipe(changes(SMALL, batch_size=8, micro_batch_size=1, heldout_fraction=0.5))
    )
    assert (halved.steps, fewer.steps) == (6, 4)
    assert fewer.tokens == pytest.approx(halved.tokens / 2)
    assert (
        forecast(make_recipe(changes(SMALL, batch_size=8, micro_batch_size=1, max_steps=3))).steps
        == 3
    )


def test_students_are_trained_one_after_the_other_or_side_by_side(make_recipe: Make) -> None:
    given = changes(SMALL, micro_batch_size=1) | {"compare.methods": ["random"]}
    both = forecast(make_recipe(given | {"compare.students": True}))
    one = forecast(make_recipe(changes(SMALL, micro_batch_size=1)))
    assert (both.students, one.students) == (2, 1)
    assert both.seconds == pytest.approx(2 * (one.seconds or 0))


def test_a_student_of_14b_is_given_adapters_and_the_plan_says_so(make_recipe: Make) -> None:
    large = forecast(make_recipe(changes(LARGE, micro_batch_size=1)))
    assert large.adapters == "adapters of rank 16, by the paper's rule (finetune.lora auto)"
    assert (
        "all weights, by the paper's rule"
        in forecast(make_recipe(changes(SMALL, micro_batch_size=1))).adapters
    )
    asked = forecast(make_recipe(changes(SMALL, micro_batch_size=1, lora={"rank": 8})))
    assert asked.adapters == "adapters of rank 8"


def test_what_cannot_fit_is_refused_with_settings_that_help(make_recipe: Make) -> None:
    recipe = make_recipe(changes(LARGE, lora=None, deepspeed="zero0", micro_batch_size=1))
    with pytest.raises(ConfigError) as told:
        plan_run(recipe)
    text = str(told.value)
    assert "1 node x 8 GPUs of 80 GiB cannot hold the fine-tuning of a student of 14.80B" in text
    assert "optimiser 165.4, " in text  # 14.8e9 x 12 bytes
    assert "It would fit with finetune.deepspeed zero3, or" in text
    assert "finetune.lora {rank: 16}" in text
    assert plan_run(make_recipe(changes(LARGE, lora=None, deepspeed="zero3", micro_batch_size=1)))


def test_without_gpus_or_a_size_nothing_is_refused(make_recipe: Make) -> None:
    assert plan_run(make_recipe()).training is None
    on_cpus = make_recipe({"resources.finetune": {"size": LARGE}, "finetune": {"lora": None}})
    found = forecast(on_cpus)
    assert (found.need, found.seconds) == (None, None)


def test_the_size_is_read_where_the_student_lies(make_recipe: Make, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1,'
        ' "intermediate_size": 256, "num_hidden_layers": 8, "vocab_size": 1000, "head_dim": 64,'
        ' "tie_word_embeddings": true, "torch_dtype": "bfloat16"}'
    )
    found = trained_model(ModelConfig(name=str(folder)), None)
    assert found is not None
    assert (found.layers, found.hidden, found.vocabulary) == (8, 128, 1000)
    assert 1e6 < found.parameters < 2e6
    assert trained_model(ModelConfig(name="nowhere/student"), None) is None


def test_adapters_are_settled_before_training(make_recipe: Make, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 8,'
        ' "intermediate_size": 13824, "num_hidden_layers": 48, "vocab_size": 152064}'
    )
    config = make_recipe().finetune
    assert config.lora == "auto"
    adapted = settled(config, ModelConfig(name=str(folder))).lora
    assert adapted is not None
    assert adapted != "auto"
    assert settled(config, ModelConfig(name="random:llama")).lora is None


def test_the_plan_as_json_has_the_figures(make_recipe: Make) -> None:
    found: Any = plan_json(plan_run(make_recipe(changes(SMALL, micro_batch_size=1))))["training"]
    assert found["need"]["weights"] == pytest.approx(1.54e9 * 2 / 2**30)
    assert found["need"]["total"] < found["usable_bytes"] / 2**30
    assert found["steps"] == 2
    assert plan_json(plan_run(make_recipe()))["training"] is None
