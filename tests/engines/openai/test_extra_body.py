"""Limits of responses by their many names."""

from typing import Any

import pytest

from persyn_ray.engines.openai.extra_body import largest_limit, limits_in, with_limit


@pytest.mark.parametrize(
    ("fields", "largest", "raised"),
    [
        ({}, None, {}),
        ({"max_tokens": None}, None, {"max_tokens": None}),
        ({"max_tokens": 5, "top_k": 3}, 5, {"max_tokens": 9, "top_k": 3}),
        (
            {"max_tokens": None, "max_completion_tokens": 5},
            5,
            {"max_tokens": None, "max_completion_tokens": 9},
        ),
        ({"max_output_tokens": 5, "max_tokens": 7}, 7, {"max_output_tokens": 9, "max_tokens": 9}),
        (
            {"options": {"num_predict": 5, "top_k": 3}},
            5,
            {"options": {"num_predict": 9, "top_k": 3}},
        ),
        (
            {"generationConfig": {"maxOutputTokens": 5}},
            5,
            {"generationConfig": {"maxOutputTokens": 9}},
        ),
        # These bound the thinking, not the response.
        ({"reasoning": {"max_tokens": 5}}, None, {"reasoning": {"max_tokens": 5}}),
        ({"thinking": {"budget_tokens": 5}}, None, {"thinking": {"budget_tokens": 5}}),
        ({"max_tokens": True, "options": None}, None, {"max_tokens": True, "options": None}),
        ({"max_tokens": "many"}, None, {"max_tokens": "many"}),
    ],
)
def test_a_limit_is_found_and_replaced_under_whatever_name(
    fields: dict[str, Any], largest: int | None, raised: dict[str, Any]
) -> None:
    before = repr(fields)
    assert largest_limit(fields) == largest
    assert with_limit(fields, 9) == raised
    assert repr(fields) == before


def test_a_limit_that_is_to_be_left_out_is_known_as_such() -> None:
    assert limits_in({"max_tokens": None, "n": 2}) == {("max_tokens",): None}
