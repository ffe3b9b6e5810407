"""Clusters of prompts by their embeddings: labels that stand in for tasks where there are none.

Spherical k-means from seeded starts; as many clusters as leave each about `PROMPTS_EACH` prompts.

Axes: P prompts, D embedding, K clusters.
"""

import numpy as np

from persyn_ray.method.cosine import Embeddings, unit_rows

PROMPTS_EACH = 25
MOST_CLUSTERS = 24
NUM_ROUNDS = 30


def cluster_labels(embeddings_PD: Embeddings, seed: int) -> tuple[str, ...]:
    """The cluster of each prompt, `cluster 0` and so on.

    Raises:
        DataError: an embedding has no direction or is not finite.
    """
    unit_PD = unit_rows(embeddings_PD, "Embeddings")
    num = int(np.clip(len(unit_PD) // PROMPTS_EACH, 2, MOST_CLUSTERS))
    starts = np.random.default_rng(seed).choice(len(unit_PD), num, replace=False)
    centres_KD = unit_PD[starts]
    nearest_P = (unit_PD @ centres_KD.T).argmax(axis=1)
    for _ in range(NUM_ROUNDS):
        member_KP = np.arange(num)[:, None] == nearest_P
        sums_KD = member_KP.astype(np.float64) @ unit_PD
        lengths_K1 = np.linalg.norm(sums_KD, axis=1, keepdims=True)
        centres_KD = np.where(lengths_K1 > 0, sums_KD / np.maximum(lengths_K1, 1e-12), centres_KD)
        last_P, nearest_P = nearest_P, (unit_PD @ centres_KD.T).argmax(axis=1)
        if (last_P == nearest_P).all():
            break
    return tuple(f"cluster {place}" for place in nearest_P)
