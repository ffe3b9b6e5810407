"""Do features of the student's prefill of a prompt route better than k-NN on a sentence encoder?

The student is SmolLM2-135M-Instruct; benchmarks/signals/prefill.py says what is read of it and of
how many tokens, and goes on where it has stopped: a table takes part with as many prompts as are
there, half of them to fit on. A mix is a non-negative combination of base predictors, its weights
by what they predict for prompts left out, on the parallel set alone; penalties and k as well.

    prefill            ridge on the last token's state, ridge on the mean state: no task label
    prefill, task      the same with task labels as inputs, and the table by task
    knn                k-NN on MiniLM, k by leaving each prompt out: no task label
    stacked            table by task, k-NN and ridge on MiniLM and task
    stacked, prefill   all of these

`prefill_gap_ratio` is the share of the gap from the best constant to the oracle that `prefill`
closes, over that of `knn`: neither reads a task label. None where `knn` closes nothing.

Axes: S splits, P prompts, N prompts of the parallel set, M teachers.
"""

from typing import Any

import numpy as np
from real_tables import TABLES, Table, prefill_of, table_of

from persyn_ray.method.arrays import Booleans, Floats
from persyn_ray.method.predictors.choose import LabelledRewards
from persyn_ray.statistics.significance import resampling_weights
from real_parts.judging import SEED, rewards_of, summary
from real_parts.mixing import Base, labels, over_splits, own_bases, ridge

FEWEST = 400
NUM_RESAMPLES = 2000
MIXES: dict[str, tuple[str, ...]] = {
    "per_task": ("per_task",),
    "knn": ("knn",),
    "linear": ("linear",),
    "prefill": ("last", "mean"),
    "prefill, task": ("per_task", "last, task", "mean, task"),
    "stacked": ("per_task", "knn", "linear"),
    "stacked, prefill": ("per_task", "knn", "linear", "last, task", "mean, task"),
}
PAIRS = (
    ("knn", "constant"),
    ("prefill", "constant"),
    ("prefill", "knn"),
    ("prefill, task", "per_task"),
    ("stacked, prefill", "stacked"),
    ("stacked, prefill", "per_task"),
    ("stacked, prefill", "knn"),
    ("stacked, prefill", "constant"),
)


def part_prefill(is_quick: bool) -> dict[str, Any]:
    """Every table with enough prompts on file, and all of them together."""
    found: dict[str, Any] = {}
    for name in TABLES:
        prefill_KD = prefill_of(table_of(name, False))
        if len(prefill_KD) < FEWEST:
            continue
        table = table_of(name, most=len(prefill_KD))
        for signal, rewards_PM in rewards_of(table).items():
            key = name if signal == "correct" else f"{name}, {signal}"
            found[key] = _judged(table, prefill_KD, rewards_PM, 2 if is_quick else 10)
    correct = [of for key, of in found.items() if "," not in key]
    closed = (
        {kind: float(np.mean([of["gap_closed"][kind] for of in correct])) for kind in MIXES}
        if correct
        else {}
    )
    return {
        "tables": found,
        "mean_gap_closed": closed,
        "prefill_gap_ratio": _ratio(closed.get("prefill"), closed.get("knn")),
    }


def _judged(
    table: Table, prefill_PD: Floats, rewards_PM: Floats, num_splits: int
) -> dict[str, Any]:
    num_fit = len(table.ids) // 2

    def bases(known: LabelledRewards, asked: LabelledRewards, fit_P: Booleans) -> dict[str, Base]:
        return _bases(known, asked, prefill_PD[fit_P], prefill_PD[~fit_P])

    values, weights = over_splits(table, rewards_PM, num_fit, num_splits, bases, MIXES)
    told = summary(values, PAIRS)
    closed = told["gap_closed"]
    return (
        {"num_prompts": len(table.ids), "num_fit": num_fit}
        | told
        | {
            "mean_weights": weights,
            "prefill_gap_ratio": _ratio(closed["prefill"], closed["knn"]),
            "prefill_gap_ratio_interval": _ratio_interval(values),
        }
    )


def _bases(
    known: LabelledRewards, asked: LabelledRewards, known_ND: Floats, asked_PD: Floats
) -> dict[str, Base]:
    """The project's base predictors, and ridges on views of the prefill."""
    found, half = own_bases(known, asked), known_ND.shape[1] // 2
    labels_NK, labels_PK = labels(known, asked)
    for view, columns in {"last": slice(0, half), "mean": slice(half, None)}.items():
        read_ND, used_PD = known_ND[:, columns], asked_PD[:, columns]
        found[view] = ridge(read_ND, used_PD, known.rewards_NM, known.folds())
        read_ND, used_PD = np.hstack([read_ND, labels_NK]), np.hstack([used_PD, labels_PK])
        found[f"{view}, task"] = ridge(read_ND, used_PD, known.rewards_NM, known.folds())
    return found


def _ratio(ours: float | None, knn: float | None) -> float | None:
    return round(ours / knn, 3) if ours is not None and knn is not None and knn > 0 else None


def _ratio_interval(values: dict[str, Floats]) -> list[float] | None:
    """95 % interval of the ratio over prompts; None where a resample in 40 has no gain of k-NN."""
    gains_KP = np.array(
        [np.nansum(values[kind] - values["constant"], axis=0) for kind in ("prefill", "knn")]
    )
    rng = np.random.default_rng(SEED)
    weights_RP = resampling_weights(rng, NUM_RESAMPLES, gains_KP.shape[1])
    prefill_R, knn_R = gains_KP @ weights_RP.T
    if (knn_R <= 0).mean() > 1 / 40:
        return None
    low, high = np.quantile(prefill_R / np.maximum(knn_R, 1e-9), (0.025, 0.975))
    return [round(float(low), 3), round(float(high), 3)]
