import pytest

from persyn_ray.report import numbers

PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.count(1234), "1,234"),
        (numbers.count(None), "-"),
        (numbers.count(-0.4), "0"),
        (numbers.count(-1234.4), "-1,234"),
        (numbers.compact(-0.2), "0"),
        (numbers.compact(-12_345), "-12.3 k"),
        (numbers.rate(99.94), "99.9"),
        (numbers.seconds(59.5), "1 min 0 s"),
        (numbers.seconds(3599.6), "1 h 0 min"),
        (numbers.percent(-0.0001), "0.0 %"),
        (numbers.compact(1_629_401), "1.63 M"),
        (numbers.compact(439_662), "440 k"),
        (numbers.compact(999_999), "1000 k"),
        (numbers.compact(1234), "1,234"),
        (numbers.compact(0), "0"),
        (numbers.fine(652_500), "652.5 k"),
        (numbers.fine(7010.5), "7,010.5"),
        (numbers.fine(-0.25), "-0.25"),
        (numbers.number(0.8), "0.80"),
        (numbers.number(-5.8), "-5.80"),
        (numbers.number(-0.001), "0.00"),
        (numbers.number(None), "-"),
        (numbers.signed(0.123), "+0.12"),
        (numbers.signed(-0.123), "-0.12"),
        (numbers.signed(0.001), "0.00"),
        (numbers.rate(8955.2), "8,955"),
        (numbers.rate(18.04), "18.0"),
        (numbers.percent(0.385), "38 %"),
        (numbers.percent(0.0521), "5.2 %"),
        (numbers.percent(0), "0 %"),
        (numbers.percent(1), "100 %"),
        (numbers.interval({"low": 0.75, "high": 0.814}), "0.75-0.81"),
        (numbers.interval({"low": -0.042, "high": 0.01}), "-0.04 to 0.01"),
        (numbers.interval({"low": None, "high": 0.01}), "-"),
        (numbers.interval(None), "-"),
        (numbers.estimate({"value": 0.5, "low": 0.4, "high": 0.6}), "0.50 (0.40-0.60)"),
        (numbers.estimate({"value": 0.5, "low": None, "high": None}), "0.50"),
        (numbers.seconds(1.44), "1.4 s"),
        (numbers.seconds(58.3), "58 s"),
        (numbers.seconds(59.7), "1 min 0 s"),
        (numbers.seconds(200), "3 min 20 s"),
        (numbers.seconds(7500), "2 h 5 min"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written.translate(PLAIN) == expected
