"""Counts a recipe's prompts and their lengths, without the network.

Prompts from the hub are read only if they are in its cache; otherwise the recipe's own numbers say
how many there will be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from persyn_ray.data.prompts import HUB
from persyn_ray.data.splits import SplitPrompts
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.load_prompts import read_prompts
from persyn_ray.pipeline.plan.forecasts import expected_tokens
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record
from persyn_ray.storage.results import PromptsResult, result_of


@dataclass(frozen=True)
class Counted:
    """Prompts of each split, tokens of one on average, and how that is known."""

    splits: dict[str, int]
    prompt_tokens: float
    note: str | None = None


def count_prompts(recipe: Recipe, run: RunLayout, record: Record | None) -> Counted:
    """Count from the run's record if there is one, else from the files, else from the recipe.

    Raises:
        ConfigError: files are not there, or there are fewer prompts than the recipe asks for.
    """
    if record is not None:
        splits = result_of(record, PromptsResult).splits
        return Counted(splits, expected_tokens.stored_prompt_tokens(run))
    if not is_on_hub(recipe.prompts, recipe.evaluate):
        return _counted(read_prompts(recipe).prompts)
    with without_network():
        try:
            prompts = read_prompts(recipe).prompts
        except ConfigError:
            return _as_the_recipe_says(recipe.prompts, recipe.evaluate)
    return _counted(prompts)


def _counted(prompts: SplitPrompts) -> Counted:
    return Counted(prompts.counts, expected_tokens.prompt_tokens(prompts.table))


def is_on_hub(prompts: PromptsConfig, evaluate: EvaluateConfig) -> bool:
    """Whether any prompts come from the hub."""
    paths: list[str] = []
    for given in (prompts.path, evaluate.path or ()):
        paths += [given] if isinstance(given, str) else given
    return any(path.startswith(HUB) for path in paths)


def _as_the_recipe_says(section: PromptsConfig, evaluate: EvaluateConfig) -> Counted:
    apart = evaluate.path is not None
    heldout = (evaluate.limit or 0) if apart else section.num_heldout
    taken = section.num_parallel + (0 if apart else heldout)
    note = (
        "The prompts are on the hub and not in its cache: they are counted as the recipe says, "
        f"at {expected_tokens.PROMPT_TOKENS:.0f} tokens each."
    )
    if section.limit is None:
        note += " Without prompts.limit nobody knows how many will be routed: none are counted."
    splits = {
        "parallel": section.num_parallel,
        "heldout": heldout,
        "routed": max(0, (section.limit or taken) - taken),
    }
    return Counted(splits, expected_tokens.PROMPT_TOKENS, note)


@contextmanager
def without_network() -> Iterator[None]:
    """The hub's libraries look into their cache only; they read the setting when they are used."""
    try:
        from datasets import config
        from huggingface_hub import constants
    except ImportError:  # not part of the base installation: what needs them says so itself
        yield
        return
    before = (constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE)
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
