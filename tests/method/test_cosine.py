"""Cosines between embeddings: against a plain formula, at the ends of floats, and refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.method import cosine
from persyn_ray.method.cosine import cosines, stretches, unit_rows


def drawn(num_rows: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_rows, width))


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_lengths_are_one_whatever_the_size(size: float) -> None:
    rows_PD = drawn(7)
    found = unit_rows(rows_PD * size, "Embeddings")
    expected = rows_PD / np.sqrt((rows_PD**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf, -np.inf])
def test_a_row_without_direction_is_named_by_its_place(broken: float) -> None:
    rows_PD = drawn(4)
    rows_PD[2] = broken
    with pytest.raises(DataError, match="Neighbours: row 2 is all zeros or not finite"):
        unit_rows(rows_PD, "Neighbours")


def test_one_value_that_is_not_finite_spoils_its_row() -> None:
    rows_PD = drawn(4)
    rows_PD[3, 1] = np.nan
    with pytest.raises(DataError, match="row 3"):
        unit_rows(rows_PD, "Neighbours")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (1, 2, 3)])
def test_what_is_no_table_of_rows_is_refused_by_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="need \\(prompts, dimensions\\)") as refused:
        unit_rows(np.ones(shape), "Neighbours")
    assert f"Neighbours have shape {shape}" in str(refused.value)


@pytest.mark.parametrize("chunk", [1, 9, 20, 10_000])
def test_stretches_together_give_every_cosine_once(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosine, "CHUNK", chunk)
    one_PD, other_ND = drawn(11, seed=1), drawn(4, seed=2)
    found = np.full((11, 4), np.nan)
    for rows, values_BN in cosines(one_PD.astype(np.float32), unit_rows(other_ND, "Neighbours")):
        assert np.isnan(found[rows]).all()
        found[rows] = values_BN
    lengths = np.outer(np.linalg.norm(one_PD, axis=1), np.linalg.norm(other_ND, axis=1))
    np.testing.assert_allclose(found, one_PD @ other_ND.T / lengths, atol=1e-6)


@given(st.integers(0, 30), st.integers(1, 3_000_000))
def test_stretches_lie_end_to_end_and_within_their_size(num_rows: int, row_size: int) -> None:
    rows_PD = np.zeros((num_rows, 1))
    covered = [row for rows in stretches(rows_PD, row_size) for row in range(num_rows)[rows]]
    assert covered == list(range(num_rows))
    for rows in stretches(rows_PD, row_size):
        length = rows.stop - rows.start
        assert length == 1 or length * row_size <= cosine.CHUNK


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,)])
def test_embeddings_of_another_width_name_both_widths(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"are 5 wide\. Both must come from the same backbone"):
        next(cosines(np.ones(shape), unit_rows(drawn(3), "Neighbours")))
