"""Fitted on some data sets or subjects, used on others: gain over the constant."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from real_tables import Table, table_of, transfer_table

from persyn_ray.method.arrays import mean_known
from persyn_ray.method.novelty import Novelty
from persyn_ray.method.predictors.fit import fit_predictor
from persyn_ray.statistics.intervals import bootstrap_difference
from real_parts.judging import SEED, in_parallel_set, labelled

ORDER = ("SVAMP", "ASDiv", "MultiArith", "GSM8K")
MOST_EACH = 600
"""Problems of a data set of Faithful-COT."""
MOST_MMLU = 2500
MOST_TO_FIT = 1500


def part_transfer(is_quick: bool) -> dict[str, Any]:
    """Every data set of Faithful-COT to every other, and MMLU-Pro with each subject left out."""
    cot, mmlu = transfer_table(MOST_EACH), table_of("mmlu_pro", most=MOST_MMLU)
    found = {
        f"{fitted} to {used}": _moved(cot, [fitted], [used])
        for fitted in ORDER
        for used in ORDER
        if fitted != used
    }
    everything = sorted(set(mmlu.tasks))
    return found | {
        f"mmlu_pro without {subject}": _moved(
            mmlu, [other for other in everything if other != subject], [subject]
        )
        for subject in everything[: 2 if is_quick else None]
    }


def _moved(table: Table, fitted_on: Sequence[str], used_on: Sequence[str]) -> dict[str, Any]:
    """A k-NN of some tasks on others: labels are new there, so that embeddings alone can help."""
    fit_P = np.isin(table.tasks, fitted_on)
    out_P = np.isin(table.tasks, used_on)
    # At most so many prompts to fit on: these are many fits.
    share = MOST_TO_FIT / max(MOST_TO_FIT, int(fit_P.sum()))
    fit_P &= in_parallel_set(table, int(len(table.ids) * share), 0)
    known = labelled(table.rows(fit_P), table.scores_PM[fit_P], SEED)
    asked = labelled(table.rows(out_P), table.scores_PM[out_P], SEED)
    routed = {
        kind: asked.routed(
            fit_predictor(kind, known.features, known.rewards_NM).scores(asked.features)
        )
        for kind in ("knn", "constant")
    }
    novelty = Novelty.fit(known.features.embeddings_PD, 5)
    distance_P = novelty.distance(asked.features.embeddings_PD)
    gain = bootstrap_difference(routed["knn"], routed["constant"], SEED)
    return asdict(gain) | {
        "novel_share": round(float((distance_P > novelty.threshold).mean()), 4),
        "best_constant_there": round(float(np.nanmean(asked.rewards_NM, axis=0).max()), 4),
        "constant": round(mean_known(routed["constant"]), 4),
    }
