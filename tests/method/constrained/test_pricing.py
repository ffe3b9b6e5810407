"""The bound that prices prove, against every assignment of small problems, one by one."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.method.constrained import pricing
from persyn_ray.method.constrained.pricing import (
    AssignmentProblem,
    least_and_range,
    look,
    shortfall,
    usual_sizes,
)

ROUNDING = 1e-9


@st.composite
def problems(draw) -> AssignmentProblem:
    """Two or three teachers, up to four prompts, one summed cost, and any limits."""
    num_teachers, num_prompts = draw(st.integers(2, 3)), draw(st.integers(1, 4))

    def numbers(low: float, high: float, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        values = draw(st.lists(st.floats(low, high), min_size=size, max_size=size))
        return np.array(values, np.float64).reshape(shape)

    rewards_MP = numbers(-2, 2, num_teachers, num_prompts)
    for prompt in range(num_prompts):  # one candidate at least
        able = draw(st.sets(st.integers(0, num_teachers - 1), min_size=1))
        for teacher in set(range(num_teachers)) - able:
            rewards_MP[teacher, prompt] = -np.inf
    shape = draw(st.sampled_from([(num_teachers, num_prompts), (num_teachers, 1)]))
    high_M = numbers(0, num_prompts, num_teachers).round()
    return AssignmentProblem(
        rewards_MP=rewards_MP,
        costs_C=(numbers(0, 5, *shape),),
        low_K=np.append(0.0, np.minimum(high_M, draw(st.integers(0, 1)))),
        high_K=np.append(draw(st.floats(0, 20)), high_M),
    )


def assignments(problem: AssignmentProblem) -> list[np.ndarray]:
    """All that give every prompt to a candidate."""
    able = [np.flatnonzero(np.isfinite(column)) for column in problem.rewards_MP.T]
    return [np.array(one, np.int64) for one in product(*able)]


def reward_of(problem: AssignmentProblem, teacher_P: np.ndarray) -> float:
    return float(problem.rewards_MP[teacher_P, np.arange(len(teacher_P))].sum())


prices = st.lists(st.floats(-2, 2), min_size=4, max_size=4)


def priced(problem: AssignmentProblem, given_prices: list[float]) -> np.ndarray:
    """Prices of the problem's sides; a cost that has no lower limit is never paid for."""
    prices_K = np.array(given_prices[: len(problem.high_K)])
    prices_K[0] = abs(prices_K[0])
    return prices_K


@settings(deadline=None)
@given(problems(), prices)
def test_no_assignment_within_the_limits_is_above_the_bound(
    problem: AssignmentProblem, given_prices: list[float]
) -> None:
    prices_K = priced(problem, given_prices)
    bound = look(problem, prices_K).bound
    for teacher_P in assignments(problem):
        if (problem.excess(teacher_P) <= 0).all():
            reward = reward_of(problem, teacher_P)
            assert reward <= bound + ROUNDING
            lost = shortfall(problem, prices_K, teacher_P)
            assert lost >= 0
            assert lost == pytest.approx(bound - reward, abs=1e-6)


@settings(deadline=None)
@given(problems())
def test_without_prices_every_prompt_has_its_best_teacher(problem: AssignmentProblem) -> None:
    found = look(problem, np.zeros(len(problem.high_K)))
    best = max(reward_of(problem, one) for one in assignments(problem))
    assert found.reward == pytest.approx(best)
    assert found.bound == pytest.approx(best)
    assert (found.lead_P >= 0).all()
    alone_P = np.isfinite(problem.rewards_MP).sum(axis=0) == 1
    assert np.isinf(found.lead_P).tolist() == alone_P.tolist()


@settings(deadline=None)
@given(problems(), prices)
def test_the_size_of_a_chunk_changes_nothing(
    problem: AssignmentProblem, given_prices: list[float]
) -> None:
    prices_K = priced(problem, given_prices)
    whole = look(problem, prices_K)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pricing, "CHUNK", 1)
        single = look(problem, prices_K)
    assert single.bound == whole.bound
    np.testing.assert_array_equal(single.teacher_P, whole.teacher_P)
    np.testing.assert_array_equal(single.lead_P, whole.lead_P)


@settings(deadline=None)
@given(problems())
def test_an_assignment_is_above_a_limit_if_and_only_if_it_takes_more(
    problem: AssignmentProblem,
) -> None:
    for teacher_P in assignments(problem):
        used_K, over_K = problem.used(teacher_P), problem.excess(teacher_P)
        counts_M = np.bincount(teacher_P, minlength=len(problem.rewards_MP))
        np.testing.assert_array_equal(used_K[1:], counts_M)
        is_over_M = (counts_M > problem.high_K[1:]) | (counts_M < problem.low_K[1:])
        np.testing.assert_array_equal(over_K[1:] > 0, is_over_M)
        assert over_K[0] == pytest.approx(used_K[0] - problem.high_K[0], abs=1e-9)


def test_the_sign_of_an_excess_is_exact_where_floats_would_round_it_away() -> None:
    tenths = AssignmentProblem(
        rewards_MP=np.zeros((2, 3)),
        costs_C=(np.array([[0.1], [1.0]]),),
        low_K=np.zeros(3),
        high_K=np.array([0.3, 3, 3]),
    )
    # 3 x 0.1 as it is stored is above 0.3 as it is stored, though by less than a sum would show.
    assert tenths.excess(np.zeros(3, np.int64))[0] > 0


@settings(deadline=None)
@given(problems())
def test_least_reward_and_sizes_are_those_of_the_candidates(problem: AssignmentProblem) -> None:
    least, width = least_and_range(problem)
    assert least == pytest.approx(min(reward_of(problem, one) for one in assignments(problem)))
    known = problem.rewards_MP[np.isfinite(problem.rewards_MP)]
    assert width > 0
    assert width == 1 or width <= known.max() - known.min() + ROUNDING
    assert (usual_sizes(problem) > 0).all()
