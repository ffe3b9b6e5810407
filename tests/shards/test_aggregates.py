"""What each teacher's responses are worth together, against plain loops over the stored rows."""

import numpy as np
import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.aggregates import teacher_aggregates
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.records import read_record
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY


def test_means_are_those_of_the_stored_rows(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, run = finished
    shards = shards_of(run, "parallel")
    rewards = load_rewards(run, shards, len(recipe.teachers))
    (part,) = parts_of(recipe.scoring)
    found = teacher_aggregates(run, recipe.teachers, [part], recipe.responses, shards)
    for m, teacher in enumerate(recipe.teachers):
        measured, judged = (
            [row for s in shards for row in existing(folder, s, schema).to_pylist()]
            for folder, schema in (
                (run.learnability(teacher), LEARNABILITY),
                (run.quality(teacher, part), QUALITY),
            )
        )
        of = found[teacher.name]
        assert of.num_responses == len(measured) == 12
        assert of.mean_reward == pytest.approx(np.nanmean(rewards.rewards_PM[:, m]))
        assert of.mean_quality == pytest.approx(np.mean([row["quality"] for row in judged]))
        losses = [-row["log_likelihood"] for row in measured]
        tokens = [row["num_tokens"] for row in measured]
        assert of.mean_loss == pytest.approx(np.mean(losses))
        assert of.token_loss == pytest.approx(np.dot(losses, tokens) / sum(tokens))
        assert of.rank_surprisal == pytest.approx(
            np.mean([row["rank_surprisal"] for row in measured])
        )
        assert of.local_log_likelihood is None
        assert of.qualities == {}


def test_they_stand_in_the_record_of_step_rewards(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, run = finished
    record = read_record(run.records, "rewards")
    assert record is not None
    assert set(record.result["teachers"]) == set(recipe.pool.names)
