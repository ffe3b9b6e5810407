"""Embeds the prompts of a probe with a frozen encoder: texts in, embeddings (N, D) out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from persyn_ray.models.chat import Message
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import build_router

TOKENS_PER_BATCH = 2048
MAX_LENGTH = 256


def embedded(texts: Sequence[str], encoder: str) -> NDArray[np.float64]:
    """The pooled state of a pretrained model for each text.

    Raises:
        ConfigError, DataError: the model cannot be loaded.
    """
    router = build_router(encoder, ["its head", "is not used"])
    prompts = [[Message(role="user", content=text)] for text in texts]
    features_ND = prompt_features(
        router, load_tokenizer(encoder), prompts, TOKENS_PER_BATCH, MAX_LENGTH
    )
    return features_ND.double().numpy()
