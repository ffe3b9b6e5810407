"""Rewards of the parallel set as the report shows them, from arrays with gaps."""

import numpy as np
import pytest
from numpy.typing import NDArray

from persyn_ray.pipeline.results.rewards import (
    ResponseFacts,
    gather_alpha_sweep,
    gather_reward,
    prompt_counts,
)
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.report.content import complete_section
from persyn_ray.shards.tables import Rewards

NAN = float("nan")
NAMES = ("a", "b")
UNREAD = ResponseFacts({}, {}, "drop")
SCORING = ScoringConfig.model_validate({"quality": {"kind": "exact_match"}, "alpha": 0.3})


def rewards_of(
    values: list[list[float]], learnability: NDArray[np.float64] | None = None
) -> Rewards:
    rewards_PM = np.array(values, dtype=np.float64).reshape(-1, len(NAMES))
    ids = tuple(f"p{number}" for number in range(len(rewards_PM)))
    return Rewards(
        ids, rewards_PM if learnability is None else learnability, rewards_PM, rewards_PM
    )


@pytest.mark.parametrize(
    ("values", "rewarded", "comparable", "preferring", "tied"),
    [
        ([], 0, 0, 0, 0),
        ([[NAN, NAN]], 0, 0, 0, 0),
        ([[1, NAN], [NAN, 0]], 2, 0, 0, 0),
        ([[1, 1], [0, 0]], 2, 2, 0, 2),
        ([[1, 0], [1, 1], [NAN, 1], [NAN, NAN]], 3, 2, 1, 1),
    ],
)
def test_prompts_are_told_apart_by_what_their_rewards_say(
    values: list[list[float]], rewarded: int, comparable: int, preferring: int, tied: int
) -> None:
    found = prompt_counts(rewards_of(values).rewards_PM)
    assert found == {
        "num": len(values),
        "num_rewarded": rewarded,
        "num_comparable": comparable,
        "num_preferring": preferring,
        "num_all_tied": tied,
    }


def test_a_teacher_without_any_reward_is_unknown_and_no_zero() -> None:
    section = gather_reward(rewards_of([[1, NAN], [0, NAN]]), UNREAD, NAMES, 0)
    known, unknown = section["teachers"]["a"], section["teachers"]["b"]
    assert known["mean_quality"] == 0.5
    assert known["mean_reward"]["value"] == 0.5
    assert unknown["mean_quality"] is unknown["mean_learnability"] is None
    assert complete_section("reward", section)["teachers"]["b"]["mean_reward"]["value"] is None
    assert (known["num_null"], unknown["num_null"]) == (0, 2)
    assert section["preferences"]["num_pairs"] == 0


def test_responses_that_cannot_be_read_leave_their_figures_null_and_no_others() -> None:
    section = gather_reward(rewards_of([[1, 0]]), UNREAD, NAMES, 0)
    for facts in section["teachers"].values():
        assert facts["mean_tokens"] is facts["num_truncated"] is facts["num_unscored"] is None
    assert section["prompts"]["num_preferring"] == section["preferences"]["num_pairs"] == 1


def test_no_learnability_no_sweep_and_the_runs_own_alpha_is_its_reference() -> None:
    parallel = rewards_of([[1, 0], [0, 1]], np.full((2, 2), NAN))
    assert gather_alpha_sweep(parallel, NAMES, SCORING, 0) is None
    known = rewards_of([[1, 0], [0, 1]], np.array([[-2.0, -1.0], [-2.0, -1.0]]))
    sweep = gather_alpha_sweep(known, NAMES, SCORING, 0)
    assert sweep is not None
    assert sweep["reference_alpha"] == 0.3
    first, last = sweep["points"][0], sweep["points"][-1]
    assert (first["alpha"], last["alpha"]) == (0.0, 1.0)
    assert first["shares"] == {"a": 0.5, "b": 0.5}  # by quality, each is best once
    assert last["shares"] == {"a": 0.0, "b": 1.0}  # by learnability b always is
    assert first["mean_quality"] == 1.0
    (reference,) = [point for point in sweep["points"] if point["alpha"] == 0.3]
    assert reference["agreement"] == 1.0
