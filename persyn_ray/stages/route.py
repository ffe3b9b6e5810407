"""Route: prompts in; one router logit per teacher out, and which teachers can take the prompt.

A retired teacher has its logit still, and can take none. The same pass tells how far a prompt is
from those of the parallel set (method/novelty.py).
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from persyn_ray.engines.base import Request
from persyn_ray.engines.build import build_engine
from persyn_ray.method.arrays import Floats
from persyn_ray.method.novelty import Novelty
from persyn_ray.models.load import on_device
from persyn_ray.models.router.frozen import checked_logits, prompt_features
from persyn_ray.models.router.model import load_router
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import TeacherConfig, active_teachers
from persyn_ray.stages.generate import requests_of
from persyn_ray.storage.schemas import NOVELTY, PROMPTS, conform, logits_schema

TOKENS_PER_BATCH = 16384
NOVELTY_FILE = "novelty.npz"  # beside a router


class RoutePrompts:
    """The router's logits for each prompt, in pool order (Eq. 3)."""

    reads = PROMPTS

    def __init__(self, router: Path, teachers: tuple[TeacherConfig, ...], max_length: int) -> None:
        names = tuple(teacher.name for teacher in teachers)
        model, self.tokenizer = load_router(router, names)
        self.router = on_device(model)
        self.novelty = None
        if (router / NOVELTY_FILE).exists():
            self.novelty = Novelty.load(router / NOVELTY_FILE)
        active = active_teachers(teachers)
        # A retired teacher's model or endpoint may be gone: it gets no engine.
        self.engines = [
            build_engine(teacher, TeacherPool(names)) if teacher.name in active else None
            for teacher in teachers
        ]
        self.max_length = max_length
        self.writes = logits_schema(names)

    def __call__(self, prompts: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """LOGITS, and NOVELTY where the router came with what it takes."""
        requests = requests_of(prompts)
        conversations = [request.messages for request in requests]
        features_PD = prompt_features(
            self.router, self.tokenizer, conversations, TOKENS_PER_BATCH, self.max_length
        )
        tasks = prompts["task"].to_pylist()
        logits_PM = checked_logits(self.router, features_PD, tasks)
        return self._logits(requests, logits_PM), self._novelty(requests, features_PD)

    def _logits(self, requests: Sequence[Request], logits_PM: Floats) -> pa.Table:
        candidates = [
            [engine is not None and engine.refuses(request) is None for engine in self.engines]
            for request in requests
        ]
        table = pa.Table.from_pylist(
            [
                {"prompt_id": request.prompt_id, "logits": logits.tolist(), "candidates": able}
                for request, logits, able in zip(requests, logits_PM, candidates, strict=True)
            ],
            schema=self.writes,
        )
        return conform(table, self.writes, "logits")

    def _novelty(self, requests: Sequence[Request], features_PD: Tensor) -> pa.Table | None:
        if self.novelty is None:
            return None
        distance_P = self.novelty.distance(features_PD.float().numpy())
        columns = {
            "prompt_id": [request.prompt_id for request in requests],
            "distance": distance_P,
            "is_novel": distance_P > self.novelty.threshold,
        }
        return conform(pa.table(columns), NOVELTY, "novelty")
