"""Novelty: another cluster is flagged, the same cluster at the rate asked for."""

from pathlib import Path

import numpy as np
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method import cosine
from persyn_ray.method.novelty import Novelty

WIDTH = 16


def cluster(centre: int, num: int, seed: int, spread: float = 0.2) -> np.ndarray:
    """Embeddings about one axis."""
    rng = np.random.default_rng((seed, centre))
    return np.eye(WIDTH)[centre] + spread * rng.normal(size=(num, WIDTH))


@pytest.fixture(scope="module")
def two_clusters() -> np.ndarray:
    return np.vstack([cluster(0, 700, seed=0), cluster(1, 300, seed=0)])


def test_another_cluster_is_novel_and_the_same_is_not(two_clusters: np.ndarray):
    novelty = Novelty.fit(two_clusters)
    assert novelty.is_novel(cluster(2, 4000, seed=1)).mean() > 0.95
    same_PD = np.vstack([cluster(0, 7000, seed=1), cluster(1, 3000, seed=1)])
    assert novelty.is_novel(same_PD).mean() == pytest.approx(0.01, abs=0.008)
    at_ten = Novelty.fit(two_clusters, quantile=0.9)
    assert at_ten.is_novel(same_PD).mean() == pytest.approx(0.1, abs=0.03)


def test_the_distance_is_to_the_kth_nearest(two_clusters: np.ndarray):
    parallel_ND, prompts_PD = two_clusters[::20], cluster(1, 10, seed=2)
    for k in (1, 4):
        found_P = Novelty.fit(parallel_ND, k).distance(prompts_PD)
        for prompt, found in zip(prompts_PD, found_P, strict=True):
            gaps = [
                1 - e @ prompt / np.linalg.norm(e) / np.linalg.norm(prompt) for e in parallel_ND
            ]
            assert found == pytest.approx(sorted(gaps)[k - 1], abs=1e-6)


def test_the_threshold_is_a_quantile_of_distances_to_the_others(two_clusters: np.ndarray):
    parallel_ND = two_clusters[::20]
    found = Novelty.fit(parallel_ND, k=3, quantile=0.8)
    others = [
        Novelty.fit(np.delete(parallel_ND, n, axis=0), k=3).distance(parallel_ND[n : n + 1])[0]
        for n in range(len(parallel_ND))
    ]
    assert found.threshold == pytest.approx(np.quantile(others, 0.8, method="higher"), abs=1e-6)


def test_a_single_odd_prompt_vouches_for_nobody(two_clusters: np.ndarray):
    with_stray = np.vstack([two_clusters, cluster(5, 1, seed=0)])
    near_stray = cluster(5, 200, seed=3)
    assert Novelty.fit(with_stray).is_novel(near_stray).mean() > 0.95


def test_neither_order_nor_length_nor_stretches_matter(
    two_clusters: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    prompts_PD = np.vstack([cluster(0, 50, seed=4), cluster(3, 50, seed=4)])
    first = Novelty.fit(two_clusters).distance(prompts_PD)
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(two_clusters) * rng.uniform(0.1, 9, (len(two_clusters), 1))
    monkeypatch.setattr(cosine, "CHUNK", 3 * len(two_clusters))
    other = Novelty.fit(shuffled)
    np.testing.assert_allclose(other.distance(prompts_PD * 1e-200), first, atol=1e-6)
    assert other.threshold == pytest.approx(Novelty.fit(two_clusters).threshold, abs=1e-6)


def test_single_precision_is_enough(two_clusters: np.ndarray):
    prompts_PD = cluster(0, 100, seed=5)
    whole = Novelty.fit(two_clusters).distance(prompts_PD)
    half = Novelty.fit(two_clusters.astype(np.float32)).distance(prompts_PD.astype(np.float32))
    np.testing.assert_allclose(half, whole, atol=1e-6)


def test_a_loaded_copy_decides_the_same(two_clusters: np.ndarray, tmp_path: Path):
    novelty, prompts_PD = Novelty.fit(two_clusters, k=2), cluster(0, 100, seed=6)
    path = tmp_path / "novelty.npz"
    novelty.save(path)
    novelty.save(path)
    again = Novelty.load(path)
    np.testing.assert_array_equal(again.distance(prompts_PD), novelty.distance(prompts_PD))
    assert (again.k, again.threshold) == (2, novelty.threshold)
    assert [file.name for file in tmp_path.iterdir()] == ["novelty.npz"]
    assert path.stat().st_size < 4 * two_clusters.size + 2000


def test_what_cannot_be_is_refused(two_clusters: np.ndarray, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"quantile is 1\.0"):
        Novelty.fit(two_clusters, quantile=1.0)
    with pytest.raises(ConfigError, match="from 1 to 3"):
        Novelty.fit(two_clusters[:4], k=4)
    with pytest.raises(DataError, match="row 2 is all zeros or not finite"):
        Novelty.fit(np.where(np.arange(9)[:, None] == 2, np.nan, two_clusters[:9]))
    with pytest.raises(DataError, match="same backbone"):
        Novelty.fit(two_clusters).distance(two_clusters[:, 1:])
    with pytest.raises(ConfigError, match="No novelty file"):
        Novelty.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no numbers")
    with pytest.raises(DataError, match="no novelty file"):
        Novelty.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", unit=np.eye(2))
    with pytest.raises(DataError, match="no novelty file"):
        Novelty.load(tmp_path / "other.npz")
