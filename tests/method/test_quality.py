"""Several qualities as one: an independent writing, limits and invariances."""

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method.quality import weighted_quality
from persyn_ray.method.rewards import scale_within_prompt

RNG = np.random.default_rng(0)
PARTS_KPM = RNG.normal(size=(3, 20, 5)) * np.array([1.0, 50.0, 0.01])[:, None, None]


def test_the_mean_of_scaled_parts_by_hand() -> None:
    verdicts = [[1.0, 0.0, 1.0]]
    logits = [[-3.0, 1.0, -1.0]]  # scaled 0, 1, 1/2
    found = weighted_quality([verdicts, logits], [3.0, 1.0], "minmax")
    np.testing.assert_allclose(found, [[0.75, 0.25, 0.875]])


def test_equals_another_writing() -> None:
    weights = [0.5, 2.0, 1.5]
    found_PM = weighted_quality(PARTS_KPM, weights, "zscore")
    for p in range(20):
        for m in range(5):
            total = 0.0
            for part_PM, weight in zip(PARTS_KPM, weights, strict=True):
                row = part_PM[p]
                total += weight * (row[m] - row.mean()) / row.std()
            assert found_PM[p, m] == pytest.approx(total / 4.0)


def test_a_single_part_stays_raw_and_is_a_copy() -> None:
    values = np.array([[3.0, np.nan, -7.0]])
    found = weighted_quality([values], [5.0], "minmax")
    np.testing.assert_array_equal(found, values)
    found[0, 0] = 0.0
    assert values[0, 0] == 3.0


def test_a_part_of_hardly_any_weight_does_not_matter() -> None:
    found_PM = weighted_quality(PARTS_KPM, [1.0, 1e-15, 1e-15], "minmax")
    np.testing.assert_allclose(found_PM, scale_within_prompt(PARTS_KPM[0], "minmax"), atol=1e-12)


@pytest.mark.parametrize("scaling", ["minmax", "zscore", "rank", "none"])
def test_neither_the_order_of_parts_nor_the_size_of_all_weights_matters(scaling: str) -> None:
    weights = np.array([1.0, 2.0, 3.0])
    found_PM = weighted_quality(PARTS_KPM, weights, scaling)  # pyright: ignore[reportArgumentType]
    turned_PM = weighted_quality(PARTS_KPM[::-1], 7 * weights[::-1], scaling)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(found_PM, turned_PM)


def test_a_teacher_unknown_in_one_part_is_unknown_and_scales_nobody() -> None:
    first = [[0.0, 1.0, 9.0]]
    second = [[0.0, 1.0, np.nan]]
    found = weighted_quality([first, second], [1.0, 1.0], "minmax")
    np.testing.assert_array_equal(found, [[0.0, 1.0, np.nan]])


def test_parts_of_no_prompt_are_an_empty_quality() -> None:
    assert weighted_quality(np.empty((2, 0, 3)), [1.0, 1.0], "minmax").shape == (0, 3)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="one weight for each part"):
        weighted_quality(PARTS_KPM, [1.0], "minmax")
    with pytest.raises(DataError, match="one weight for each part"):
        weighted_quality(np.empty((0, 2, 2)), [], "minmax")
    with (
        pytest.raises(ConfigError, match=r"scoring\.quality\.parts"),
        advising("See scoring.quality.parts.", ConfigError),
    ):
        weighted_quality(PARTS_KPM, [1.0, 0.0, 1.0], "minmax")
    with pytest.raises(DataError, match="infinite"):
        weighted_quality([[[np.inf]], [[1.0]]], [1.0, 1.0], "minmax")
