"""The planted world: deterministic, true to its truth, and a place where routing pays."""

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError, PoolMismatchError
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.baselines import best_constant, constant_assignment, random_assignment
from persyn_ray.method.metrics import hit_at_k, routed_reward
from persyn_ray.method.planted import CUES, PlantedWorld, specialists

TEACHERS = ("ada", "ben", "cy", "dot")
WORLD = specialists(4, TEACHERS, noise=0.1, seed=3)


def test_prompts_repeat_and_carry_a_cue_of_their_task():
    prompts = WORLD.prompts(200)
    assert prompts[:50] == WORLD.prompts(50)
    assert len({prompt.prompt_id for prompt in prompts}) == 200
    assert {prompt.task for prompt in prompts} == {0, 1, 2, 3}
    for prompt in prompts:
        holding = [
            task for task, cues in enumerate(CUES) if any(cue in prompt.text for cue in cues)
        ]
        assert holding == [prompt.task]


def test_number_id_and_text_name_the_same_prompt():
    for number, prompt in enumerate(WORLD.prompts(20)):
        templated = f"<|user|>{prompt.text}<|assistant|>"
        for name in (number, prompt.prompt_id, prompt.text, templated):
            assert WORLD.task_of(name) == prompt.task
            assert WORLD.right_answer(name) == WORLD.right_answer(number)
            assert WORLD.answer(name, "cy") == WORLD.answer(number, "cy")


def test_the_right_answer_is_the_sum_in_the_text():
    for prompt in WORLD.prompts(20):
        terms = [int(word) for word in prompt.text.split() if word.isdigit()]
        assert sum(terms) == WORLD.right_answer(prompt.text)


def test_answers_end_in_a_number_that_is_right_as_often_as_planted():
    num_right_KM = np.zeros((4, 4))
    num_KM = np.zeros((4, 4))
    for prompt in WORLD.prompts(400):
        for position, teacher in enumerate(TEACHERS):
            text, is_right = WORLD.answer(prompt.text, teacher)
            number = int(text.rsplit("#### ", 1)[1])
            assert (number == WORLD.right_answer(prompt.text)) == is_right
            num_right_KM[prompt.task, position] += is_right
            num_KM[prompt.task, position] += 1
    np.testing.assert_allclose(num_right_KM / num_KM, WORLD.quality_KM, atol=0.15)


def test_answers_agree_with_the_table_of_right_ones():
    correct_PM = WORLD.correct(range(30))
    for number in range(30):
        found_M = [WORLD.answer(number, teacher)[1] for teacher in TEACHERS]
        np.testing.assert_array_equal(correct_PM[number], found_M)


def test_teachers_differ_in_verbosity():
    lengths = [len(WORLD.answer(0, teacher)[0].splitlines()) for teacher in TEACHERS]
    assert lengths == [2, 3, 4, 5]


def test_signals_scatter_around_their_means():
    quality_PM, learnability_PM = WORLD.signals(range(4000))
    tasks_P = np.array([WORLD.task_of(number) for number in range(4000)])
    for task in range(4):
        here = tasks_P == task
        np.testing.assert_allclose(quality_PM[here].mean(axis=0), WORLD.quality_KM[task], atol=0.02)
        np.testing.assert_allclose(
            learnability_PM[here].mean(axis=0), WORLD.learnability_KM[task], atol=0.02
        )
        np.testing.assert_allclose(quality_PM[here].std(axis=0), 0.1, atol=0.01)
    assert learnability_PM.max() <= 0


def test_a_pair_of_prompt_and_teacher_decides_its_signals():
    order_M = [2, 0, 3, 1]
    permuted = PlantedWorld(
        4,
        tuple(TEACHERS[m] for m in order_M),
        WORLD.quality_KM[:, order_M],
        WORLD.learnability_KM[:, order_M],
        WORLD.noise,
        WORLD.seed,
    )
    rewards_PM = WORLD.rewards(range(50))
    np.testing.assert_array_equal(permuted.rewards(range(50)), rewards_PM[:, order_M])
    np.testing.assert_array_equal(WORLD.rewards([7, 3]), rewards_PM[[7, 3]])
    assert permuted.answer(5, "dot") == WORLD.answer(5, "dot")


def test_informed_scores_beat_the_best_constant_and_approach_the_oracle():
    parallel_PM, routed = WORLD.rewards(range(400)), range(400, 1400)
    rewards_PM = WORLD.rewards(routed)
    ids = [str(number) for number in routed]
    tie_breaks_PM = tie_breaks(ids, TEACHERS, 0)
    # What a router can learn: the mean reward by task on the parallel set, here read with error.
    parallel_tasks_P = np.array([WORLD.task_of(number) for number in range(400)])
    mean_KM = np.array([parallel_PM[parallel_tasks_P == task].mean(axis=0) for task in range(4)])
    tasks_P = [WORLD.task_of(number) for number in routed]
    scores_PM = mean_KM[tasks_P] + np.random.default_rng(0).normal(0, 0.1, rewards_PM.shape)
    constant = best_constant(parallel_PM, TEACHERS, 0)
    mean = {
        name: routed_reward(rewards_PM, teacher_P).mean()
        for name, teacher_P in {
            "random": random_assignment(ids, TEACHERS, 0),
            "constant": constant_assignment(constant, 1000),
            "routed": assign(scores_PM, tie_breaks_PM)[0],
            "oracle": assign(rewards_PM, tie_breaks_PM)[0],
        }.items()
    }
    assert mean["random"] < mean["constant"] < mean["routed"] < mean["oracle"]
    gained = (mean["routed"] - mean["constant"]) / (mean["oracle"] - mean["constant"])
    assert gained > 0.9
    assert hit_at_k(scores_PM, rewards_PM, 1).mean() > 0.7
    assert hit_at_k(scores_PM, rewards_PM, 3).mean() > 0.9


def test_misuse_is_refused():
    with pytest.raises(ConfigError, match="num_tasks is 99"):
        specialists(99, TEACHERS)
    with pytest.raises(ConfigError, match="tasks by teachers"):
        PlantedWorld(2, TEACHERS, np.zeros((2, 3)), np.zeros((2, 4)), 0.1, 0)
    with pytest.raises(PoolMismatchError, match="eve"):
        WORLD.answer(0, "eve")
    with pytest.raises(DataError, match="No planted prompt"):
        WORLD.task_of("What is the capital of France?")
