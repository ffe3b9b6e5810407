"""A pool keeps its size, or lies between two bounds; never both. Training workers likewise."""

from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.recipe.resources import StepResourcesConfig, TrainResourcesConfig


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({}, (1, 1)),
        ({"actors": 3}, (3, 3)),
        ({"min": 2, "max": 8}, (2, 8)),
        ({"max": 8}, (1, 8)),
        ({"min": 1, "max": 1}, (1, 1)),
    ],
)
def test_the_bounds_of_a_pool(given: dict[str, Any], bounds: tuple[int, int]) -> None:
    made = StepResourcesConfig(**given)
    assert (made.fewest, made.most) == bounds
    assert StepResourcesConfig(**made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"min": 2}, "min is 2 without a max"),
        ({"actors": 3, "max": 4}, "actors is 3 beside max 4"),
        ({"min": 3, "max": 2}, "min is 3 and max is 2"),
        ({"min": 0, "max": 2}, "greater than or equal to 1"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        StepResourcesConfig(**given)


@pytest.mark.parametrize(
    ("given", "bounds"), [(3, (3, 3)), ([2, 8], (2, 8)), ((1, 2), (1, 2)), ([4, 4], (4, 4))]
)
def test_the_bounds_of_training_workers(given: Any, bounds: tuple[int, int]) -> None:
    made = TrainResourcesConfig.model_validate({"workers": given})
    assert (made.fewest, made.most) == bounds
    assert made.is_elastic == (bounds[0] < bounds[1])
    assert TrainResourcesConfig(**made.model_dump(mode="json")) == made


@pytest.mark.parametrize("given", [0, -1, "2", 1.5, True, [1], [1, 2, 3], [0, 2], [1, "2"], None])
def test_what_is_no_number_of_workers(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"a number from 1 on, or \[fewest, most\]"):
        TrainResourcesConfig.model_validate({"workers": given})


def test_the_fewest_workers_are_not_more_than_the_most() -> None:
    with pytest.raises(ValidationError, match="the fewest, 8, are more than the most, 2"):
        TrainResourcesConfig.model_validate({"workers": [8, 2]})


def test_trainings_of_a_changing_size_are_not_side_by_side() -> None:
    with pytest.raises(ValidationError, match=r"side_by_side is 2 and workers is \[1, 4\]"):
        TrainResourcesConfig.model_validate({"workers": [1, 4], "side_by_side": 2})
