"""Embeds prompts with the router's pretrained (not fine-tuned) backbone.

Baselines that look at neighbours or fit a plain linear map learn from these.
"""

import pyarrow as pa

from persyn_ray.models.load import load_tokenizer, on_device
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import build_router
from persyn_ray.recipe.router import RouterConfig as RouterSettings
from persyn_ray.stages.generate import requests_of
from persyn_ray.stages.route import TOKENS_PER_BATCH
from persyn_ray.storage.schemas import PROMPTS, conform, embeddings_schema


class Embed:
    """The pooled state of the pretrained backbone for each prompt."""

    reads = PROMPTS

    def __init__(self, settings: RouterSettings, teachers: tuple[str, ...]) -> None:
        backbone = settings.backbone
        self.tokenizer = load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
        self.router = on_device(
            build_router(
                backbone.name,
                teachers,
                settings.pooling,
                backbone.dtype,
                revision=backbone.revision,
            )
        )
        self.max_length = settings.max_length
        self.writes = embeddings_schema(self.router.head.in_features)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        requests = requests_of(prompts)
        conversations = [request.messages for request in requests]
        features_PD = prompt_features(
            self.router, self.tokenizer, conversations, TOKENS_PER_BATCH, self.max_length
        )
        rows = [
            {"prompt_id": request.prompt_id, "embedding": features_D.tolist()}
            for request, features_D in zip(requests, features_PD.float().numpy(), strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=self.writes)
        return conform(table, self.writes, "embeddings")
