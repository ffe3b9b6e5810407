"""Assignment within limits: exact limits, true bounds, the best of all assignments, no order."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import assign, shares, tie_breaks
from persyn_ray.method.constrained.assign import assign_within, pareto_front
from persyn_ray.method.constrained.limits import Constraints, Limit, prompts_of_share

NUDGE = 1e-7  # more than ties may cost a prompt


def names(num_teachers):
    return tuple(f"t{number}" for number in range(num_teachers))


def draws_for(rewards_PM, seed=0):
    num_prompts, num_teachers = np.shape(rewards_PM)
    return tie_breaks([f"p{p}" for p in range(num_prompts)], names(num_teachers), seed)


def within(rewards_PM, costs=(), limits=(), capacity_M=None, floor_M=None, able_PM=None, seed=0):
    settings = [f"assignment.max_{number}" for number in range(len(costs))]
    constraints = Constraints(
        names(np.shape(rewards_PM)[1]),
        tuple(
            Limit(setting, "tokens", np.asarray(cost), limit)
            for setting, cost, limit in zip(settings, costs, limits, strict=True)
        ),
        capacity_M,
        floor_M,
        "assignment.capacity",
        "assignment.min_share",
    )
    return assign_within(rewards_PM, constraints, draws_for(rewards_PM, seed), able_PM)


def program(rewards_PM, costs, limits, capacity_M, floor_M, able_PM, *, whole):
    """The most summed reward by the textbook program over all pairs; None if there is none."""
    num_prompts, num_teachers = rewards_PM.shape
    pairs = [(p, m) for p, m in product(range(num_prompts), range(num_teachers)) if able_PM[p, m]]
    rows, low, high = [], [], []
    for p in range(num_prompts):
        rows.append([float(q == p) for q, _ in pairs])
        low.append(float(able_PM[p].any()))
        high.append(1.0)
    for cost, limit in zip(costs, limits, strict=True):
        full_PM = np.broadcast_to(cost, rewards_PM.shape)
        rows.append([float(full_PM[pair]) for pair in pairs])
        low.append(0.0)
        high.append(limit)
    for m in range(num_teachers):
        rows.append([float(n == m) for _, n in pairs])
        low.append(floor_M[m])
        high.append(capacity_M[m])
    found = optimize.milp(
        [-rewards_PM[pair] for pair in pairs],
        integrality=np.full(len(pairs), int(whole)),
        bounds=optimize.Bounds(0, 1),
        constraints=optimize.LinearConstraint(np.array(rows), low, high),
        options={"mip_rel_gap": 0.0},
    )
    return None if found.x is None else -found.fun


@st.composite
def problems(draw):
    """Small problems of every kind: ties, missing candidates, tight and slack limits."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    num_prompts, num_teachers = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    shape = (num_prompts, num_teachers)
    rewards_PM = (
        rng.choice([0.0, 0.5, 1.0], shape) if draw(st.booleans()) else rng.normal(size=shape)
    )
    able_PM = rng.random(shape) < draw(st.sampled_from([0.6, 1.0]))
    num_served = int(able_PM.any(axis=1).sum())
    assume(num_served > 0)
    costs, limits = [], []
    for is_by_pair in draw(st.lists(st.booleans(), max_size=3)):
        rows = num_prompts if is_by_pair else 1
        costs.append(rng.integers(0, 1000, (rows, num_teachers)).astype(np.float32))
        full_PM = np.broadcast_to(costs[-1], shape).astype(float)
        least = np.where(able_PM, full_PM, np.inf).min(axis=1)[able_PM.any(axis=1)].sum()
        most = np.where(able_PM, full_PM, 0.0).max(axis=1).sum()
        tightness = draw(st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0]))
        limits.append(float(np.round(least + (most - least) * tightness)))
    capacity_M, floor_M = np.full(num_teachers, np.inf), np.zeros(num_teachers)
    if draw(st.booleans()):
        capacity_M = np.ceil(rng.uniform(0.5, 2, num_teachers) * num_served / num_teachers)
    if draw(st.booleans()):
        floor_M = np.floor(rng.uniform(0, 0.7, num_teachers) * num_served / num_teachers)
    return rewards_PM, costs, limits, capacity_M, np.minimum(floor_M, capacity_M), able_PM


def exact_use(costs_PM, teacher_P, shape):
    """Summed cost as a fraction: no rounding at all."""
    full_PM = np.broadcast_to(costs_PM, shape)
    pairs = ((p, m) for p, m in enumerate(teacher_P) if m >= 0)
    return sum((Fraction(float(full_PM[pair])) for pair in pairs), Fraction(0))


def check_limits(result, rewards_PM, costs, limits, capacity_M, floor_M, able_PM):
    for cost, limit, used in zip(costs, limits, result.used_C, strict=True):
        exact = exact_use(cost, result.teacher_P, rewards_PM.shape)
        assert exact <= Fraction(limit)
        assert used == pytest.approx(float(exact))
    counts_M = np.bincount(result.teacher_P[result.teacher_P >= 0], minlength=len(floor_M))
    assert (counts_M <= capacity_M).all()
    assert (counts_M >= floor_M).all()
    np.testing.assert_array_equal(counts_M, result.counts_M)
    np.testing.assert_array_equal(result.teacher_P == -1, ~able_PM.any(axis=1))
    served = np.flatnonzero(result.teacher_P >= 0)
    assert able_PM[served, result.teacher_P[served]].all()
    assert result.value == pytest.approx(rewards_PM[served, result.teacher_P[served]].sum())


@given(problems())
def test_the_best_whole_assignment_within_exact_limits_and_true_bounds(problem):
    best = program(*problem, whole=True)
    if best is None:
        with pytest.raises(ConfigError):
            within(*problem)
        return
    result = within(*problem)
    check_limits(result, *problem)
    slack = NUDGE * len(problem[0])
    assert result.value == pytest.approx(best, abs=slack)
    assert result.gap >= 0
    # The bound is that of the program which may split prompts, not merely some bound.
    assert result.bound == pytest.approx(program(*problem, whole=False), abs=slack)


@given(problems())
def test_the_gap_is_within_what_the_docstring_proves(problem):
    rewards_PM, costs, limits, capacity_M, floor_M, able_PM = problem
    num_bind = len(limits) + int(np.isfinite(capacity_M).sum() + (floor_M > 0).sum())
    tighter = []
    for cost, limit in zip(costs, limits, strict=True):
        full_PM = np.broadcast_to(cost, rewards_PM.shape)
        dearest_P = np.where(able_PM, full_PM, -np.inf).max(axis=1)
        cheapest_P = np.where(able_PM, full_PM, np.inf).min(axis=1)
        most = (dearest_P - cheapest_P)[able_PM.any(axis=1)].max()
        tighter.append(limit - num_bind * float(most))
    assume(min(tighter, default=0) >= 0)
    proven = program(rewards_PM, costs, tighter, capacity_M, floor_M, able_PM, whole=False)
    assume(proven is not None)
    assert within(*problem).value >= proven - NUDGE * len(rewards_PM)


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_one_limit_alone_loses_at_most_one_prompts_range(seed):
    rng = np.random.default_rng(seed)
    rewards_PM, costs_PM = rng.random((60, 4)), rng.random((60, 4))
    limit = float(costs_PM.min(axis=1).sum() * 1.1)
    result = within(rewards_PM, [costs_PM], [limit])
    assert 0 <= result.gap <= np.ptp(rewards_PM, axis=1).max()


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_capacities_and_floors_alone_lose_nothing(seed):
    rng = np.random.default_rng(seed)
    rewards_PM = rng.random((60, 4))
    result = within(rewards_PM, capacity_M=[30, 10, 20, 25], floor_M=[15, 0, 0, 12])
    assert result.gap <= 60 * NUDGE
    assert result.counts_M.sum() == 60


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_more_of_anything_never_lowers_the_value(seed):
    rng = np.random.default_rng(seed)
    rewards_PM, costs_PM = rng.random((20, 3)), rng.integers(1, 100, (20, 3))
    least, most = costs_PM.min(axis=1).sum(), costs_PM.max(axis=1).sum()
    by_limit = [
        within(rewards_PM, [costs_PM], [float(limit)], capacity_M=[9, 9, 9]).value
        for limit in np.linspace((least + most) / 2, most, 3).round()
    ]
    by_capacity = [within(rewards_PM, capacity_M=[7 + more] * 3).value for more in (0, 1, 4)]
    by_floor = [within(rewards_PM, floor_M=[6 - less] * 3).value for less in (0, 1, 4)]
    for values in (by_limit, by_capacity, by_floor):
        assert all(after >= before - 20 * NUDGE for before, after in pairwise(values))


def test_two_teachers_by_hand():
    # The dear teacher gains 0.5, 0.3 and 0.1; 10 tokens pay for it once beside two cheap ones.
    rewards_PM = [[0.1, 0.6], [0.2, 0.5], [0.3, 0.4]]
    result = within(rewards_PM, [[[1.0, 8.0]]], [10.0])
    assert result.teacher_P.tolist() == [1, 0, 0]
    assert result.value == pytest.approx(1.1)
    assert result.used_C.tolist() == [10.0]
    assert result.gap == pytest.approx(0, abs=NUDGE)
    # Of 3 tokens more, 7 of which would gain 0.3: an upper bound, not reached by whole prompts.
    more = within(rewards_PM, [[[1.0, 8.0]]], [13.0])
    assert more.teacher_P.tolist() == [1, 0, 0]
    assert more.gap == pytest.approx(3 * 0.3 / 7)
    assert more.prices_C[0] == pytest.approx(0.3 / 7)
    assert more.relative_gap == pytest.approx(more.gap / more.bound)


def test_without_constraints_it_is_the_plain_assignment():
    rng = np.random.default_rng(0)
    rewards_PM = rng.choice([0.0, 1.0, np.nan], (500, 5))
    able_PM = rng.random((500, 5)) < 0.7
    plain_P, _ = assign(rewards_PM, draws_for(rewards_PM), able_PM)
    slack = {"costs": [np.ones((1, 5))], "limits": [500.0], "capacity_M": [500] * 5}
    for given_limits in ({}, slack):
        result = within(rewards_PM, **given_limits, able_PM=able_PM)
        np.testing.assert_array_equal(result.teacher_P, plain_P)
        assert result.gap == result.relative_gap == 0
        assert not result.prices_C.any()
        assert not result.prices_M.any()


@pytest.mark.parametrize("rewards", ["distinct", "tied"])
@pytest.mark.parametrize("num_prompts", [60, 4100])
def test_the_order_of_prompts_and_teachers_changes_nothing(rewards, num_prompts):
    rng = np.random.default_rng(1)
    shape = (num_prompts, 5)
    rewards_PM = rng.normal(size=shape) if rewards == "distinct" else rng.choice([0.0, 1.0], shape)
    costs_PM = rng.uniform(1, 9, shape).astype(np.float32)
    draws_PM = draws_for(rewards_PM)
    capacity_M, floor_M = np.array([0.5, 0.2, 0.3, 0.3, 1]), np.array([0, 0.1, 0, 0, 0.15])

    def run(prompts, teachers):
        limit = Limit("l", "u", costs_PM[np.ix_(prompts, teachers)], 2.5 * num_prompts)
        constraints = Constraints(
            names(5),
            (limit,),
            (capacity_M * num_prompts)[teachers],
            (floor_M * num_prompts)[teachers],
        )
        picked = np.ix_(prompts, teachers)
        return assign_within(rewards_PM[picked], constraints, draws_PM[picked])

    plain = run(np.arange(num_prompts), np.arange(5))
    prompts, teachers = rng.permutation(num_prompts), rng.permutation(5)
    mixed = run(prompts, teachers)
    np.testing.assert_array_equal(teachers[mixed.teacher_P], plain.teacher_P[prompts])
    assert mixed.value == plain.value
    np.testing.assert_array_equal(mixed.prices_M, plain.prices_M[teachers])


def test_equal_teachers_share_evenly():
    # Three of equal reward and cost, one better and dear: who goes without the dear one is drawn.
    rewards_PM = np.tile([0.0, 0.0, 0.0, 1.0], (5100, 1))
    result = within(rewards_PM, [[[1.0, 1.0, 1.0, 5.0]]], [5100.0 + 4 * 1275])
    np.testing.assert_allclose(shares(result.teacher_P, 4), 0.25, atol=0.03)
    assert result.gap <= 5100 * NUDGE


def planted(num_prompts, num_teachers=6, seed=3):
    """Skill differs by task; longer-winded and better teachers cost more."""
    rng = np.random.default_rng(seed)
    skill_KM = rng.normal(np.linspace(0.5, 0.8, num_teachers), 0.15, (8, num_teachers))
    rewards_PM = skill_KM[rng.integers(0, 8, num_prompts)]
    rewards_PM += 0.1 * rng.standard_normal((num_prompts, num_teachers))
    tokens_PM = rng.lognormal(5, 0.5, (num_prompts, 1)) * rng.uniform(0.7, 1.5, num_teachers)
    return rewards_PM, tokens_PM.round().astype(np.float32), np.geomspace(0.1, 5, num_teachers)


def test_many_prompts_meet_every_kind_of_limit_with_hardly_a_gap():
    num_prompts = 9000
    rewards_PM, tokens_PM, price_M = planted(num_prompts)
    costs = [tokens_PM, tokens_PM * price_M.astype(np.float32), price_M[None]]
    limits = [0.98 * float(tokens_PM.mean()) * num_prompts, 2e6 * 0.9, 1.2 * num_prompts]
    capacity_M, floor_M = np.full(6, 2700), prompts_of_share(np.full(6, 0.06), num_prompts)
    result = within(rewards_PM, costs, limits, capacity_M, floor_M)
    able_PM = np.ones_like(rewards_PM, dtype=bool)
    check_limits(result, rewards_PM, costs, limits, capacity_M, floor_M, able_PM)
    assert (result.prices_C > 0).sum() >= 2  # or the test would not ask for much
    assert (result.prices_M > 0).any()
    assert (result.prices_M < 0).any()
    assert result.relative_gap <= 1e-5
    # The bound, written anew from the prices alone.
    priced_PM = rewards_PM - result.prices_M
    for price, cost in zip(result.prices_C, costs, strict=True):
        priced_PM = priced_PM - price * cost
    bound = priced_PM.max(axis=1).sum() + result.prices_C @ limits
    bound += np.where(result.prices_M > 0, capacity_M, floor_M) @ result.prices_M
    assert result.bound == pytest.approx(bound, abs=1e-6)


def test_a_price_is_what_one_more_unit_brings():
    rewards_PM, tokens_PM, _ = planted(3600, seed=4)
    limit = float(tokens_PM.min(axis=1).sum()) * 1.1
    less, more = (within(rewards_PM, [tokens_PM], [limit * part]) for part in (1, 1.001))
    gained = (more.value - less.value) / (0.001 * limit)
    assert more.prices_C[0] <= gained * 1.001
    assert gained <= less.prices_C[0] * 1.001
    assert more.prices_C[0] >= 0.95 * less.prices_C[0] > 0


def test_the_cheapest_total_itself_is_enough():
    # A tenth is no exact float, nor are 30 of them 3: the limit must be neither missed nor cut.
    rewards_PM = np.tile([0.0, 1.0], (30, 1))
    exact = Fraction(0.1) * 30
    enough = float(exact) if Fraction(float(exact)) >= exact else np.nextafter(float(exact), 9)
    assert within(rewards_PM, [[[0.1, 0.2]]], [enough]).counts_M.tolist() == [30, 0]
    with pytest.raises(ConfigError, match="cheapest assignment takes"):
        within(rewards_PM, [[[0.1, 0.2]]], [float(np.nextafter(enough, 0))])


def test_the_cheapest_total_itself_is_enough_for_many():
    rewards_PM, tokens_PM, _ = planted(3600)
    limit = float(tokens_PM.min(axis=1).astype(float).sum())
    result = within(rewards_PM, [tokens_PM], [limit])
    assert result.used_C[0] == limit
    cheapest_PM = tokens_PM == tokens_PM.min(axis=1, keepdims=True)
    assert cheapest_PM[np.arange(3600), result.teacher_P].all()


def test_costs_may_be_given_by_pair_by_teacher_or_by_prompt():
    rng = np.random.default_rng(5)
    rewards_PM, costs_M = rng.random((40, 3)), np.array([[1.0, 2.0, 4.0]])
    by_teacher, by_pair = (
        within(rewards_PM, [costs], [80.0])
        for costs in (costs_M, np.tile(costs_M, (40, 1)).astype(np.float32))
    )
    np.testing.assert_array_equal(by_teacher.teacher_P, by_pair.teacher_P)
    assert by_teacher.prices_C == pytest.approx(by_pair.prices_C)
    by_prompt = within(rewards_PM, [np.ones((40, 1))], [40.0])
    np.testing.assert_array_equal(by_prompt.teacher_P, rewards_PM.argmax(axis=1))


def test_prompts_without_candidates_take_no_part():
    rng = np.random.default_rng(6)
    rewards_PM, costs_PM = rng.random((50, 3)), rng.random((50, 3))
    capacity_M, limit = [15, 20, 20], 15.0
    alone = within(rewards_PM, [costs_PM], [limit], capacity_M)
    more_PM = np.vstack([np.full((7, 3), np.nan), rewards_PM])
    costs_PM = np.vstack([np.full((7, 3), np.nan), costs_PM])
    result = within(more_PM, [costs_PM], [limit], capacity_M)
    assert (result.teacher_P[:7] == -1).all()
    assert result.value == pytest.approx(alone.value, abs=50 * NUDGE)
    nobody = within(more_PM[:7], [costs_PM[:7]], [limit], capacity_M)
    assert nobody.teacher_P.tolist() == [-1] * 7
    assert nobody.value == nobody.gap == 0


@pytest.mark.parametrize(
    ("given_limits", "message"),
    [
        (
            {"costs": [[[2.0, 5.0]]], "limits": [19.0]},
            "The cheapest assignment takes 20 tokens, 1 above assignment.max_0 = 19",
        ),
        ({"capacity_M": [4, 5]}, "assignment.capacity has room for 9 prompts in sum, there are 10"),
        ({"floor_M": [6, 5]}, "assignment.min_share asks for 11 prompts in sum, there are 10"),
        ({"floor_M": [0, 9]}, "t1 can take 8 of 10 prompts, assignment.min_share asks for 9"),
        ({"floor_M": [5, 0], "capacity_M": [4, 9]}, "t0 must get at least 5 prompts and may get 4"),
        ({"capacity_M": [4.5, 9]}, "assignment.capacity is 4.5 prompts for t0"),
        ({"floor_M": [-1, 0]}, "assignment.min_share is -1 prompts for t0"),
        ({"floor_M": [1, 1, 1]}, "3.* values for 2 teachers"),
        ({"costs": [[[2.0, 5.0]]], "limits": [-1.0]}, "assignment.max_0 is -1 tokens"),
        ({"costs": [[[2.0, 5.0]]], "limits": [np.inf]}, "assignment.max_0 is inf tokens"),
        (
            {"costs": [[[2.0, 5.0]]], "limits": [30.0], "capacity_M": [3, 10]},
            "within capacities and floors takes 41 tokens, 11 above assignment.max_0 = 30",
        ),
        (
            {"costs": [[[1.0, 5.0]], [[5.0, 1.0]]], "limits": [29.0, 29.0]},
            "No assignment keeps these together: assignment.max_0 .29 tokens.; "
            "assignment.max_1 .29 tokens.. Loosen",
        ),
    ],
)
def test_impossible_limits_are_named(given_limits, message):
    able_PM = np.ones((10, 2), dtype=bool)
    able_PM[:2, 1] = False
    with pytest.raises(ConfigError, match=message):
        within(np.random.default_rng(0).random((10, 2)), **given_limits, able_PM=able_PM)


def test_capacities_that_clash_over_candidates_are_named():
    # Ten prompts can only go to t0 and t1, which take nine; t2 and t3 have room to spare.
    able_PM = np.ones((20, 4), dtype=bool)
    able_PM[:10, 2:] = False
    with pytest.raises(ConfigError, match=r"together: assignment.capacity .prompts of t0 5, t1 4."):
        within(np.random.default_rng(0).random((20, 4)), capacity_M=[5, 4, 9, 9], able_PM=able_PM)


def test_impossible_limits_are_found_among_many_prompts():
    rewards_PM, tokens_PM, _ = planted(3600)
    least = float(tokens_PM.min(axis=1).astype(float).sum())
    with pytest.raises(ConfigError, match=r"within capacities and floors takes .* above"):
        within(rewards_PM, [tokens_PM], [1.02 * least], capacity_M=np.full(6, 610))


def test_unknown_costs_and_foreign_shapes_are_refused():
    rewards_PM = np.random.default_rng(0).random((4, 2))
    costs_PM = np.ones((4, 2))
    for bad in (np.nan, -1.0, np.inf):
        costs_PM[3, 1] = bad
        with pytest.raises(DataError, match=r"assignment.max_0 needs the tokens .* for t1"):
            within(rewards_PM, [costs_PM], [9.0])
        able_PM = np.ones((4, 2), dtype=bool)
        able_PM[3, 1] = False
        assert within(rewards_PM, [costs_PM], [9.0], able_PM=able_PM).value > 0
    with pytest.raises(DataError, match="do not fit"):
        within(rewards_PM, [np.ones((3, 2))], [9.0])
    with pytest.raises(ConfigError, match="3 teachers are named, rewards have 2"):
        assign_within(rewards_PM, Constraints(names(3)), draws_for(rewards_PM))


def test_shares_become_counts_without_a_hair_too_many():
    np.testing.assert_array_equal(prompts_of_share([0.1, 0.15, 0, 1], 30), [3, 5, 0, 30])
    with pytest.raises(ConfigError, match=r"min_share is 1\.2"):
        prompts_of_share([0.5, 1.2], 30, "assignment.min_share")


def test_the_front_runs_from_the_cheapest_to_the_best():
    rewards_PM, tokens_PM, price_M = planted(500)
    costs_PM = tokens_PM * price_M
    points = pareto_front(rewards_PM, costs_PM, 6, draws_for(rewards_PM))
    assert points[0].cost == pytest.approx(costs_PM.min(axis=1).sum())
    assert points[-1].reward == pytest.approx(rewards_PM.max(axis=1).sum())
    limits = np.linspace(points[0].cost, points[-1].cost, 6)
    for point, limit in zip(points, limits, strict=True):
        assert point.cost <= limit * (1 + 1e-12)
        assert 0 <= point.gap <= 1e-3 * point.reward
        assert point.shares_M.sum() == pytest.approx(1)
    alone = within(rewards_PM, [costs_PM], [limits[2]])
    assert points[2].reward == pytest.approx(alone.value, abs=alone.gap + points[2].gap)
    rises = np.diff([point.reward for point in points])
    assert (rises > 0).all()
    assert (np.diff(rises) < 0).all()  # the next unit of cost brings less


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_no_assignment_dominates_a_point_of_the_front(seed):
    rng = np.random.default_rng(seed)
    rewards_PM, costs_PM = rng.integers(0, 3, (5, 3)) / 2, rng.integers(0, 3, (5, 3)).astype(float)
    able_PM = np.ones((5, 3), dtype=bool)
    able_PM[0, :2] = False
    points = pareto_front(rewards_PM, costs_PM, 4, draws_for(rewards_PM), able_PM)
    everyone = np.arange(5)
    for teacher_P in product([2], *[range(3)] * 4):
        cost = costs_PM[everyone, teacher_P].sum()
        reward = rewards_PM[everyone, teacher_P].sum()
        for point in points:
            assert cost > point.cost or reward <= point.reward + point.gap + 1e-9
        for end in (points[0], points[-1]):
            assert not (cost <= end.cost and reward > end.reward)
            assert not (cost < end.cost and reward >= end.reward)


def test_a_front_needs_two_ends():
    with pytest.raises(ConfigError, match="1 points are too few"):
        pareto_front(np.ones((3, 2)), np.ones((1, 2)), 1, draws_for(np.ones((3, 2))))
