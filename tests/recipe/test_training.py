"""The recipe's `finetune`: settings that exclude one another, and what follows from them."""

from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.recipe.router import LoraConfig
from persyn_ray.recipe.training import DEEPSPEED_PRESETS, FinetuneConfig


def test_arguments_of_the_trainer_are_taken_unless_the_recipe_has_them_itself() -> None:
    config = FinetuneConfig.model_validate({"arguments": {"optim": "adafactor"}})
    assert config.arguments == {"optim": "adafactor"}
    with pytest.raises(ValidationError, match=r"\['learning_rate', 'seed'\] are set by"):
        FinetuneConfig.model_validate({"arguments": {"seed": 1, "learning_rate": 1.0}})


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_either_name_of_checkpointing_would_overrule_the_setting(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"\['{name}'\] are set by"):
        FinetuneConfig.model_validate({"arguments": {name: True}})


@pytest.mark.parametrize("name", [*DEEPSPEED_PRESETS, "here/ds.json"])
def test_a_preset_or_a_file_partitions(name: str) -> None:
    assert FinetuneConfig.model_validate({"deepspeed": name}).deepspeed == name


@pytest.mark.parametrize("name", ["zero4", "", "zero_stage: 2"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValidationError, match=r"is none of zero0, zero1, .* nor the path"):
        FinetuneConfig.model_validate({"deepspeed": name})


@pytest.mark.parametrize("given", [{"keep": "best"}, {"patience": 2}])
def test_the_best_student_needs_examples_to_find_it_by(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"needs examples .* set heldout_fraction"):
        FinetuneConfig.model_validate(given)
    assert FinetuneConfig.model_validate(given | {"heldout_fraction": 0.1})


@pytest.mark.parametrize(
    ("billions", "is_adapted"), [(1.5, False), (13.4, False), (13.96, True), (14.8, True)]
)
def test_adapters_are_trained_from_14b_on_unless_the_recipe_says_otherwise(
    billions: float, is_adapted: bool
) -> None:
    assert (FinetuneConfig().adapters(billions * 1e9) is not None) == is_adapted  # pyright: ignore
    never = FinetuneConfig.model_validate({"lora": None})
    assert never.adapters(billions * 1e9) is None
    always = FinetuneConfig.model_validate({"lora": {"rank": 4}}).adapters(billions * 1e9)
    assert isinstance(always, LoraConfig)
    assert always.rank == 4
