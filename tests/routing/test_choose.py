"""Teachers of a table's rows: best logit, limits kept, masks, and equals drawn by seed."""

import numpy as np
import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.routing.choose import Rule, choose, choose_within
from persyn_ray.routing.limits import limits_of

NAMES = ("a", "b", "c")
IDS = [f"p{number}" for number in range(60)]
LOGITS = np.random.default_rng(0).normal((1.0, 0.0, -1.0), size=(60, 3))


def test_without_limits_the_best_logit_wins_and_unread_rows_get_nobody() -> None:
    logits_PM = LOGITS.copy()
    logits_PM[7] = np.nan
    chosen = choose(Rule(NAMES), IDS, logits_PM)
    for row, (teacher, margin) in enumerate(zip(chosen.teacher_P, chosen.margin_P, strict=True)):
        if row == 7:
            assert teacher == -1
            assert np.isnan(margin)
            continue
        ordered = np.sort(logits_PM[row])
        assert logits_PM[row, teacher] == ordered[-1]
        assert margin == pytest.approx(ordered[-1] - ordered[-2])


def test_a_masked_teacher_gets_nothing() -> None:
    chosen = choose(Rule(NAMES, masked=("a",)), IDS, LOGITS)
    assert set(chosen.teacher_P) == {1, 2}


@pytest.mark.parametrize("is_reward", [True, False])
def test_capacities_and_shares_are_kept_by_moving_the_cheapest(is_reward: bool) -> None:
    limits = limits_of(["a=15"], 0.2)
    chosen = choose_within(Rule(NAMES, limits=limits, is_reward=is_reward), IDS, LOGITS)
    counts = np.bincount(chosen.teacher_P, minlength=3)
    assert counts[0] <= 15
    assert counts.min() >= 12
    free = choose(Rule(NAMES), IDS, LOGITS)
    moved = chosen.teacher_P != free.teacher_P
    assert (chosen.margin_P[moved] < 0).all()
    assert chosen.margin_P[~moved] == pytest.approx(free.margin_P[~moved])
    # No two rows would gain by changing places.
    values_PM = LOGITS if is_reward else Rule(NAMES).values(LOGITS)
    own = values_PM[np.arange(60), chosen.teacher_P]
    for row in range(60):
        swapped = values_PM[row, chosen.teacher_P] + values_PM[:, chosen.teacher_P[row]]
        assert (swapped - own[row] - own <= 1e-6).all()


def test_limits_that_bind_nothing_change_nothing() -> None:
    rule = Rule(NAMES, limits=limits_of(["a=1000"], None))
    assert (choose_within(rule, IDS, LOGITS).teacher_P == choose(rule, IDS, LOGITS).teacher_P).all()


def test_equals_are_drawn_by_seed_and_repeated_rows_alike() -> None:
    same_PM = np.zeros((60, 3))
    first, again = (choose(Rule(NAMES, seed=3), IDS, same_PM).teacher_P for _ in range(2))
    assert (first == again).all()
    assert set(first) == {0, 1, 2}
    assert (first != choose(Rule(NAMES, seed=4), IDS, same_PM).teacher_P).any()
    twice = choose(Rule(NAMES, seed=3), ["p1", "p1"], same_PM[:2]).teacher_P
    assert twice[0] == twice[1] == first[1]


def test_what_cannot_be_is_refused_by_option() -> None:
    with pytest.raises(ConfigError, match=r"'d'.*--capacity"):
        Rule(NAMES, limits=AssignmentConfig(capacity={"d": 1}))  # pyright: ignore
    with pytest.raises(ConfigError, match=r"at most 0\.3333"):
        Rule(NAMES, limits=limits_of((), 0.4))
    with pytest.raises(ConfigError, match="no teacher"):
        Rule(NAMES, masked=("d",))
    with pytest.raises(ConfigError, match="Every teacher"):
        Rule(NAMES, masked=NAMES)
    with pytest.raises(ConfigError, match="TEACHER=N"):
        limits_of(["a=-1"], None)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        limits_of((), 1.5)
    with pytest.raises(ConfigError, match="--capacity"):
        choose_within(Rule(NAMES, limits=limits_of(["a=1", "b=1", "c=1"], None)), IDS, LOGITS)
