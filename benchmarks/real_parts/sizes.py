"""Do small teachers suit small students? Size against learnability, where signals are on file.

A teacher's learnability is the mean over prompts of the log-likelihood of its responses under
SmolLM2-135M-Instruct, less the prompt's mean over teachers (nats per token). The claim would be a
falling line over the logarithm of size. There are eight teachers, so that its p-value permutes
sizes over teachers; the interval of the slope resamples prompts and says nothing of other teachers.
Longer responses are likelier per token, so the line is also told for what is left of learnability
behind a line over the logarithm of length.

Axes: P prompts, M teachers, R resamples.
"""

from typing import Any

import numpy as np
import pandas as pd
from real_tables import SIGNALS
from scipy.stats import spearmanr

from persyn_ray.method.predictors.effects import variance_shares
from persyn_ray.statistics.significance import resampling_weights
from real_parts.judging import SEED

FEWEST = 30
"""Prompts of a domain that are too few to look at."""
NUM_RESAMPLES, NUM_PERMUTATIONS = 2000, 20_000
BILLIONS = {
    "Llama-3.1-405B-Inst-fp8": 405.0,
    "Meta-Llama-3_1-70B": 70.6,
    "Meta-Llama-3.1-70B-Instruct": 70.6,
    "Meta-Llama-3_1-8B-Instruct": 8.0,
    "Meta-Llama-3.1-8B-Instruct": 8.0,
    "Mixtral-8x7B-Instruct-v0.1": 46.7,
    "Phi-3-mini-4k-instruct": 3.8,
    "Qwen1.5-110B": 111.0,
    "Qwen2-7B-Instruct": 7.6,
    "Qwen2.5-32B-Instruct": 32.8,
    "Yi-34B": 34.4,
    "c4ai-command-r-v01": 35.0,
    "mathstral-7B": 7.2,
    "gemma-2-27b-it": 27.2,
    "gemma-2-9b-it": 9.2,
    "google_gemma-3-27b-it": 27.4,
    "meta-llama_llama-3.3-70b-instruct": 70.6,
    "meta-llama_llama-4-maverick": 400.0,
    "meta-llama_llama-4-scout": 109.0,
    "mistralai_mistral-small-3.1-24b-instruct": 24.0,
}
"""Parameters, all of them (also where few are active); systems of unknown size are left out."""


def part_sizes(_is_quick: bool) -> dict[str, Any]:
    """Every domain with signals on file and five teachers or more of known size."""
    found: dict[str, Any] = {}
    for path in sorted(SIGNALS.glob("*.parquet")):
        rows = pd.read_parquet(path)
        rows = rows[rows.teacher.isin(BILLIONS)]
        learned = rows.pivot(index="prompt_id", columns="teacher", values="log_likelihood").dropna()
        if len(learned) < FEWEST or learned.shape[1] < 5:
            continue
        length = rows.pivot(index="prompt_id", columns="teacher", values="num_tokens")
        found[path.stem] = _against_size(
            tuple(learned.columns),
            learned.to_numpy(np.float64),
            np.log(length.loc[learned.index].to_numpy(np.float64)),
        )
    return {"domains": found}


def _against_size(
    teachers: tuple[str, ...], learned_PM: np.ndarray, length_PM: np.ndarray
) -> dict[str, Any]:
    size_M = np.log10([BILLIONS[name] for name in teachers])
    learned_PM = learned_PM - learned_PM.mean(axis=1, keepdims=True)
    length_PM = length_PM - length_PM.mean(axis=1, keepdims=True)
    by_length = float((learned_PM * length_PM).sum() / max((length_PM**2).sum(), 1e-12))
    left_PM = learned_PM - by_length * length_PM
    return {
        "num_prompts": len(learned_PM),
        "billions": {name: BILLIONS[name] for name in teachers},
        "learnability": dict(zip(teachers, learned_PM.mean(axis=0).round(4).tolist(), strict=True)),
        "variance_shares_of_teacher": round(
            variance_shares(learned_PM, (None,) * len(learned_PM)).teacher, 4
        ),
        "nats_per_tenfold_size": _line(size_M, learned_PM),
        "nats_per_tenfold_size_less_length": _line(size_M, left_PM),
        "nats_per_log_length": round(by_length, 4),
    }


def _line(size_M: np.ndarray, learned_PM: np.ndarray) -> dict[str, float]:
    """Slope with its interval over prompts, rank correlation, p over permutations of teachers."""
    rng = np.random.default_rng(SEED)
    centred_M = (size_M - size_M.mean()) / ((size_M - size_M.mean()) ** 2).sum()
    mean_M = learned_PM.mean(axis=0)
    weights_RP = resampling_weights(rng, NUM_RESAMPLES, len(learned_PM))
    slope_R = weights_RP @ (learned_PM @ centred_M) / len(learned_PM)
    order_RM = rng.permuted(np.tile(np.arange(len(size_M)), (NUM_PERMUTATIONS, 1)), axis=1)
    chance_R = np.abs(centred_M[order_RM] @ mean_M)
    slope = float(centred_M @ mean_M)
    low, high = np.quantile(slope_R, (0.025, 0.975))
    return {
        "slope": round(slope, 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "spearman": round(float(spearmanr(size_M, mean_M).statistic), 4),
        "p_value": round(float((chance_R >= abs(slope) - 1e-12).mean()), 4),
    }
