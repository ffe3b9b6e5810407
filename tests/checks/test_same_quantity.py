"""Whether two written numbers say one quantity: units, shares, clocks and cut decimals."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.checks.answer_numbers import Quantity, quantity_of
from persyn_ray.checks.same_quantity import same_quantity


def of(text: str) -> Quantity:
    found = quantity_of(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("72 clips", "72"),
        ("72", "72 clips"),
        ("72 clip", "72 clips"),
        ("$5", "5"),
        ("5 km", "5"),
        ("50%", "0.5"),
        ("0.5", "50%"),
        ("50", "50%"),
        ("0.333333", "0.3333333"),
        ("0.3", "0.30000000000000004"),
        ("0.1", "0.10000000149011612"),
    ],
)
def test_what_says_the_same(answer: str, gold: str) -> None:
    assert same_quantity(of(answer), of(gold))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("72 clips", "72 pages"),
        ("5 km", "5 kg"),
        ("5", "6"),
        ("0.5%", "50%"),
        ("0.50", "50"),
        ("0.33", "0.3333333"),
        ("0.1", "0.11"),
        ("-5", "5"),
    ],
)
def test_what_does_not(answer: str, gold: str) -> None:
    assert not same_quantity(of(answer), of(gold))


def clock(hours: Fraction, half: str = "") -> Quantity:
    return Quantity(hours, unit=half, is_clock=True)


def test_a_time_without_its_half_of_the_day_may_be_either() -> None:
    evening = clock(Fraction(35, 2), "pm")
    assert same_quantity(clock(Fraction(11, 2)), evening)
    assert same_quantity(evening, clock(Fraction(11, 2)))
    assert not same_quantity(clock(Fraction(11, 2), "am"), evening)
    assert not same_quantity(Quantity(Fraction(11, 2), places=1, figures=2), evening)


values = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000)
quantities = st.builds(
    Quantity, values, unit=st.sampled_from(["", "%", "km"]), noun=st.sampled_from(["", "clips"])
)


@given(quantities)
def test_every_quantity_is_itself(quantity: Quantity) -> None:
    assert same_quantity(quantity, quantity)


@given(values, values, st.sampled_from(["", "km"]))
def test_numbers_that_were_not_cut_are_equal_or_differ(
    one: Fraction, other: Fraction, unit: str
) -> None:
    assert same_quantity(Quantity(one, unit=unit), Quantity(other)) == (one == other)


@given(st.floats(-1e30, 1e30).map(Fraction), st.integers(1, 10**40))
def test_numbers_too_large_for_a_single_float_are_compared_all_the_same(
    one: Fraction, more: int
) -> None:
    gold = Quantity(one, places=3, figures=12)
    assert not same_quantity(Quantity(abs(one) + 10**31 + more), gold)
