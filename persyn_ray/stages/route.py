"""Route: prompts in; one router logit per teacher out, and which teachers can take the prompt."""

from pathlib import Path

import pyarrow as pa

from persyn_ray.engines.build import build_engine
from persyn_ray.models.load import on_device
from persyn_ray.models.router import load_router, router_logits
from persyn_ray.pool import TeacherPool
from persyn_ray.schemas import PROMPTS, conform, logits_schema
from persyn_ray.stages.generate import requests_of
from persyn_ray.teachers import Teacher

TOKENS_PER_BATCH = 16384


class Route:
    """The router's logits for each prompt, in pool order (Eq. 3)."""

    reads = PROMPTS

    def __init__(self, router: Path, teachers: tuple[Teacher, ...], max_length: int) -> None:
        names = tuple(teacher.name for teacher in teachers)
        model, self.tokenizer = load_router(router, names)
        self.router = on_device(model)
        self.engines = [build_engine(teacher, TeacherPool(names)) for teacher in teachers]
        self.max_length = max_length
        self.writes = logits_schema(names)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        requests = requests_of(prompts)
        logits_PM = router_logits(
            self.router,
            self.tokenizer,
            [request.messages for request in requests],
            TOKENS_PER_BATCH,
            self.max_length,
        )
        candidates = [
            [engine.refuses(request) is None for engine in self.engines] for request in requests
        ]
        table = pa.Table.from_pylist(
            [
                {"prompt_id": request.prompt_id, "logits": logits.tolist(), "candidates": able}
                for request, logits, able in zip(requests, logits_PM, candidates, strict=True)
            ],
            schema=self.writes,
        )
        return conform(table, self.writes, "logits")
