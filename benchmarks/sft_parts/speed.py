"""Speed and losses of our fine-tuning and of TRL's on the same examples: every way in turn, in
rounds.

Each way is a process of its own. Seconds are those from the start of training to the end of its
last step, taken by the same callback on either side, so that neither loading nor the last
checkpoint counts; of a way's rounds the fastest one. Every second round goes backwards: a machine
that slows down in a round slows down all ways alike.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sft_parts.job import MODEL, ROOT, SEED, Rows, in_process, response_tokens

sys.path.insert(0, str(ROOT / "tests" / "exports"))

LEARNING_RATE = 1e-5
Way = Callable[[], dict[str, Any]]


def measure(
    rows: Rows, scratch: Path, sizes: dict[str, int], known: dict[str, Any]
) -> dict[str, Any]:
    """Response tokens per second of every way, and their losses by step.

    Args:
        known: earlier rounds on the same rows, which this one is added to.
    """
    tokens, lengths = response_tokens(rows), [len(ids) for ids, _ in rows]
    facts = {"response_tokens": tokens, "tokens": sum(lengths), "longest": max(lengths)}
    if known and any(known[name] != value for name, value in facts.items()):
        raise ValueError("the rounds on file read other examples")
    rounds: int = known.get("rounds", 0)
    found: dict[str, Any] = {}
    in_turn = list(ways(rows, scratch, sizes).items())
    for name, way in reversed(in_turn) if rounds % 2 else in_turn:
        said = way()
        print(f"  {name}: {tokens / said['seconds']:.0f} tok/s", file=sys.stderr, flush=True)
        seconds = [*known.get(name, {}).get("rounds", ()), round(said.pop("seconds"), 2)]
        found[name] = said | {"rounds": seconds, "tokens_per_second": tokens / min(seconds)}
    return found | facts | {"rounds": rounds + 1}


def ways(rows: Rows, scratch: Path, sizes: dict[str, int]) -> dict[str, Way]:
    """All ways to train on the same rows, by name."""
    from tools import environment

    from persyn_ray.models.load import resolve

    threads, trl, folder = os.cpu_count() or 1, environment("trl"), resolve(MODEL)

    def ours(packs: bool) -> Way:
        job = {"model": MODEL, "rows": rows, "settings": our_settings(sizes, packs)}
        return partial(in_process, sys.executable, "ours", job, scratch, threads)

    def theirs(packs: bool, in_our_order: bool) -> Way:
        job = {"folder": folder, "rows": rows, "settings": their_settings(sizes, packs)}
        job |= {"in_our_order": in_our_order}
        return partial(in_process, trl, "theirs", job, scratch, threads)

    return {
        "ours": ours(packs=True),
        "ours_padded": ours(packs=False),
        "trl": theirs(packs=False, in_our_order=False),
        "trl_in_our_order": theirs(packs=False, in_our_order=True),
        "trl_packed": theirs(packs=True, in_our_order=False),
    }


def our_settings(sizes: dict[str, int], packs: bool) -> dict[str, Any]:
    return {
        "epochs": 1,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "batch_size": sizes["batch"],
        "micro_batch_size": sizes["micro"],
        "max_length": sizes["longest"],
        "packing": packs,
        "save_steps": 10_000,
        "arguments": {"logging_steps": 1},
        "seed": SEED,
    }


def their_settings(sizes: dict[str, int], packs: bool) -> dict[str, Any]:
    """The same; a pack of theirs holds about as many examples as a micro-batch of ours."""
    return {
        "output_dir": "theirs",
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "per_device_train_batch_size": 1 if packs else sizes["micro"],
        "gradient_accumulation_steps": sizes["batch"] // sizes["micro"],
        "activation_checkpointing": False,
        "max_length": sizes["longest"],
        "packing": packs,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "seed": SEED,
    }
