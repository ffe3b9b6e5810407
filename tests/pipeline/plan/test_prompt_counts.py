"""Prompts are counted from the record, the files or the recipe, and never from the network."""

from collections.abc import Callable

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.forecasts.expected_tokens import PROMPT_TOKENS
from persyn_ray.pipeline.plan.prompt_counts import Counted, count_prompts, without_network
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout, run_of

Make = Callable[..., Recipe]
HUB = {"prompts.path": "hub:nobody/not-in-any-cache", "prompts.num_heldout": 4}


def count(recipe: Recipe) -> Counted:
    return count_prompts(recipe, run_of(recipe), None)


def test_files_are_read(make_recipe: Make) -> None:
    counted = count(make_recipe())
    assert counted.splits == {"parallel": 12, "heldout": 4, "routed": 8}
    assert 1 < counted.prompt_tokens < 100
    assert counted.note is None


def test_a_finished_step_says_it_by_its_record(finished: tuple[Recipe, RunLayout]) -> None:
    from persyn_ray.storage.records import read_record

    recipe, run = finished
    counted = count_prompts(recipe, run, read_record(run.records, "prompts"))
    assert counted.splits == {"parallel": 12, "heldout": 4, "routed": 8}


def test_prompts_of_the_hub_are_counted_by_the_recipe(make_recipe: Make) -> None:
    counted = count(make_recipe(HUB | {"prompts.limit": 100}))
    assert counted.splits == {"parallel": 12, "heldout": 4, "routed": 84}
    assert counted.prompt_tokens == PROMPT_TOKENS
    assert counted.note is not None
    assert "not in its cache" in counted.note


def test_held_out_prompts_of_their_own_are_counted_by_their_limit(make_recipe: Make) -> None:
    changes = {"prompts.limit": 100, "evaluate.path": "hub:nobody/else", "evaluate.limit": 30}
    counted = count(make_recipe(HUB | changes))
    assert counted.splits == {"parallel": 12, "heldout": 30, "routed": 88}


def test_without_a_limit_no_routed_prompt_is_counted_and_that_is_said(make_recipe: Make) -> None:
    counted = count(make_recipe(HUB))
    assert counted.splits["routed"] == 0
    assert counted.note is not None
    assert "Without prompts.limit" in counted.note


def test_files_that_are_not_there_are_an_error_all_the_same(make_recipe: Make) -> None:
    with pytest.raises(ConfigError):
        count(make_recipe({"prompts.path": "nowhere/*.jsonl"}))


def test_the_network_is_shut_off_for_a_while_only() -> None:
    from datasets import config
    from huggingface_hub import constants

    before = (constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE)
    with without_network():
        assert constants.is_offline_mode()
        assert config.HF_HUB_OFFLINE
    assert before == (constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE)
