"""The choice of a predictor: the default unless another kind is clearly better."""

import numpy as np

from persyn_ray.method.predictors.choose import (
    LabelledRewards,
    choose_kind,
    chosen_of,
    left_out_scores,
)
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import fit_predictor


def parallel(num: int, gap: float, by: str, seed: int = 0) -> LabelledRewards:
    """A parallel set whose best teacher hangs on the task or on the embedding."""
    rng = np.random.default_rng(seed)
    tasks, embeddings = rng.integers(0, 3, num), rng.normal(size=(num, 5))
    hidden = (embeddings[:, 0] > 0).astype(int) + (embeddings[:, 1] > 0)
    truth = gap * np.eye(3)[tasks if by == "task" else hidden]
    rewards = truth + np.array([0.1, 0.0, 0.0]) + rng.normal(0, 0.5, truth.shape)
    features = PromptFeatures(tuple(f"task {task}" for task in tasks), embeddings)
    return LabelledRewards(
        tuple(f"p{n}" for n in range(num)), ("a", "b", "c"), features, rewards, seed
    )


def test_each_world_gets_a_kind_that_suits_it() -> None:
    assert choose_kind(parallel(300, 0.0, "task")).kind == "constant"
    assert choose_kind(parallel(300, 0.8, "task")).kind == "per_task"
    found = choose_kind(parallel(400, 0.8, "embedding"))
    assert found.kind in ("knn", "linear", "stacked")
    assert found.gains[0].kind == "constant"
    assert found.kind in found.why


def test_prompts_are_scored_by_what_has_not_seen_them() -> None:
    data = parallel(60, 0.0, "task")
    ours = left_out_scores(data)["knn"]
    changed = data.rewards_NM.copy()
    changed[7] += 100.0 * np.eye(3)[1]
    other = LabelledRewards(data.ids, data.teachers, data.features, changed, data.seed)
    theirs = left_out_scores(other)["knn"]
    np.testing.assert_array_equal(ours[7], theirs[7])
    assert (ours != theirs).any()
    # A predictor that has seen them would give itself away.
    seen = fit_predictor("knn", data.features, changed).scores(data.features)
    assert seen[7, 1] > theirs[7, 1]


def test_scores_fitted_elsewhere_win_only_where_they_are_better() -> None:
    data = parallel(300, 0.8, "embedding")
    oracle = {"fitted_head": data.rewards_NM}
    assert choose_kind(data, oracle).kind == "fitted_head"
    no_use = {"fitted_head": np.zeros_like(data.rewards_NM)}
    assert choose_kind(data, no_use).kind != "fitted_head"


def routed_better_by(gain: float, than: np.ndarray, seed: int) -> np.ndarray:
    """Rewards that are better by so much in the mean, give or take 0.03."""
    noise = np.random.default_rng(seed).normal(0, 1, len(than))
    return than + noise - noise.mean() + gain


def test_the_default_is_left_only_for_what_is_clearly_better() -> None:
    table = np.random.default_rng(0).normal(size=1000)
    worse, luck, clear = (
        routed_better_by(gain, table, seed) for seed, gain in enumerate((-0.02, 0.03, 0.1), start=1)
    )
    found = chosen_of({"constant": worse, "per_task": table, "knn": luck})
    assert found.kind == "per_task"
    assert "but not clearly better" in {one.kind: one.told for one in found.gains}["knn"]
    assert "the best other kind is not clearly better" in found.why
    assert chosen_of({"constant": luck, "per_task": table}).kind == "per_task"
    assert chosen_of({"constant": clear, "per_task": table}).kind == "constant"
    assert chosen_of({"constant": worse, "per_task": table, "knn": clear}).kind == "knn"


def test_without_a_table_by_task_what_shrinks_by_itself_is_the_default() -> None:
    stacked = np.random.default_rng(0).normal(size=1000)
    luck = routed_better_by(0.03, stacked, 1)
    assert chosen_of({"constant": luck, "knn": luck, "stacked": stacked}).kind == "stacked"
    assert chosen_of({"constant": stacked, "knn": luck}).kind == "constant"


def test_the_simplest_of_those_that_route_the_same_is_used() -> None:
    same = np.array([0.2, np.nan, 0.4])
    found = chosen_of({"constant": same, "per_task": same.copy(), "stacked": same.copy()})
    assert found.kind == "constant"
    assert {one.told for one in found.gains[1:]} == {"as good as constant"}


def test_the_choice_hangs_on_names_and_not_on_the_order_of_rows() -> None:
    data = parallel(200, 0.6, "task")
    order = np.random.default_rng(1).permutation(200)
    mixed = LabelledRewards(
        tuple(data.ids[place] for place in order),
        data.teachers,
        PromptFeatures(
            tuple(data.features.tasks[place] for place in order),
            data.features.embeddings_PD[order],
        ),
        data.rewards_NM[order],
        data.seed,
    )
    ours, theirs = choose_kind(data), choose_kind(mixed)
    assert ours.kind == theirs.kind
    np.testing.assert_allclose(
        [one.gain for one in ours.gains], [one.gain for one in theirs.gains], atol=1e-9
    )


def test_every_kind_says_why_it_is_used_or_not() -> None:
    found = choose_kind(parallel(300, 0.8, "task"))
    told = {one.kind: one.told for one in found.gains}
    assert told["per_task"].startswith("chosen")
    assert "below per_task (give or take" in told["constant"]
    assert "per_task" in told["stacked"]
    low, high = next(one.bounds for one in found.gains if one.kind == "per_task")
    assert 0 < low < 0.49 < high  # 0.8 at home, less what one teacher has on its 90 prompts of 300


def test_where_nothing_beats_the_constant_it_is_used_and_that_is_said() -> None:
    found = choose_kind(parallel(300, 0.0, "task"))
    assert found.kind == "constant"
    assert "no other kind routes better" in found.why


def test_only_the_kinds_that_may_be_chosen_are_compared() -> None:
    data = parallel(300, 0.8, "task")
    found = choose_kind(data, among=("knn",))
    assert [one.kind for one in found.gains] == ["constant", "knn"]


def test_few_prompts_and_ties_get_the_constant() -> None:
    few = choose_kind(parallel(5, 5.0, "task"))
    assert (few.kind, few.gains) == ("constant", ())
    assert "5 prompts are too few" in few.why
    data = parallel(60, 0.8, "task")
    tied = LabelledRewards(data.ids, data.teachers, data.features, np.ones((60, 3)), 0)
    assert choose_kind(tied).kind == "constant"


def test_teachers_that_are_missing_on_most_prompts_are_compared_all_the_same() -> None:
    data = parallel(300, 0.8, "task")
    rewards = data.rewards_NM.copy()
    rewards[::2, 0], rewards[:, 2] = np.nan, np.nan
    found = choose_kind(LabelledRewards(data.ids, data.teachers, data.features, rewards, 0))
    assert found.kind == "per_task"
