"""Prompts per second of the router alone: whole batches in one process, no server.

    python -m endpoint_parts.bare WORKLOAD SECONDS THREADS TOKENS_PER_BATCH PROMPTS_AT_ONCE

Text to logits (`per_second`), and from token ids to logits (`forward_per_second`), in turns.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from endpoint_parts.judging import Workload
from endpoint_parts.preparing import chats
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.head import head_logits
from persyn_ray.models.router.model import encode_router_prompts, load_router, over_batches, pad_of

ROUNDS = 3


def rate(work: Callable[[], int], seconds: float) -> float:
    """Prompts per second."""
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        done += work()
    return done / spent


def main() -> None:
    path, seconds, threads, tokens, at_once = sys.argv[1:]
    torch.set_num_threads(int(threads))
    workload = Workload.load(Path(path))
    router, tokenizer = load_router(next(iter(workload.routers.values())))
    max_length = int(router.config.extra["max_length"])
    parts = [
        chats(workload.prompts[start : start + int(at_once)])
        for start in range(0, len(workload.prompts), int(at_once))
    ]
    ids = [encode_router_prompts(tokenizer, part, max_length) for part in parts]
    place = 0

    def whole() -> int:
        nonlocal place
        part = parts[place % len(parts)]
        features_PD = prompt_features(router, tokenizer, part, int(tokens), max_length)
        head_logits(router.head, features_PD)
        place += 1
        return len(part)

    def forward() -> int:
        nonlocal place
        part = ids[place % len(ids)]
        head_logits(
            router.head, over_batches(router, router.pooled, part, pad_of(tokenizer), int(tokens))
        )
        place += 1
        return len(part)

    for work in (whole, forward):
        work()
    share = float(seconds) / ROUNDS / 2
    turns = [(rate(whole, share), rate(forward, share)) for _ in range(ROUNDS)]
    best, best_forward = (sorted(one)[ROUNDS // 2] for one in zip(*turns, strict=True))
    print(json.dumps({"per_second": best, "forward_per_second": best_forward}))


if __name__ == "__main__":
    main()
