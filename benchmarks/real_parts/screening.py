"""`persyn screen` on probes of pools cut from the tables, against what routing gains elsewhere.

The pools, the worth of 0.01 and what counts as right were fixed before any pool was screened:
right is "yes" where the gain on the prompts outside the probe is above the worth, "no" where it is
not; "cannot say" is wrong. That gain has an interval too, so beside this count stand two others,
added later and never instead of it: `right_or_unclear` also counts "cannot say" as right where the
interval includes the worth, and `sign_right` whether the expected gain is on the right side of it.
The screening was improved on pools of other teachers (LOG.md), which are none of these.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from real_tables import TABLES, Table, table_of

from persyn_ray.method.predictors.fit import fit_predictor
from persyn_ray.screening.judge import ScreeningGoal, screen
from persyn_ray.statistics.significance import Difference, paired_difference
from real_parts.judging import NUM_RESAMPLES, SEED, in_parallel_set, labelled

EMBEDDED = ("faithful_cot", "crux")
"""Tables whose predictors also go by embeddings."""
PROBES = (200, 1000)
WORTH = 0.01
NUM_SPLITS = 5


def pools() -> dict[str, Table]:
    """Pools cut from the tables, fixed before any was screened."""
    mmlu, gym, cot, crux = (table_of(name, name in EMBEDDED) for name in TABLES)

    def named(table: Table, *parts: str) -> Table:
        return table.pool([name for name in table.teachers if any(part in name for part in parts)])

    science = np.array(
        [task in ("math", "physics", "chemistry", "engineering") for task in mmlu.tasks]
    )
    return {
        "mmlu_pro, all eight": mmlu,
        "mmlu_pro, Llama-3.1-8B-Instruct and Yi": named(mmlu, "8B-Instruct", "Yi"),
        "mmlu_pro, mathstral, Yi and Phi": named(mmlu, "mathstral", "Yi", "Phi"),
        "mmlu_pro, three Llamas": named(mmlu, "Llama"),
        "mmlu_pro, four subjects of science": mmlu.rows(science),
        "reasoning_gym, all nine": gym,
        "reasoning_gym, o3-mini, R1 and Grok": named(gym, "o3", "r1", "grok"),
        "reasoning_gym, four weak ones": named(gym, "gemma", "3.3-70", "small", "scout"),
        "reasoning_gym, o3-mini and two weak ones": named(gym, "o3", "gemma", "small"),
        "reasoning_gym, Claude and Maverick": named(gym, "claude", "maverick"),
        "faithful_cot, all eight": cot,
        "faithful_cot, three chains of thought": named(cot, "/COT"),
        "crux, all sixteen": crux,
        "crux, three of similar accuracy": named(crux, "3.1-70B", "27b", "405B"),
    }


def true_gain(rest: Table, num_splits: int) -> Difference:
    """What a stacked predictor gains on prompts outside the probe, half of them to fit on."""
    values = {
        kind: np.full((num_splits, len(rest.ids)), np.nan) for kind in ("stacked", "constant")
    }
    for split in range(num_splits):
        fit_P = in_parallel_set(rest, len(rest.ids) // 2, 100 + split)
        known = labelled(rest.rows(fit_P), rest.scores_PM[fit_P], split)
        asked = labelled(rest.rows(~fit_P), rest.scores_PM[~fit_P], split)
        for kind, of_SP in values.items():
            fitted = fit_predictor(kind, known.features, known.rewards_NM, known.folds())
            of_SP[split, ~fit_P] = asked.routed(fitted.scores(asked.features))
    return paired_difference(values["stacked"], values["constant"], SEED, NUM_RESAMPLES)


def part_screening(is_quick: bool) -> dict[str, Any]:
    """Verdicts on each pool from probes of two sizes, and whether they are right."""
    found: dict[str, Any] = {}
    for name, table in pools().items():
        rest = table.rows(~in_parallel_set(table, PROBES[0], 0))
        truth = true_gain(rest, 1 if is_quick else NUM_SPLITS)
        goal = ScreeningGoal(WORTH, len(rest.ids) // 2)
        found[name] = {
            "true_gain": asdict(truth),
            "pays": truth.mean > WORTH,
            "is_clear": not truth.low <= WORTH <= truth.high,
            "num_fit": goal.planned,
        }
        for size in PROBES:
            if len(table.ids) >= size + 400:
                found[name][f"probe_{size}"] = _screened(table, size, goal)
        print(f"  {name}: {found[name]}", flush=True)
    return {"pools": found} | {f"probe_{size}": _counted(found, size) for size in PROBES}


def _screened(table: Table, size: int, goal: ScreeningGoal) -> dict[str, Any]:
    part = table.rows(in_parallel_set(table, size, 0))
    started = time.perf_counter()
    told = screen(labelled(part, part.scores_PM, SEED), {}, goal)
    planned = next((one for one in told.growth if one.num_prompts == goal.planned), None)
    return {
        "verdict": told.verdict,
        "expected": None if planned is None else round(planned.gain.mean, 4),
        "chance": None if planned is None else round(planned.chance, 4),
        "prompts_needed": told.prompts_needed,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _counted(found: dict[str, Any], size: int) -> dict[str, int]:
    key = f"probe_{size}"
    told = [(of[key], of["pays"], of["is_clear"]) for of in found.values() if key in of]
    right = [one["verdict"] == ("yes" if pays else "no") for one, pays, _ in told]
    return {
        "num_pools": len(told),
        "screen_right": sum(right),
        "cannot_say": sum(one["verdict"] == "cannot say" for one, *_ in told),
        "false_yes": sum(one["verdict"] == "yes" and not pays for one, pays, _ in told),
        "false_no": sum(one["verdict"] == "no" and pays for one, pays, _ in told),
        "num_clear": sum(clear for *_, clear in told),
        "right_of_clear": sum(
            is_right and clear for is_right, (*_, clear) in zip(right, told, strict=True)
        ),
        "right_or_unclear": sum(
            is_right or (one["verdict"] == "cannot say" and not clear)
            for is_right, (one, _, clear) in zip(right, told, strict=True)
        ),
        "sign_right": sum(
            one["expected"] is not None and (one["expected"] > WORTH) == pays
            for one, pays, _ in told
        ),
    }
