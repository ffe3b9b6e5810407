"""How many tokens a request asks for after an endpoint has said what fits."""

import pytest

from persyn_ray.engines.openai.context_overflow import Overflow
from persyn_ray.engines.openai.response_limit import MARGIN, MOST_SHRINKS, Fit, Fitting


def too_long(context: int | None = None, prompt: int | None = None, **more: int) -> Overflow:
    return Overflow("too long", context, prompt, **more)


def test_the_first_refusal_is_answered_with_what_fits_exactly() -> None:
    fit = Fit(1000)
    assert fit.shrink(too_long(context=1200, prompt=900))
    assert fit.limit == 300


def test_a_second_refusal_leaves_the_margin_and_a_third_is_final() -> None:
    fit, refused = Fit(1000), too_long(context=1200, prompt=900)
    assert MOST_SHRINKS == 2
    assert fit.shrink(refused)
    assert fit.shrink(refused)
    assert fit.limit == 300 - MARGIN
    assert not fit.shrink(refused)
    assert fit.limit == 300 - MARGIN


def test_a_server_that_says_more_fits_than_was_asked_for_is_not_believed() -> None:
    """Its count of the prompt is an estimate: what was refused cannot be asked for again."""
    fit = Fit(200)
    assert fit.shrink(too_long(context=1200, prompt=900))
    assert fit.limit == 200 - MARGIN


@pytest.mark.parametrize("limit", [None, 1000])
def test_nothing_is_asked_again_where_nothing_is_known(limit: int | None) -> None:
    fit = Fit(limit)
    assert not fit.shrink(too_long())
    assert fit.limit == limit


def test_a_request_without_a_limit_cannot_ask_for_less() -> None:
    assert not Fit(None).shrink(too_long(context=1200, prompt=900))
    assert not Fit(None).is_useless


def test_a_second_attempt_is_useless_where_it_can_be_no_longer_than_the_first() -> None:
    fitting = Fitting()
    first = fitting.begin("a", 1000, None)
    assert first.shrink(too_long(context=1200, prompt=900))
    fitting.was_cut("a", first)
    fitting.learn(too_long(context=1200, prompt=900))
    again = fitting.begin("a", 2000, 1000)
    assert not again.is_useless  # until the endpoint says what fits
    assert not again.shrink(too_long(context=1200, prompt=900))
    assert again.is_useless
    other = fitting.begin("b", 2000, 1000)
    assert other.floor == 1000  # nothing is known of its first attempt but what was asked for


def test_the_smallest_limit_that_an_endpoint_named_holds_for_all_prompts() -> None:
    fitting = Fitting()
    for most in (500, 800):
        fitting.learn(too_long(most=most))
    assert [fitting.begin("a", asked, None).limit for asked in (100, 1000, None)] == [
        100,
        500,
        None,
    ]


def test_only_a_prompt_that_cannot_fit_in_any_tokenizer_is_refused_unsent() -> None:
    assert Fitting().refuses(10**9) is None  # nobody has named a context
    fitting = Fitting(context=100)
    assert fitting.refuses(800) is None
    assert "801 bytes" in str(fitting.refuses(801))
    fitting.learn(too_long(context=50, prompt=60))
    assert "context of 50 tokens" in str(fitting.refuses(401))
    fitting.learn(too_long(context=5000, prompt=6000))  # another model behind the same address
    assert fitting.refuses(401) is not None
