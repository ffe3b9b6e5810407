"""Remarks on a step's line in the terminal: most of its rows unusable, and what helps."""

from functools import partial
from typing import Any

from persyn_ray.pipeline.results.rewards import fates_of, prompt_counts
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.concerns import NOTABLE, fate_sentences, preference_sentences
from persyn_ray.report.numbers import count, percent
from persyn_ray.report.problems import Problems
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout

RESPONSES = "responses to the parallel set"


def remarks(step: str, recipe: Recipe, run: RunLayout, counts: dict[str, Any]) -> list[str]:
    """Sentences about a step that is done; none where all is well, or nothing can be told."""
    make = {"collect": _collect, "rewards": _rewards, "synthesize": _synthesize}.get(step)
    if make is None:
        return []
    return Problems().attempt(step, partial(make, recipe, run, counts), [])


def _collect(recipe: Recipe, run: RunLayout, counts: dict[str, Any]) -> list[str]:
    return fate_sentences(
        _counted(recipe, fates_of(run, recipe.teachers, recipe.responses, None)), RESPONSES
    )


def _rewards(recipe: Recipe, run: RunLayout, counts: dict[str, Any]) -> list[str]:
    parallel = load_rewards(run, shards_of(run, "parallel"), len(recipe.pool))
    fates = fates_of(run, recipe.teachers, recipe.responses, parallel)
    of_scores = {
        name: {key: facts[key] for key in ("num_responses", "num_absent", "num_unscored")}
        for name, facts in fates.items()
    }
    # Absent ones were told of by step collect.
    unscored = {name: {**facts, "num_absent": 0} for name, facts in of_scores.items()}
    return fate_sentences(unscored, RESPONSES) + preference_sentences(
        prompt_counts(parallel.rewards_PM), "The router learns from preferences of the parallel set"
    )


def _counted(recipe: Recipe, fates: dict[str, Any]) -> dict[str, Any]:
    """Cut responses are as good as others where the recipe keeps them."""
    if recipe.responses.incomplete != "keep":
        return fates
    return {name: {**facts, "num_truncated": 0} for name, facts in fates.items()}


def _synthesize(recipe: Recipe, run: RunLayout, counts: dict[str, Any]) -> list[str]:
    found = counts.get("examples", {}).get(PERSYN, {})
    lost = {
        "were cut by their token limit": found.get("truncated", 0),
        "go round in circles": found.get("looped", 0),
        "have no response": found.get("without_response", 0),
        "have no teacher left": found.get("without_teacher", 0),
    }
    num = found.get("kept", 0) + sum(lost.values())
    if not num or sum(lost.values()) < NOTABLE * num:
        return []
    listed = ", ".join(f"{count(of)} {phrase}" for phrase, of in lost.items() if of)
    return [
        f"Only {count(found.get('kept', 0))} of {count(num)} prompts "
        f"({percent(found.get('kept', 0) / num)}) became examples: {listed}. To change it: raise "
        "sampling.max_tokens, set sampling.retry_tokens, or responses.incomplete."
    ]
