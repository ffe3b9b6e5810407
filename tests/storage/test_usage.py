"""What an endpoint says that a request cost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.recipe.teachers import PriceConfig
from persyn_ray.storage.usage import MOST_TOKENS, Usage, billed

COUNTS = st.integers(1, MOST_TOKENS)


@given(prompt=COUNTS, response=st.integers(0, MOST_TOKENS))
def test_both_counts_are_what_is_billed(prompt: int, response: int) -> None:
    assert billed({"prompt_tokens": prompt, "completion_tokens": response}) == Usage(
        prompt, response
    )


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "7",
        {},
        {"prompt_tokens": 7},
        {"completion_tokens": 5},
        {"total_tokens": 12},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 7, "completion_tokens": None},
        {"prompt_tokens": 7, "completion_tokens": "5"},
        {"prompt_tokens": 7, "completion_tokens": -5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 7.0, "completion_tokens": 5},
        {"prompt_tokens": 10**20, "completion_tokens": 5},
    ],
)
def test_what_does_not_say_all_leaves_the_cost_unknown(usage: Any) -> None:
    assert billed(usage) is None


def test_tokens_that_only_the_total_shows_were_written() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 1012}  # hidden thinking
    assert billed(usage) == Usage(7, 1005)
    assert billed(usage | {"total_tokens": 3}) == Usage(7, 5)
    assert billed(usage | {"total_tokens": "many"}) == Usage(7, 5)


def test_dollars_are_by_the_million() -> None:
    assert Usage(10, 3).dollars(PriceConfig(prompt=1.0, response=10.0)) == pytest.approx(40e-6)
    assert Usage(10, 3).dollars(None) == 0.0
