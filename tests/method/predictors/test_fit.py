"""Predictors in planted worlds where the right teacher of every prompt is known."""

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import (
    available,
    fit_predictor,
    folds_of,
    nonnegative_weights,
)
from persyn_ray.method.predictors.task_means import task_means, task_scores

World = tuple[PromptFeatures, np.ndarray, np.ndarray]


def world(num: int, seed: int, gap: float = 0.5, by: str = "task") -> World:
    """Features, rewards (N, 3) and true means: the best teacher hangs on `by`."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 3, num)
    embeddings = rng.normal(size=(num, 6))
    hidden = (embeddings[:, 0] > 0).astype(int) + (embeddings[:, 1] > 0)
    at_home = tasks if by == "task" else hidden
    truth = 0.3 + gap * np.eye(3)[at_home] + np.array([0.05, 0.0, 0.0])
    rewards = truth + rng.normal(0, 1, (num, 1)) + rng.normal(0, 0.5, truth.shape)
    return PromptFeatures(tuple(f"task {t}" for t in tasks), embeddings), rewards, truth


def routed(kind: str, known: World, asked: World) -> float:
    """True mean of the teachers that a predictor chooses."""
    features, rewards, _ = known
    chosen = fit_predictor(kind, features, rewards).scores(asked[0]).argmax(axis=1)
    return float(asked[2][np.arange(len(chosen)), chosen].mean())


def test_where_tasks_decide_a_table_finds_nearly_every_best_teacher() -> None:
    known, asked = world(300, 0), world(2000, 1)
    best = asked[2].max(axis=1).mean()
    assert routed("per_task", known, asked) > best - 0.01
    assert routed("stacked", known, asked) > best - 0.03
    assert routed("constant", known, asked) < best - 0.2


def test_where_the_embedding_decides_a_table_gains_nothing_and_others_do() -> None:
    known, asked = world(600, 0, by="embedding"), world(2000, 1, by="embedding")
    constant = routed("constant", known, asked)
    assert routed("per_task", known, asked) < constant + 0.03
    for kind in ("knn", "linear", "stacked"):
        assert routed(kind, known, asked) > constant + 0.1, kind


def test_where_nothing_decides_stacking_stays_near_the_constant() -> None:
    losses = []
    for seed in range(10):
        known, asked = world(200, seed, gap=0.0), world(1000, 100 + seed, gap=0.0)
        losses.append(routed("constant", known, asked) - routed("stacked", known, asked))
    assert np.mean(losses) < 0.01


def test_a_task_with_few_prompts_is_shrunk_more() -> None:
    rng = np.random.default_rng(0)
    tasks = ["often"] * 200 + ["seldom"] * 3 + ["other"] * 200
    truth = {"often": [1.0, 0.0], "seldom": [1.0, 0.0], "other": [0.0, 1.0]}
    rewards = np.array([truth[task] for task in tasks]) + rng.normal(0, 1.0, (403, 2))
    table = task_means(rewards, tasks)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    centred = centred - centred.mean(axis=0)
    kept = {
        task: abs(table.interaction_KM[table.tasks.index(task), 0])
        / abs(centred[np.array(tasks) == task, 0].mean())
        for task in ("often", "seldom")
    }
    assert 0 < kept["seldom"] < kept["often"] < 1.0001


def test_unknown_and_missing_labels_get_the_overall_best_teacher() -> None:
    features, rewards, _ = world(300, 0)
    table = task_means(rewards, features.tasks)
    np.testing.assert_array_equal(
        task_scores(table, ["never seen", None]), np.tile(table.teacher_M, (2, 1))
    )


def test_one_task_and_no_labels_are_the_constant() -> None:
    _, rewards, _ = world(50, 0)
    for labels in (["only"] * 50, [None] * 50):
        assert not task_means(rewards, labels).interaction_KM.any()
        assert available(PromptFeatures(tuple(labels))) == ("constant",)


def test_a_teacher_without_a_reward_is_never_chosen() -> None:
    features, rewards, _ = world(200, 0)
    rewards[:, 1] = np.nan
    for kind in available(features):
        scores = fit_predictor(kind, features, rewards).scores(features)
        assert np.isnan(scores[:, 1]).all()
        assert np.isfinite(scores[:, [0, 2]]).all()


def test_teachers_and_prompts_may_come_in_any_order() -> None:
    features, rewards, _ = world(120, 3)
    order, columns = np.random.default_rng(0).permutation(120), [2, 0, 1]
    mixed = PromptFeatures(
        tuple(features.tasks[place] for place in order), features.embeddings_PD[order]
    )
    folds = np.arange(120) % 4
    for kind in available(features):
        plain = fit_predictor(kind, features, rewards, folds).scores(features)
        turned = fit_predictor(kind, mixed, rewards[order][:, columns], folds[order])
        np.testing.assert_allclose(turned.scores(features), plain[:, columns], atol=1e-7)


def test_all_ties_give_equal_scores() -> None:
    features, rewards, _ = world(60, 0)
    for kind in available(features):
        scores = fit_predictor(kind, features, np.ones_like(rewards)).scores(features)
        np.testing.assert_allclose(scores, scores[:, :1].repeat(3, 1), atol=1e-12)


def test_weights_are_those_of_least_squares_and_never_negative() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(500, 3))
    target = predicted @ [0.7, 0.0, 0.4] + 0.01 * rng.normal(size=500)
    np.testing.assert_allclose(nonnegative_weights(predicted, target), [0.7, 0, 0.4], atol=0.01)
    assert (nonnegative_weights(predicted, -target) == 0).all()


def test_folds_hold_every_prompt_once_and_are_even() -> None:
    folds = folds_of(np.random.default_rng(0).random(103), 5)
    assert sorted(np.bincount(folds).tolist()) == [20, 20, 21, 21, 21]
    with pytest.raises(DataError, match="3 prompts"):
        folds_of(np.zeros(3), 5)


def test_what_is_missing_is_said() -> None:
    features, rewards, _ = world(40, 0)
    with pytest.raises(ConfigError, match="forest"):
        fit_predictor("forest", features, rewards)
    with pytest.raises(DataError, match="embeddings"):
        fit_predictor("knn", PromptFeatures(features.tasks), rewards)
    with pytest.raises(DataError, match="39 rows"):
        fit_predictor("constant", features, rewards[:39])
