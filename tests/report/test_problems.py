"""Reasons why a part of a report is missing: short, of one line, and without secrets."""

import pytest

from persyn_ray.errors import DataError
from persyn_ray.report.problems import LONGEST, Problems, reason_of


def failing(error: Exception) -> str:
    problems = Problems()

    def make() -> str:
        raise error

    assert problems.attempt("part", make, "otherwise") == "otherwise"
    (reason,) = problems.reasons.values()
    return reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("Two words."), "Two words."),
        (KeyError("loss"), "the entry 'loss' is missing."),
        (FileNotFoundError(2, "No such file", "/a/b.json"), "/a/b.json is not there."),
        (FileNotFoundError("b.json"), "b.json is not there."),
        (ValueError("bad\n  value"), "ValueError: bad value"),
        (ZeroDivisionError(), "ZeroDivisionError:"),
    ],
)
def test_a_reason_is_one_line_that_a_user_can_read(error: Exception, reason: str) -> None:
    assert failing(error) == reason == reason_of(error)


def test_a_reason_that_quotes_a_whole_file_is_cut() -> None:
    reason = failing(ValueError("x" * 10_000))
    assert len(reason) < LONGEST + 5
    assert reason.endswith("…")


def test_a_reason_repeats_no_key() -> None:
    key = "sk-" + "a1B2c3D4" * 6
    assert key not in failing(RuntimeError(f"401 for Authorization: Bearer {key}"))


def test_what_works_leaves_no_reason_and_known_ones_stay() -> None:
    problems = Problems({"timing": "torn"})
    assert problems.attempt("router", lambda: 3, 0) == 3
    assert problems.reasons == {"timing": "torn"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_missing_part(error: type[BaseException]) -> None:
    def make() -> None:
        raise error

    with pytest.raises(error):
        Problems().attempt("part", make, None)
