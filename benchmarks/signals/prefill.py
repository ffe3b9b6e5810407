"""Features of a small student's prefill of the tables' prompts, for real_evidence.py.

    python benchmarks/signals/prefill.py [--minutes 60]   # goes on where the last call stopped

The student is SmolLM2-135M-Instruct in float32. Of a prompt, in its chat template, the last 96
tokens are read, and of the student its first 15 layers of 30: the state of the last token and the
mean over tokens behind layer 15 (persyn_ray/models/prefill.py). The last layer and the surprisal of
the prompt would take two and three times as long and are not read. Prompts are taken in the seeded
order of their table, so that what is there is a random part, however far this gets. The arrays are
as large as the tables; they lie in the cache folder of real_tables.py and are not committed.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_tables import (
    PREFILL_CHUNK,
    PREFILL_LAYER,
    PREFILL_TOKENS,
    STUDENT,
    prefill_path,
    table_of,
)
from sitting import ends_at

from persyn_ray.models.chat import Message
from persyn_ray.models.load import load_causal_lm, load_tokenizer
from persyn_ray.models.prefill import prefill_features, prompt_ids

TOKENS_PER_BATCH = 1024
STAGES = (
    ("reasoning_gym", 1000),
    ("faithful_cot", 800),
    ("mmlu_pro", 1000),
    ("crux", 800),
    ("reasoning_gym", 2000),
    ("mmlu_pro", 2500),
    ("reasoning_gym", 4200),
    ("mmlu_pro", 5500),
)
"""Tables and how many of their prompts are read before the next."""


def main() -> None:
    """Read prompts for some minutes, or until all are there."""
    ends = ends_at(__doc__)
    model, tokenizer = load_causal_lm(STUDENT), load_tokenizer(STUDENT)
    for name, most in STAGES:
        prompts = table_of(name, False).prompts[:most]
        for start in range(0, len(prompts), PREFILL_CHUNK):
            path = prefill_path(name, start)
            if path.exists():
                continue
            if time.monotonic() > ends:
                return
            began = time.perf_counter()
            some = prompts[start : start + PREFILL_CHUNK]
            messages = [[Message(role="user", content=prompt)] for prompt in some]
            rows = prompt_ids(tokenizer, messages, PREFILL_TOKENS)
            found_PF = prefill_features(model, rows, [PREFILL_LAYER], TOKENS_PER_BATCH)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path.with_suffix(".part.npy"), found_PF)
            path.with_suffix(".part.npy").replace(path)
            rate = sum(len(row) for row in rows) / (time.perf_counter() - began)
            print(f"{name}: {start + len(some)} prompts; {rate:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
