"""Routes from logits: masks, prices, ties, and the draw when there are none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.messages import Wish
from persyn_ray.serving.routes import Policy, choose, fall_back, keys

NAMES = ("ada", "bert", "cleo")


def policy(**given):
    facts = {"masked": frozenset(), "prices": {}, "prior": {}} | given
    return Policy(NAMES, **facts)


def routes(logits_PM, candidates_M=(True, True, True), **given):
    prompt_keys = [str(n) for n in range(len(logits_PM))]
    able_M = np.array(candidates_M)
    return choose(policy(**given), prompt_keys, np.array(logits_PM), able_M, None, True)


def test_the_highest_score_wins_by_its_margin():
    (route,) = routes([[1.0, 3.0, 2.5]])
    assert (route.teacher, route.runner_up, route.margin) == ("bert", "cleo", 0.5)
    assert route.scores == {"ada": 1.0, "bert": 3.0, "cleo": 2.5}
    assert (route.is_novel, route.distance, route.fallback) == (None, None, None)


def test_pair_probabilities_are_those_of_bradley_terry():
    (route,) = routes([[0.0, math.log(3.0), -50.0]])
    pair = route.probabilities["bert"] / (route.probabilities["bert"] + route.probabilities["ada"])
    assert pair == pytest.approx(1 / (1 + math.exp(-route.margin)))
    assert sum(route.probabilities.values()) == pytest.approx(1.0)


def test_who_is_no_candidate_keeps_a_score_and_has_no_chance():
    (route,) = routes([[1.0, 9.0, 0.0]], (True, False, True))
    assert (route.teacher, route.runner_up, route.margin) == ("ada", "cleo", 1.0)
    assert route.scores["bert"] == 9.0
    assert route.probabilities["bert"] == 0.0


def test_a_single_candidate_has_no_runner_up():
    (route,) = routes([[1.0, 9.0, 0.0]], (False, False, True))
    assert (route.teacher, route.runner_up, route.margin) == ("cleo", None, None)


def test_ties_are_drawn_by_the_prompt_and_not_by_the_order_of_teachers():
    chosen = [route.teacher for route in routes([[0.0, 0.0, -1.0]] * 400)]
    assert 120 < chosen.count("ada") < 280
    assert chosen.count("cleo") == 0
    assert chosen == [route.teacher for route in routes([[0.0, 0.0, -1.0]] * 400)]


def test_a_price_takes_its_weight_off_the_logits():
    some = policy(prices={"ada": 10.0, "bert": 1.0, "cleo": 0.0})
    scores_PM = np.array([[5.0, 4.0, 1.0]]) - some.penalties(Wish(price_weight=0.5))
    assert scores_PM.tolist() == [[0.0, 3.5, 1.0]]


def test_without_a_price_a_price_weight_is_refused():
    with pytest.raises(Refusal, match=r"bert.*serving.prices"):
        policy(prices={"ada": 1.0, "cleo": 1.0}).penalties(Wish(price_weight=1.0))


def test_a_masked_teacher_needs_no_price():
    some = policy(prices={"ada": 1.0, "cleo": 1.0}, masked=frozenset({"bert"}))
    scores_PM = np.zeros((1, 3)) - some.penalties(Wish(price_weight=1.0))
    assert scores_PM[0].tolist() == [-1.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, [True, False, True]),
        ({"allowed": ["ada"]}, [True, False, False]),
        ({"excluded": ["ada"]}, [False, False, True]),
        ({"allowed": ["ada", "bert", "cleo"], "excluded": ["ada"]}, [False, False, True]),
    ],
)
def test_candidates_are_allowed_and_neither_excluded_nor_masked(wish, expected):
    assert policy(masked=frozenset({"bert"})).candidates(Wish(**wish)).tolist() == expected


@pytest.mark.parametrize("wish", [{"allowed": []}, {"allowed": ["bert"]}, {"excluded": [*NAMES]}])
def test_nobody_left_is_refused(wish):
    with pytest.raises(Refusal, match="No teacher is left"):
        policy(masked=frozenset({"bert"})).candidates(Wish(**wish))


@pytest.mark.parametrize("field", ["allowed", "excluded"])
def test_an_unknown_teacher_is_refused(field):
    with pytest.raises(Refusal, match=f"{field} names 'dora'"):
        policy().candidates(Wish(**{field: ["dora"]}))


def test_the_fallback_draws_by_the_prior_shares():
    some = policy(prior={"ada": 0.6, "bert": 0.1, "cleo": 0.3})
    names = [route.teacher for route in fall_back(some, keys_of(4000), np.ones(3, bool), "late")]
    shares = [names.count(name) / 4000 for name in NAMES]
    assert shares == pytest.approx([0.6, 0.1, 0.3], abs=0.03)


def test_the_fallback_is_the_same_for_the_same_prompt():
    some, able_M = policy(prior={"ada": 0.5, "bert": 0.5}), np.ones(3, bool)
    assert fall_back(some, keys_of(50), able_M, "late") == fall_back(
        some, keys_of(50), able_M, "late"
    )


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
)
def test_the_fallback_gives_candidates_alone_whatever_the_prior(prior, able):
    some = policy(prior=dict(zip(NAMES, prior, strict=True)))
    for route in fall_back(some, keys_of(20), np.array(able), "failed"):
        assert able[NAMES.index(route.teacher)]
        assert route.fallback == "failed"
        assert sum(route.probabilities.values()) == pytest.approx(1.0)


def keys_of(num):
    return keys([[{"role": "user", "content": str(n)}] for n in range(num)])
