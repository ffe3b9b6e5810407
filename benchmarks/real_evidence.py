"""Does routing pay on real tables? Routers without a fitted network, their rules, and `screen`.

    python benchmarks/real_evidence.py [--quick] [--parts rewards prefill screening transfer ...]

Public tables of parallel responses (real_tables.py). Prompts are split ten times by hash into a
parallel set and held-out prompts, and nothing is chosen on the latter: k, penalties, weights and
the kind that `auto` takes are chosen by cross-validation on the parallel set. Signals are
correctness, and where learnability is on file the reward of Eq. 2 at alpha 0.4. Intervals resample
splits and prompts together. On the two large tables predictors go by task labels alone.

- rewards_TABLE: constant, per_task, knn, linear, stacked (method/predictors/fit.py) and auto
  (choose.py beside it); shares of variance, learning curve, allocation, which signal moves what;
- signals_TABLE: the same on prompts whose learnability signals/score.py has put on file;
- prefill: features of the student's prefill of the prompt against k-NN (real_parts/prefill.py);
- statistics: statistics of the prompt's text beside its task (real_parts/statistics.py);
- screening: `persyn screen` on probes of 200 and 1,000 prompts of fourteen pools, against what
  routing gains on the other prompts (real_parts/screening.py);
- transfer: fitted on some data sets or subjects, used on others (real_parts/transfer.py);
- sizes: size of a teacher against how learnable its responses are (real_parts/sizes.py);
- embedded_TABLE: all kinds with embeddings on part of mmlu_pro and reasoning_gym.

A part that is not asked for keeps the figures of its last run. Axes: P prompts, M teachers.
"""

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from publishing import known_figures, measured, publish
from real_parts.judging import (
    ALPHA,
    SEED,
    allocation,
    judged,
    learning_curve,
    moved_by_signal,
    rewards_of,
)
from real_parts.prefill import part_prefill
from real_parts.screening import EMBEDDED, PROBES, WORTH, part_screening
from real_parts.sizes import part_sizes
from real_parts.statistics import part_statistics
from real_parts.transfer import part_transfer
from real_tables import (
    ENCODER,
    ENCODER_TOKENS,
    PREFILL_LAYER,
    PREFILL_TOKENS,
    STUDENT,
    TABLES,
    Table,
    signalled,
    table_of,
)

from persyn_ray.method.predictors.effects import variance_shares

NUM_FIT = {"mmlu_pro": 2500, "reasoning_gym": 2200, "faithful_cot": 500, "crux": 500}
NUM_EMBEDDED = {"mmlu_pro": 2500, "reasoning_gym": 2000}
"""Prompts of the large tables that are embedded; half of them to fit on."""
FEWEST_SIGNALLED = 200
"""Prompts with signals on file that are too few to judge a router on."""


def part_rewards(name: str, is_quick: bool) -> dict[str, Any]:
    """One table, every signal on file."""
    return figures_of(table_of(name, name in EMBEDDED), NUM_FIT[name], is_quick)


def part_signals(name: str, is_quick: bool) -> dict[str, Any]:
    """The prompts of a domain that have signals on file, by task labels."""
    table = signalled(name)
    num = 0 if table is None else len(table.ids)
    if table is None or num < FEWEST_SIGNALLED:
        return {"num_prompts": num, "left_out": f"fewer than {FEWEST_SIGNALLED} prompts on file"}
    return figures_of(table, num // 2, is_quick)


def figures_of(table: Table, num_fit: int, is_quick: bool) -> dict[str, Any]:
    """What the signals of a table vary by, and what routing by each gains."""
    num_splits = 2 if is_quick else 10
    rewards = rewards_of(table)
    signals = dict(rewards)
    if table.learnability_PM is not None:
        signals["learnability"] = table.learnability_PM
    sizes = [num_fit // 8, num_fit // 4, num_fit // 2, num_fit]
    return {
        "num_prompts": len(table.ids),
        "num_tasks": len(set(table.tasks)),
        "teachers": table.teachers,
        "variance_shares": {
            key: asdict(variance_shares(of_PM, table.tasks)) for key, of_PM in signals.items()
        },
        "moved_by_signal": moved_by_signal(table, num_fit, num_splits),
        "signals": {
            key: judged(table, of_PM, num_fit, num_splits)
            | {
                "per_task_gain_by_parallel_prompts": learning_curve(
                    table, of_PM, sizes, num_splits
                ),
                "allocation_per_task": allocation(table, of_PM, num_fit),
            }
            for key, of_PM in rewards.items()
        },
    }


def part_embedded(name: str, is_quick: bool) -> dict[str, Any]:
    """All kinds on a large table, with embeddings of part of its prompts."""
    table, num_fit = table_of(name, most=NUM_EMBEDDED[name]), NUM_EMBEDDED[name] // 2
    of_correct = judged(table, table.scores_PM, num_fit, 1 if is_quick else 10)
    facts = {"num_prompts": len(table.ids), "teachers": table.teachers}
    return facts | {"signals": {"correct": of_correct}}


OF_TABLES = {"rewards": part_rewards, "signals": part_signals}
OTHER_PARTS = {
    "prefill": part_prefill,
    "statistics": part_statistics,
    "screening": part_screening,
    "transfer": part_transfer,
    "sizes": part_sizes,
}


def figures(parts: Sequence[str], is_quick: bool) -> dict[str, Any]:
    """The parts asked for, and those that an earlier run has measured."""
    every = [*(f"{part}_{name}" for part in OF_TABLES for name in TABLES), *OTHER_PARTS]
    every += [f"embedded_{name}" for name in NUM_EMBEDDED]
    found = {} if is_quick else known_figures("real_evidence", every)
    for part in every:
        if not any(part.startswith(asked) for asked in parts):
            continue
        kind, _, name = part.partition("_")
        if name:
            make = part_embedded if kind == "embedded" else OF_TABLES[kind]
            found[part] = measured(part, lambda make=make, name=name: make(name, is_quick))
        else:
            other = OTHER_PARTS[part]
            found[part] = measured(part, lambda other=other: other(is_quick))
    return {part: found[part] for part in every if part in found} | goals_of(found)


def goals_of(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that goals are about, as far as their parts are there."""
    told: dict[str, Any] = {}
    minus = {
        (part, key): of["minus"]
        for part, figures in found.items()
        if part.startswith(("rewards_", "signals_", "embedded_"))
        for key, of in figures.get("signals", {}).items()
        if "auto_minus_constant" in of["minus"]
    }
    both = [minus.get((f"rewards_{name}", "correct")) for name in ("mmlu_pro", "reasoning_gym")]
    if all(both):
        told["gain_correct_low"] = min(of["auto_minus_constant"]["low"] for of in both)
        told["gain_correct_reasoning_gym"] = both[1]["auto_minus_constant"]["mean"]
    # A table counts once: where both are there, as a whole and not by the prompts scored anew.
    by_table = {
        part.partition("_")[2]: of["auto_minus_constant"]["low"]
        for (part, key), of in sorted(minus.items(), reverse=True)
        if key == "reward"
    }
    if by_table:
        told["gain_reward_tables"] = len(by_table)
        # The second best of four; with a single table on file, that one.
        told["gain_reward_low"] = sorted(by_table.values())[-min(2, len(by_table))]
    over = [
        difference
        for of in minus.values()
        for name, difference in of.items()
        if name in ("auto_minus_per_task", "auto_minus_knn")
    ]
    if over:
        told["over_simple"] = min(difference["mean"] for difference in over)
        told["over_simple_highest_low"] = max(difference["low"] for difference in over)
    if "prefill_gap_ratio" in found.get("prefill", {}):
        told["prefill_gap_ratio"] = found["prefill"]["prefill_gap_ratio"]
    if "pools" in found.get("screening", {}):
        told["screen_right"] = {
            f"probe_{size}": found["screening"][f"probe_{size}"] for size in PROBES
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    parser.add_argument("--parts", nargs="+", default=[*OF_TABLES, *OTHER_PARTS, "embedded"])
    options = parser.parse_args()
    packages = ("numpy", "scipy", "torch", "transformers")
    goals = {
        "gain_correct_low": 0.0,
        "gain_reward_low": 0.0,
        "over_simple": 0.0,
        "prefill_gap_ratio": 1.5,
        "screen_right": 10,
    }
    result = {
        "name": "real_evidence",
        "figures": figures(options.parts, options.quick),
        "goals": goals,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {name: version(name) for name in packages},
        "seed": SEED,
        "config": {
            "encoder": f"{ENCODER}, frozen, the first {ENCODER_TOKENS} tokens of a prompt",
            "prefill": f"{STUDENT}, layer {PREFILL_LAYER} of 30, the last {PREFILL_TOKENS} tokens",
            "num_fit": NUM_FIT,
            "alpha": ALPHA,
            "splits": 2 if options.quick else 10,
            "screening_worth": WORTH,
            "probes": PROBES,
        },
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
