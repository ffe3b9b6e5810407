"""Screening in planted worlds: pools in which routing pays, does not, and cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.predictors.choose import LabelledRewards
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.screening.clusters import cluster_labels
from persyn_ray.screening.display import sentences
from persyn_ray.screening.judge import Screening, ScreeningGoal, screen

ASKED = ScreeningGoal()


def probe(num: int, gap: float, seed: int = 0, lead: float = 0.0) -> LabelledRewards:
    """0/1 scores of four teachers on eight tasks; each teacher is at home on two of them."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 8, num)
    chance = 0.4 + gap * (tasks[:, None] % 4 == np.arange(4)) + np.array([lead, 0, 0, 0])
    scores = (rng.random((num, 4)) < chance).astype(float)
    return LabelledRewards(
        tuple(f"p{n}" for n in range(num)),
        ("a", "b", "c", "d"),
        PromptFeatures(tuple(f"task {task}" for task in tasks)),
        scores,
        seed,
    )


def verdicts(num: int, gap: float, lead: float = 0.0) -> list[str]:
    return [screen(probe(num, gap, seed, lead), {}, ASKED).verdict for seed in range(4)]


def test_specialists_pay_and_two_hundred_prompts_show_it() -> None:
    assert verdicts(200, 0.4).count("yes") == 4


def test_a_teacher_that_is_better_everywhere_leaves_nothing_to_route() -> None:
    found = verdicts(800, 0.0, lead=0.3)
    assert found.count("no") == 4


def test_equal_teachers_are_never_found_to_pay() -> None:
    assert "yes" not in verdicts(800, 0.0)
    assert verdicts(200, 0.0).count("yes") <= 1


def test_the_expected_gain_is_about_the_true_one() -> None:
    found = screen(probe(1000, 0.3), {}, ASKED)
    true = 0.3 * 3 / 4  # at home always, in place of on a quarter of the prompts
    (planned,) = [one for one in found.growth if one.num_prompts == ASKED.planned]
    assert planned.gain.low < true < planned.gain.high + 0.03
    assert planned.gain.mean == pytest.approx(true, abs=0.04)
    assert found.measured.low < true < found.measured.high + 0.03
    gains = [one.gain.mean for one in found.growth]
    assert gains[-1] >= gains[0] - 0.01


def test_a_probe_too_small_says_how_many_prompts_would_do() -> None:
    few = screen(probe(12, 0.4), {}, ASKED)
    assert (few.verdict, few.prompts_needed) == ("cannot say", 200)
    unclear = [screen(probe(60, 0.06, seed), {}, ASKED) for seed in range(6)]
    open_ones = [one for one in unclear if one.verdict == "cannot say"]
    assert open_ones
    assert all(one.prompts_needed is None or one.prompts_needed >= 90 for one in open_ones)
    assert any("would decide" in " ".join(sentences(one, ASKED)) for one in open_ones)


def test_ties_everywhere_are_no_gain_once_there_are_enough_of_them() -> None:
    def tied(num: int) -> Screening:
        return screen(replace(probe(num, 0.0), rewards_NM=np.ones((num, 4))), {}, ASKED)

    assert tied(400).verdict == "no"
    assert (tied(50).verdict, tied(50).prompts_needed) == ("cannot say", 300)


def test_without_labels_clusters_stand_in_and_without_both_nothing_is_said() -> None:
    labelled = probe(400, 0.4)
    hidden = replace(labelled, features=PromptFeatures((None,) * 400))
    assert screen(hidden, {}, ASKED).verdict == "cannot say"
    assert "--task" in screen(hidden, {}, ASKED).why
    places = np.array([int(task.split()[1]) for task in labelled.features.tasks])
    noise = np.random.default_rng(0).normal(0, 0.1, (400, 8))
    seen = PromptFeatures((None,) * 400, np.eye(8)[places] + noise)
    found = screen(replace(labelled, features=seen), {}, ASKED)
    assert (found.verdict, found.divided_by) == ("yes", "clusters of embeddings")


def test_clusters_find_groups_that_lie_apart() -> None:
    places = np.random.default_rng(0).integers(0, 4, 120)
    embeddings = 5 * np.eye(4)[places] + np.random.default_rng(1).normal(0, 0.1, (120, 4))
    labels = np.array(cluster_labels(embeddings, 0))
    for label in set(labels):
        assert len(set(places[labels == label])) == 1 or len(set(labels)) < 4


def test_teachers_nobody_would_miss_are_named() -> None:
    data = probe(1000, 0.5)
    scores = np.hstack([data.rewards_NM, np.zeros((1000, 1))])
    found = screen(
        replace(data, teachers=(*data.teachers, "useless"), rewards_NM=scores), {}, ASKED
    )
    assert {one.teacher for one in found.standings if not one.is_needed} == {"useless"}
    assert found.standings[-1].teacher == "useless"


def test_a_teacher_missing_on_half_of_the_prompts_is_judged_all_the_same() -> None:
    data = probe(600, 0.4)
    rewards = data.rewards_NM.copy()
    rewards[::2, 0] = np.nan
    found = screen(replace(data, rewards_NM=rewards), {"score": rewards}, ASKED)
    assert found.verdict == "yes"
    assert {one.num_known for one in found.standings} == {300, 600}


def test_a_single_teacher_and_impossible_goals_are_refused() -> None:
    data = probe(100, 0.4)
    alone = data.rewards_NM.copy()
    alone[:, 1:] = np.nan
    with pytest.raises(DataError, match="two teachers"):
        screen(replace(data, rewards_NM=alone), {}, ASKED)
    with pytest.raises(ConfigError, match="--worth"):
        ScreeningGoal(worth=0.0)


def test_the_shares_of_a_signal_that_is_all_style_say_so() -> None:
    data = probe(300, 0.4)
    style = np.tile([-1.0, -2.0, -3.0, -4.0], (300, 1))
    style += np.random.default_rng(0).normal(0, 0.1, style.shape)
    found = screen(data, {"learnability": style}, ASKED)
    assert found.shares["learnability"].teacher > 0.95
    assert found.shares["reward"].teacher < 0.05


def test_the_first_sentence_says_whose_the_variance_is() -> None:
    rng = np.random.default_rng(0)
    data = probe(300, 0.0)
    prompt, teacher = rng.normal(0, 2.0, (300, 1)), np.array([0.0, 0.5, 1.0, 1.5])
    found = screen(replace(data, rewards_NM=prompt + teacher), {}, ASKED)
    assert found.shares["reward"].interaction == pytest.approx(0.0, abs=1e-9)
    assert found.oracle_gain == pytest.approx(0.0, abs=1e-9)
    first = sentences(found, ASKED)[0]
    assert first.startswith("Of the variance of the reward")
    assert "bounds what any router can gain over the best single teacher" in first
    pays = screen(probe(300, 0.4), {}, ASKED)
    best = pays.oracle_gain
    assert best > 0.3
    assert f"{best:+.3f}" in sentences(pays, ASKED)[0]
    tied = screen(replace(data, rewards_NM=np.ones((300, 4))), {}, ASKED)
    assert not sentences(tied, ASKED)[0].startswith("Of the variance")
