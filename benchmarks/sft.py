"""How fast, how exact and how lean is fine-tuning, beside TRL's SFTTrainer?

    python benchmarks/sft.py            # writes benchmarks/results/sft.json; about 15 minutes
    python benchmarks/sft.py --quick    # a few examples, nothing written

SmolLM2-135M in float32 learns one epoch of recorded answers to GSM8K questions and AlpacaEval
instructions, one after the other by

- ours: packed, as `finetune.packing: true` does it, DeepSpeed and the chunked loss included;
- ours padded: the same without packing;
- trl: SFTTrainer, padded; trl packed: with its own packing (`packing=True`).

All read the same token ids in the same order, on the same cores, without gradient checkpointing.
Speed is response tokens over the seconds of train(); no loading is counted. Losses of each step are
compared with TRL's padded ones, which read the same examples in it.
"""

import argparse
import os
import platform
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from publishing import ROOT, measured, publish
from sft_parts.job import MODEL, SEED, Rows, in_process, ordered, recorded, response_tokens
from sft_parts.step import lab_step
from sft_parts.workers import one_and_two

sys.path.insert(0, str(ROOT / "tests" / "exports"))

GOALS = {
    "over_unpacked": 1.5,
    "over_packed": 0.95,
    "max_loss_gap": 1e-3,
    "max_grad_gap": 1e-5,
    "workers_loss_gap": 1e-4,
    "mib_per_million_tokens": 20,
    "seconds_outside_train": 30,
}
SIZES = {  # full, quick
    "examples": (48, 8),
    "batch": (16, 4),
    "micro": (4, 2),
    "longest": (1024, 256),
}
LEARNING_RATE = 1e-5


def main() -> None:
    """Everything, one thing at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    is_quick = parser.parse_args().quick
    sizes = {name: values[is_quick] for name, values in SIZES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        parts = measure(Path(scratch), sizes, is_quick)
    publish(
        {
            "name": "sft",
            "figures": summary(parts) | {"parts": parts},
            "goals": GOALS,
            "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
            "versions": {name: version(name) for name in ("torch", "transformers", "deepspeed")}
            | {"trl": trl_version()},
            "seed": SEED,
            "config": {"model": "SmolLM2-135M-Instruct, float32", **sizes, "quick": is_quick},
        },
        is_quick,
    )


def measure(scratch: Path, sizes: dict[str, int], is_quick: bool) -> dict[str, Any]:
    """Every part by itself; one that fails says why and stops no other."""
    rows = ordered(recorded(sizes["examples"], sizes["longest"]), sizes["batch"])
    few = sorted(rows, key=lambda row: len(row[0]))[: 2 if is_quick else 8]
    run = partial(in_process, sys.executable, folder=scratch, num_threads=os.cpu_count() or 1)
    logits = {"what": "logits", "num_tokens": 128 if is_quick else 1024}
    millions = 1 if is_quick else 8
    return {
        "speed": measured("speed", partial(speeds, rows, scratch, sizes)),
        "gradients": measured(
            "gradients", partial(run, part="gradients", job={"model": MODEL, "rows": few})
        ),
        "workers": measured("workers", partial(one_and_two, scratch)),
        "memory": measured(
            "memory",
            lambda: {
                "examples_mib_per_million": run(
                    part="memory", job={"what": "examples", "num_millions": millions}
                )
                / millions,
                "logits_mib": {
                    "all": run(part="memory", job=logits | {"logits_at_once": 0}),
                    "chunked": run(part="memory", job=logits | {"logits_at_once": 64}),
                },
            },
        ),
        "step": measured("step", partial(lab_step, scratch, 2 if is_quick else 20)),
    }


def speeds(rows: Rows, scratch: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Response tokens per second of every way, and their losses by step."""
    from tools import environment

    from persyn_ray.models.load import resolve

    threads = os.cpu_count() or 1
    trl, folder = environment("trl"), resolve(MODEL)
    found: dict[str, Any] = {}
    for name, packs in (("ours", True), ("ours padded", False)):
        job = {"model": MODEL, "rows": rows, "settings": our_settings(sizes, packs)}
        found[name] = in_process(sys.executable, "ours", job, scratch, threads)
    for name, packs in (("trl", False), ("trl packed", True)):
        job = {"folder": folder, "rows": rows, "settings": their_settings(sizes, packs)}
        found[name] = in_process(trl, "theirs", job, scratch, threads)
    tokens = response_tokens(rows)
    for name, of in found.items():
        of["tokens_per_second"] = tokens / of["seconds"]
        print(f"  {name}: {of['tokens_per_second']:.0f} tok/s", file=sys.stderr)
    lengths = [len(ids) for ids, _ in rows]
    return found | {"response_tokens": tokens, "mean_length": sum(lengths) / len(lengths)}


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
        "gradient_checkpointing": False,
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


def summary(parts: dict[str, Any]) -> dict[str, float | None]:
    """The figures that have goals; null where their part failed."""
    speed, memory = parts["speed"], parts["memory"]

    def rate(name: str) -> float:
        return speed[name]["tokens_per_second"]

    def of(make: Any) -> float | None:
        try:
            return make()
        except (KeyError, ValueError):
            return None

    return {
        "over_unpacked": of(lambda: rate("ours") / rate("trl")),
        "over_packed": of(lambda: rate("ours") / rate("trl packed")),
        "over_unpacked_without_packing": of(lambda: rate("ours padded") / rate("trl")),
        "max_loss_gap": of(
            lambda: max(
                abs(a - b)
                for a, b in zip(speed["ours"]["losses"], speed["trl"]["losses"], strict=True)
            )
        ),
        "max_grad_gap": of(lambda: max(parts["gradients"][k] for k in ("packed", "chunked"))),
        "workers_loss_gap": of(lambda: parts["workers"]["max_loss_gap"]),
        "mib_per_million_tokens": of(lambda: memory["examples_mib_per_million"]),
        "seconds_outside_train": of(lambda: parts["step"]["outside"]),
    }


def trl_version() -> str:
    """The version that TRL's environment is locked to."""
    locked = (ROOT / "requirements" / "exports" / "trl.in").read_text()
    return locked.split("trl==")[1].split()[0]


if __name__ == "__main__":
    main()
