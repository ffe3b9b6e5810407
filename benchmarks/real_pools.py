"""Does routing pay on real teachers? GSM8K with six of them, AlpacaEval with sixteen.

    python benchmarks/real_pools.py [--quick] [--cache FOLDER]

Real recorded responses, a real small student (SmolLM2-135M) and a real encoder (MiniLM, frozen, as
the router's backbone). Reward is Eq. 2 at the recipe's defaults, alpha 0.4 and minmax. The prompts
are split ten times by hash: three quarters are the parallel set, on the rest everything is judged:

- router: Bradley-Terry head on the frozen embeddings, stopped early on a part of the parallel set;
- knn, linear_probe: on the same embeddings; their k and penalty are chosen on the parallel set;
- best_constant: the teacher with the best mean reward on the parallel set;
- strong: the most capable teacher by name; random: in expectation; oracle: by true reward.

Intervals resample splits and prompts together. What the qualities are, and that AlpacaEval's is a
stand-in, says real_signals.py. Signals are kept in the cache folder: scoring takes about 25 minutes
on two cores, the rest two.

Axes: S splits, P prompts, M teachers, D embedding.
"""

import argparse
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from publishing import ROOT, publish
from real_signals import ENCODER, MAX_TOKENS, NUM_PROMPTS, SEED, Encoder, Signals, signals_of
from scipy.stats import spearmanr

from persyn_ray.method.allocation import assign, shares, tie_breaks
from persyn_ray.method.arrays import mean_known
from persyn_ray.method.baselines import best_constant
from persyn_ray.method.metrics import hit_at_k, regret, routed_reward
from persyn_ray.method.preferences import preferences
from persyn_ray.method.probes import choose_k, knn_scores, linear_probe_scores
from persyn_ray.method.rewards import combine
from persyn_ray.models.fit import fit_router
from persyn_ray.models.router.frozen import feature_logits
from persyn_ray.models.router.model import build_router
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.router import RouterConfig as RouterSettings
from persyn_ray.shards.tables import heldout_mask
from persyn_ray.statistics.intervals import bootstrap_mean
from persyn_ray.statistics.significance import (
    holm,
    mean_over_seeds,
    paired_difference,
    rank_correlation,
)

ALPHA, SCALING = 0.4, "minmax"
STRONG = {"gsm8k": "gpt-4-1106-preview", "alpaca_eval": "Meta-Llama-3.1-405B-Instruct-Turbo"}
HELDOUT = 0.25
NUM_SPLITS = (10, 2)  # full, quick
ROUTER = RouterSettings(
    backbone=ModelConfig(name=ENCODER),
    freeze_backbone=True,
    epochs=60,
    learning_rate=1e-2,
    batch_size=32,
    patience=5,
)
METHODS = ("router", "knn", "linear_probe", "best_constant", "strong", "random", "oracle")
MEASURES = ("reward", "regret", "hit_at_1", "hit_at_3")
GOALS = {"gain_over_random_low": 0.0, "gain_over_best_constant_low": 0.0}
# Billions of parameters, as published; all of them for a mixture of experts.
SIZES = {
    "Meta-Llama-3.1-405B-Instruct-Turbo": 405.9,
    "Meta-Llama-3.1-70B-Instruct-Turbo": 70.6,
    "Meta-Llama-3.1-8B-Instruct-Turbo": 8.03,
    "Meta-Llama-3-70B-Instruct": 70.6,
    "Meta-Llama-3-8B-Instruct": 8.03,
    "Qwen2-72B-Instruct": 72.7,
    "Qwen1.5-72B-Chat": 72.3,
    "Qwen1.5-14B-Chat": 14.2,
    "Qwen1.5-7B-Chat": 7.72,
    "Qwen1.5-1.8B-Chat": 1.84,
    "gemma-7b-it": 8.54,
    "gemma-2b-it": 2.51,
    "Mistral-7B-Instruct-v0.2": 7.24,
    "Mixtral-8x7B-Instruct-v0.1": 46.7,
    "Yi-34B-Chat": 34.4,
    "phi-2-sft": 2.78,
}

Choice = tuple[np.ndarray, np.ndarray]
"""Scores (P, M) that a method goes by, and the teacher of each prompt (P,)."""


class Splits:
    """One pool judged split by split."""

    def __init__(self, name: str, signals: Signals) -> None:
        self.name, self.signals = name, signals
        self.rewards_PM = combine(signals.quality_PM, signals.learnability_PM, ALPHA, SCALING)
        self.wins_PMM = preferences(self.rewards_PM)
        encoder = Encoder()
        self.rows, self.tokenizer = encoder.prompts(signals.prompts), encoder.tokenizer
        self.features_PD = np.array([row["features"].numpy() for row in self.rows])
        self.breaks_PM = tie_breaks(signals.ids, signals.teachers, SEED)

    def judged(self, split: int) -> dict[str, dict[str, np.ndarray]]:
        """Measures of every method, NaN for the parallel set; and the teachers chosen (-1)."""
        out_P = heldout_mask(self.signals.ids, HELDOUT, seed=split)
        found: dict[str, dict[str, np.ndarray]] = {}
        rewards_PM = self.rewards_PM[out_P]
        for method, (scores_PM, teacher_P) in self.choices(split, out_P).items():
            reward_P, regret_P = routed_reward(rewards_PM, teacher_P), regret(rewards_PM, teacher_P)
            if method == "random":
                reward_P = np.nanmean(rewards_PM, axis=1)
                regret_P = np.nanmax(rewards_PM, axis=1) - reward_P
            hits = (hit_at_k(scores_PM, rewards_PM, k) for k in (1, 3))
            values = dict(zip(MEASURES, (reward_P, regret_P, *hits), strict=True))
            found[method] = {key: _spread(value_P, out_P) for key, value_P in values.items()}
            found[method]["teacher"] = _spread(teacher_P, out_P)
        return found

    def choices(self, split: int, out_P: np.ndarray) -> dict[str, Choice]:
        """What each method makes of the held-out prompts, knowing the others."""
        known = self.features_PD[~out_P], self.rewards_PM[~out_P]
        asked_PD, breaks_PM = self.features_PD[out_P], self.breaks_PM[out_P]
        means_M = np.nanmean(known[1], axis=0)
        teachers, shape = self.signals.teachers, breaks_PM.shape
        strong_M = np.eye(len(teachers))[teachers.index(STRONG[self.name])]
        scores = {
            "router": self.router_logits(split, out_P),
            "knn": knn_scores(asked_PD, *known, choose_k(*known)),
            "linear_probe": linear_probe_scores(asked_PD, *known),
            "best_constant": np.tile(means_M, (shape[0], 1)),
            "strong": np.tile(strong_M, (shape[0], 1)),
            "random": np.zeros(shape),
            "oracle": self.rewards_PM[out_P],
        }
        chosen = {method: assign(values, breaks_PM)[0] for method, values in scores.items()}
        chosen["best_constant"][:] = best_constant(known[1], teachers, SEED)
        return {method: (scores[method], chosen[method]) for method in METHODS}

    def router_logits(self, split: int, out_P: np.ndarray) -> np.ndarray:
        """Fit the router's head on the parallel set, and its logits for the other prompts."""
        rows = [row | {"wins": wins} for row, wins in zip(self.rows, self.wins_PMM, strict=True)]
        known = np.flatnonzero(~out_P)
        # Another seed: the same one would draw the same prompts, which are gone already.
        ids = [self.signals.ids[place] for place in known]
        stop = heldout_mask(ids, ROUTER.heldout_fraction, seed=1000 + split)
        fitting, stopping = ([rows[place] for place in known[part]] for part in (~stop, stop))
        router = build_router(ENCODER, self.signals.teachers, seed=split)
        settings = ROUTER.model_copy(update={"seed": split})
        with TemporaryDirectory() as scratch:
            fit_router(router, self.tokenizer, fitting, stopping, settings, Path(scratch))
        return feature_logits(router.head, torch.from_numpy(self.features_PD[out_P]))


def _spread(value_P: np.ndarray, out_P: np.ndarray) -> np.ndarray:
    """Values of the held-out prompts at their places among all; NaN elsewhere."""
    whole_P = np.full(len(out_P), np.nan)
    whole_P[out_P] = value_P
    return whole_P


def figures_of(name: str, signals: Signals, is_quick: bool) -> dict[str, Any]:
    """Everything about one pool."""
    splits = Splits(name, signals)
    judged: list[dict[str, dict[str, np.ndarray]]] = []
    for split in range(NUM_SPLITS[is_quick]):
        started = time.perf_counter()
        judged.append(splits.judged(split))
        print(f"  {name} split {split}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    values = {
        method: {
            key: np.array([one[method][key] for one in judged]) for key in (*MEASURES, "teacher")
        }
        for method in METHODS
    }
    means = {method: mean_known(of["reward"]) for method, of in values.items()}
    gap = means["oracle"] - means["best_constant"]
    return {
        "num_prompts": len(signals.prompts),
        "num_teachers": len(signals.teachers),
        "response_tokens_scored": int(np.nansum(signals.tokens_PM)),
        "scoring_seconds": round(signals.seconds),
        "methods": {method: summary(values[method], signals) for method in METHODS},
        "router_minus": differences(values),
        "gap_to_oracle_closed": {
            method: (means[method] - means["best_constant"]) / gap if gap > 0 else None
            for method in ("router", "knn", "linear_probe")
        },
        "teachers": teachers_of(signals, splits.rewards_PM),
        **(checks(signals) if name == "gsm8k" else by_size(signals, splits.rewards_PM)),
    }


def summary(values: dict[str, np.ndarray], signals: Signals) -> dict[str, Any]:
    """Measures of one method with their intervals, and whom its held-out prompts go to."""
    found: dict[str, Any] = {key: asdict(mean_over_seeds(values[key], SEED)) for key in MEASURES}
    teacher_P = values["teacher"][~np.isnan(values["teacher"])].astype(np.int64)
    share_M = shares(teacher_P, len(signals.teachers))
    found["shares"] = dict(zip(signals.teachers, share_M.round(4).tolist(), strict=True))
    return found


def differences(values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Reward of the router less that of every other method; p-values also as Holm adjusts them."""
    router_SP = values["router"]["reward"]
    found = {
        method: paired_difference(router_SP, values[method]["reward"], SEED)
        for method in METHODS
        if method != "router"
    }
    adjusted = holm({method: one.p_value for method, one in found.items()})
    return {method: asdict(one) | {"p_holm": adjusted[method]} for method, one in found.items()}


def teachers_of(signals: Signals, rewards_PM: np.ndarray) -> dict[str, Any]:
    """Means of both signals and of the reward, teacher by teacher."""
    columns = {
        "quality": signals.quality_PM,
        "learnability": signals.learnability_PM,
        "tokens": signals.tokens_PM,
        "reward": rewards_PM,
    }
    return {
        teacher: {key: round(mean_known(of_PM[:, m]), 4) for key, of_PM in columns.items()}
        for m, teacher in enumerate(signals.teachers)
    }


def checks(signals: Signals) -> dict[str, Any]:
    """How often the checker and the published verdicts agree."""
    agree_PM = signals.quality_PM == signals.published_PM
    return {"checker_agrees_with_published": f"{int(agree_PM.sum())} of {agree_PM.size}"}


def by_size(signals: Signals, rewards_PM: np.ndarray) -> dict[str, Any]:
    """Spearman's correlation of a teacher's size with both signals and the reward."""
    size_M = np.array([SIZES[teacher] for teacher in signals.teachers])
    columns = {
        "quality": signals.quality_PM,
        "learnability": signals.learnability_PM,
        "reward": rewards_PM,
    }
    found: dict[str, Any] = {"sizes_in_billions": dict(zip(signals.teachers, size_M, strict=True))}
    for key, of_PM in columns.items():
        means_M = np.nanmean(of_PM, axis=0)
        rho_P = [spearmanr(size_M, value_M, nan_policy="omit").statistic for value_M in of_PM]
        found[f"size_and_{key}"] = {
            "of_teachers_means": asdict(rank_correlation(size_M, means_M, SEED)),
            "within_a_prompt": asdict(bootstrap_mean(rho_P, SEED)),
        }
    return found


def measure(is_quick: bool, cache: Path) -> dict[str, Any]:
    """Both pools, one after the other."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    figures: dict[str, Any] = {
        name: figures_of(name, signals_of(name, is_quick, cache), is_quick) for name in STRONG
    }
    for other in ("random", "best_constant"):
        lows = [figures[name]["router_minus"][other]["low"] for name in STRONG]
        figures[f"gain_over_{other}_low"] = min(lows)
    return {
        "name": "real_pools",
        "figures": figures,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "scipy")},
        "seed": SEED,
        "config": {
            "student": "SmolLM2-135M-Instruct, float32",
            "encoder": "all-MiniLM-L6-v2, frozen",
            "prompts": {name: sizes[is_quick] for name, sizes in NUM_PROMPTS.items()},
            "max_response_tokens_scored": {
                name: most[is_quick] for name, most in MAX_TOKENS.items()
            },
            "quality": {
                "gsm8k": "the checker's verdict",
                "alpaca_eval": "stand-in: mean MiniLM cosine to the other teachers' responses",
            },
            "alpha": ALPHA,
            "scaling": SCALING,
            "splits": NUM_SPLITS[is_quick],
            "heldout_fraction": HELDOUT,
            "strong": STRONG,
            "router": ROUTER.model_dump(mode="json"),
            "goals_are": "the lower bound of the 95 % interval in the worse pool lies above",
            "quick": is_quick,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "runs" / "real_pools", help="where signals are kept"
    )
    options = parser.parse_args()
    publish(measure(options.quick, options.cache), options.quick)


if __name__ == "__main__":
    main()
