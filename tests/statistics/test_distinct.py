"""Distinct-n: 1 where nothing comes twice, less the more is repeated."""

from persyn_ray.statistics.distinct import distinct_n


def test_different_words_over_all() -> None:
    texts = [["a", "b", "a"], ["b", "c"]]
    assert distinct_n(texts, 1) == 3 / 5
    assert distinct_n(texts, 2) == 3 / 3
    assert distinct_n([["a", "b", "a", "b", "a"]], 2) == 2 / 4


def test_an_endless_repetition_is_close_to_nothing() -> None:
    found = distinct_n([["so"] * 1000], 2)
    assert found is not None
    assert found < 0.002


def test_texts_without_such_a_stretch_have_none() -> None:
    assert distinct_n([], 1) is None
    assert distinct_n([["alone"]], 2) is None
