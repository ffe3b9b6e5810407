"""How fast, how exact and how lean is fine-tuning, beside TRL's SFTTrainer?

    python benchmarks/sft.py                   # all parts; writes benchmarks/results/sft.json
    python benchmarks/sft.py --part speed      # this one anew, the others as they are on file
    python benchmarks/sft.py --part speed --more    # one more round beside those on file
    python benchmarks/sft.py --quick           # a few examples, nothing written

- speed: SmolLM2-135M in float32 learns one epoch of recorded answers to GSM8K questions and
  AlpacaEval instructions (`sft_parts/speed.py`), one way after the other:
  - ours: packed, as `finetune.packing: true` does it, DeepSpeed and the chunked loss included;
    ours_padded: the same without packing;
  - trl: SFTTrainer as it comes: padded, in the order that it draws; trl_packed: with its own
    packing (`packing=True`); trl_in_our_order: padded, with the examples of our steps, whose
    lengths are about equal, so that hardly anything is padding. Losses are compared with this one.
- gradients: of the same examples, packed and padded, chunked and of all logits, and from float64.
- workers: one against two, and two that are killed (`sft_parts/workers.py`).
- kill: step finetune through `persyn run` with kill -9 of a worker, then of the run itself, beside
  an undisturbed one; and bytes on disk after so many checkpoints (`sft_parts/kill.py`).
- memory: of a worker's examples, and of logits.
- step: step finetune of the lab through the pipeline, beside the seconds inside train().

All of `speed` read the same token ids on the same cores, without gradient checkpointing. Figures
are ratios within one run, but for the MiB and the seconds of the step.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from publishing import ROOT, known_figures, measured, publish
from sft_parts import kill, speed, workers
from sft_parts.job import DATA, MODEL, SEED, Rows, in_process, ordered, recorded
from sft_parts.step import lab_step

PARTS = ("speed", "gradients", "workers", "kill", "memory", "step")
GOALS = {
    "over_unpacked": 1.5,
    "over_packed": 0.95,
    "max_loss_gap": 1e-3,
    "max_grad_gap": 1e-5,
    "workers_loss_gap": 1e-4,
    "seen_twice": 0,
    "never_seen": 0,
    "run_seen_twice": 0,
    "run_never_seen": 0,
    "mib_per_million_tokens": 20,
    "seconds_outside_train": 30,
}
SIZES = {  # full, quick
    "examples": (32, 8),
    "batch": (16, 4),
    "micro": (4, 2),
    "longest": (1024, 256),
}


def main() -> None:
    """The parts one after the other; what is done is written even if a later one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    parser.add_argument("--more", action="store_true", help="of speed, one more round")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded answers")
    options = parser.parse_args()
    is_quick: bool = options.quick
    sizes = {name: values[is_quick] for name, values in SIZES.items()}
    rows = ordered(recorded(options.data, sizes["examples"], sizes["longest"]), sizes["batch"])
    parts = {} if is_quick else known_figures("sft", PARTS)
    for part in options.part or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            known = parts.get("speed", {}) if options.more else {}
            measure = measures(rows, Path(scratch), sizes, is_quick, known)[part]
            parts[part] = measured(part, measure)
        publish(result_of(parts, sizes, is_quick), is_quick)


def measures(
    rows: Rows, scratch: Path, sizes: dict[str, int], is_quick: bool, known: dict[str, Any]
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What measures each part."""
    few = sorted(rows, key=lambda row: len(row[0]))[: 2 if is_quick else 8]
    run = partial(in_process, sys.executable, folder=scratch, num_threads=os.cpu_count() or 1)
    return {
        "speed": partial(speed.measure, rows, scratch, sizes, known),
        "gradients": partial(run, part="gradients", job={"model": MODEL, "rows": few}),
        "workers": partial(workers.measure, scratch),
        "kill": partial(kill.measure, scratch),
        "memory": partial(memory, run, is_quick),
        "step": partial(lab_step, scratch, 2 if is_quick else 20),
    }


def memory(run: Callable[..., Any], is_quick: bool) -> dict[str, Any]:
    """MiB of a million tokens that a worker maps, and of logits, whole and in chunks."""
    millions = 1 if is_quick else 8
    examples = run(part="memory", job={"what": "examples", "num_millions": millions})
    logits = {"what": "logits", "num_tokens": 128 if is_quick else 1024}
    return {
        "examples_mib_per_million": examples / millions,
        "logits_mib": {
            "all": run(part="memory", job=logits | {"logits_at_once": 0}),
            "chunked": run(part="memory", job=logits | {"logits_at_once": 64}),
        },
    }


def result_of(parts: dict[str, Any], sizes: dict[str, int], is_quick: bool) -> dict[str, Any]:
    """Everything in the form of all benchmarks."""
    versions = {name: version(name) for name in ("torch", "transformers", "deepspeed", "ray")}
    return {
        "name": "sft",
        "figures": summary(parts) | parts,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": versions | {"trl": trl_version()},
        "seed": SEED,
        "config": {"model": "SmolLM2-135M-Instruct, float32", **sizes, "quick": is_quick},
    }


def summary(parts: dict[str, Any]) -> dict[str, float]:
    """The figures that have goals, and some beside them; without those of parts that failed."""

    def over(ours: str, theirs: str) -> float:
        return of_speed(ours) / of_speed(theirs)

    def of_speed(way: str) -> float:
        return parts["speed"][way]["tokens_per_second"]

    def loss_gap() -> float:
        ours, theirs = (parts["speed"][way]["losses"] for way in ("ours", "trl_in_our_order"))
        return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))

    made: dict[str, Callable[[], float]] = {
        "over_unpacked": lambda: over("ours", "trl"),
        "over_unpacked_in_our_order": lambda: over("ours", "trl_in_our_order"),
        "over_packed": lambda: over("ours", "trl_packed"),
        "over_ours_padded": lambda: over("ours", "ours_padded"),
        "max_loss_gap": loss_gap,
        "max_grad_gap": lambda: parts["gradients"]["packed"]["largest"],
        "chunked_grad_gap": lambda: parts["gradients"]["chunked"]["largest"],
        "workers_loss_gap": lambda: parts["workers"]["max_loss_gap"],
        "seen_twice": lambda: parts["workers"]["seen_twice"],
        "never_seen": lambda: parts["workers"]["never_seen"],
        "run_seen_twice": lambda: parts["kill"]["seen_twice"],
        "run_never_seen": lambda: parts["kill"]["never_seen"],
        "mib_per_million_tokens": lambda: parts["memory"]["examples_mib_per_million"],
        "seconds_outside_train": lambda: parts["step"]["outside"],
    }
    return {name: found for name, make in made.items() if (found := _known(make)) is not None}


def _known(make: Callable[[], float]) -> float | None:
    try:
        return make()
    except KeyError:
        return None


def trl_version() -> str:
    """The version that TRL's environment is locked to."""
    locked = (ROOT / "requirements" / "exports" / "trl.in").read_text()
    return locked.split("trl==")[1].split()[0]


if __name__ == "__main__":
    main()
