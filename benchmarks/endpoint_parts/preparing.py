"""Two routers on a real small encoder, prompts, and what each router says of them.

    python -m endpoint_parts.preparing FOLDER NUM_PROMPTS [BACKBONE]

The backbone is MiniLM, or another by name, which gets the lab's problems.
Heads are drawn, not fitted: their weights decide no speed. Each is shifted by its mean over the
prompts, so that every teacher is chosen sometimes. Prompts are GSM8K questions and AlpacaEval
instructions in turns, from the tables that `real_signals.py` reads; where they are missing,
problems of the lab.

Axes: P prompts, M teachers, D hidden.
"""

import json
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from real_signals import COLUMNS, DATA, ENCODER, ENCODER_TOKENS, SEED

from endpoint_parts.judging import Workload
from persyn_ray.lab.tasks import generate
from persyn_ray.method.novelty import Novelty
from persyn_ray.models.chat import Message
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import (
    Router,
    build_router,
    encode_router_prompts,
    router_logits,
    save_router,
)
from persyn_ray.serving.router_model import RouterModel

TEACHERS = (
    "gpt-3-6b",
    "gpt-3-6b-verified",
    "gpt-3-175b",
    "gpt-3-175b-verified",
    "mixtral",
    "gpt-4",
)
HEADS = {"first": 1, "second": 2}
"""Seeds of the two routers' heads."""
NOVELTY_PROMPTS = 200


def texts(number: int) -> list[str]:
    """So many different prompts that the encoder reads whole; both sources in turns."""
    tables = [DATA / f"{name}_parallel.parquet" for name in COLUMNS]
    if not all(table.exists() for table in tables):
        return [problem.prompt for problem in generate(number, SEED)]
    sources = []
    for table, column in zip(tables, COLUMNS.values(), strict=True):
        found = list(dict.fromkeys(pq.read_table(table, columns=[column])[column].to_pylist()))
        random.Random(SEED).shuffle(found)
        sources.append(found)
    mixed = [text for pair in zip(*sources, strict=False) for text in pair]
    tokenizer = load_tokenizer(ENCODER)
    lengths = [len(row) for row in encode_router_prompts(tokenizer, chats(mixed), 10**6)]
    short = [text for text, num in zip(mixed, lengths, strict=True) if num <= ENCODER_TOKENS]
    return short[:number]


def chats(prompts: list[str]) -> list[list[Message]]:
    """Each prompt as a conversation."""
    return [[Message(role="user", content=prompt)] for prompt in prompts]


def with_head(router: Router, features_PD: torch.Tensor, seed: int) -> Router:
    """The router with a drawn head: logits with mean 0 and standard deviation 1 a teacher."""
    generator = torch.Generator().manual_seed(seed)
    weight_MD = torch.randn(router.head.weight.shape, generator=generator)
    logits_PM = features_PD @ weight_MD.T
    with torch.no_grad():
        router.head.weight.copy_(weight_MD / logits_PM.std(0)[:, None])
        router.head.bias.copy_(-(logits_PM / logits_PM.std(0)).mean(0))
    return router


def prepare(folder: Path, number: int, backbone: str) -> Workload:
    """Write the routers and `workload.json` into a folder."""
    problems = [problem.prompt for problem in generate(number, SEED)]
    prompts = texts(number) if backbone == ENCODER else problems
    tokenizer, router = load_tokenizer(backbone), build_router(backbone, TEACHERS)
    features_PD = prompt_features(router, tokenizer, chats(prompts), max_length=ENCODER_TOKENS)
    novelty = Novelty.fit(features_PD[:NOVELTY_PROMPTS].double().numpy())
    tokens = [len(row) for row in encode_router_prompts(tokenizer, chats(prompts), ENCODER_TOKENS)]
    routers: dict[str, str] = {}
    scores: dict[str, list[list[float]]] = {}
    for name, seed in HEADS.items():
        path = folder / name
        router = with_head(router, features_PD, seed)
        prior = dict.fromkeys(TEACHERS, 1 / len(TEACHERS))
        save_router(router, tokenizer, path, {"max_length": ENCODER_TOKENS, "prior": prior})
        novelty.save(path / "novelty.npz")
        logits_PM = router_logits(router, tokenizer, chats(prompts), max_length=ENCODER_TOKENS)
        routers[name] = str(path)
        scores[RouterModel(str(path)).version] = logits_PM.tolist()
    return Workload(prompts, tokens, list(TEACHERS), routers, scores)


def facts(workload: Workload, backbone: str) -> dict[str, Any]:
    """What a result says of its prompts."""
    tokens = np.array(workload.tokens)
    quantiles = np.quantile(tokens, (0.5, 0.95)).round().astype(int).tolist()
    has_data = backbone == ENCODER and all(
        (DATA / f"{name}_parallel.parquet").exists() for name in COLUMNS
    )
    return {
        "backbone": backbone,
        "teachers": len(workload.teachers),
        "prompts": len(workload.prompts),
        "prompts_from": "GSM8K and AlpacaEval, half each" if has_data else "the lab",
        "tokens_of_a_prompt": {
            "mean": round(float(tokens.mean()), 1),
            "median": quantiles[0],
            "p95": quantiles[1],
            "max": int(tokens.max()),
        },
    }


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    backbone = sys.argv[3] if len(sys.argv) > 3 else ENCODER
    workload = prepare(folder, int(sys.argv[2]), backbone)
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    print(json.dumps(facts(workload, backbone)))


if __name__ == "__main__":
    main()
