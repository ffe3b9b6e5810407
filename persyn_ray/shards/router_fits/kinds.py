"""Fits a router of the kind that a recipe asks for, or of the one that is found to do.

`router.kind: auto` compares kinds on the prompts that routers are fitted on. Each fold in turn is
left out: predictors choose all that they choose by the others (`method/predictors/choose.py`), and
networks are fitted on the others too, stopped early by the held-out prompts, which are in no fold.

Axes: P prompts, N prompts that are fitted on, M teachers.
"""

from dataclasses import replace

import numpy as np
import torch.distributed

from persyn_ray.method.predictors.choose import (
    FEWEST,
    NETWORKS,
    NUM_FOLDS,
    KindChoice,
    LabelledRewards,
    choose_kind,
)
from persyn_ray.method.predictors.fit import KINDS
from persyn_ray.models.router.model import Router
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.shards.parallel_set import Booleans, Floats
from persyn_ray.shards.router_fits.networks import NetworkFits
from persyn_ray.shards.router_fits.predictors import PredictorFits, has_preferences
from persyn_ray.storage.fits import KindEstimate, KindsCompared, RouterFit

HEAD_LEARNING_RATE = 1e-2
"""Of a head by itself, where `router.learning_rate` is that of the whole backbone."""
WHOLE_LEARNING_RATE = 1e-5
"""The other way round."""


def of_kind(networks: NetworkFits) -> tuple[Router, RouterFit]:
    """The router of `router.kind`, and its fit.

    Raises:
        ConfigError: too little is known of the prompts for it.
        DataError: no reward is known.
    """
    config = networks.config
    if config.kind == "fitted":
        transfer = networks.transfer() if config.transfer else None
        router, fit = networks.curve()
        return router, fit.model_copy(update={"transfer": transfer})
    by_name = {name: replace(networks, config=config_of(name, config)) for name in NETWORKS}
    predictors = PredictorFits(by_name["fitted_head"])
    if config.kind != "auto":
        return predictors.curve(config.kind)
    choice = _agreed(_choice(by_name, predictors))
    fits = by_name.get(choice.kind)
    router, fit = predictors.curve(choice.kind) if fits is None else fits.curve()
    compared = _compared(choice, predictors, config)
    return router, fit.model_copy(update={"kind": choice.kind, "compared": compared})


def config_of(network: str, config: RouterConfig) -> RouterConfig:
    """The settings by which `auto` fits a network: `learning_rate` is that of what the recipe
    would fit, the head alone or all of it.
    """
    is_head, was_head = network == "fitted_head", config.freeze_backbone
    other = HEAD_LEARNING_RATE if is_head else WHOLE_LEARNING_RATE
    return config.model_copy(
        update={
            "freeze_backbone": is_head,
            "lora": None if is_head else config.lora,
            "learning_rate": config.learning_rate if is_head == was_head else other,
        }
    )


def _choice(by_name: dict[str, NetworkFits], predictors: PredictorFits) -> KindChoice:
    """The kind to use, by rewards of prompts that were left out."""
    networks = predictors.networks
    fit_P = ~networks.data.heldout_P
    labelled = predictors.labelled(fit_P)
    others = {
        name: _left_out_logits(fits, labelled, fit_P, name)
        for name, fits in by_name.items()
        if name in networks.config.candidates and _why_no_network(predictors) is None
    }
    return choose_kind(labelled, others, among=networks.config.candidates)


def _why_no_network(predictors: PredictorFits) -> str | None:
    """Why networks cannot be compared; None where they can."""
    data = predictors.networks.data
    if (~data.heldout_P).sum() < FEWEST:
        return f"there are fewer than {FEWEST} prompts"
    if not data.heldout_P.any():
        return "no prompt is held out to stop the fit by (router.heldout_fraction)"
    if not has_preferences(data.rewards_PM[~data.heldout_P]):
        return "no reward is above another"
    return None


def _left_out_logits(
    fits: NetworkFits, labelled: LabelledRewards, fit_P: Booleans, name: str
) -> Floats:
    """Logits (N, M) of each prompt by a network that was fitted without its fold."""
    places_N, folds_N = np.flatnonzero(fit_P), labelled.folds()
    logits_NM = np.empty(labelled.rewards_NM.shape)
    for fold in range(NUM_FOLDS):
        out_P = np.zeros(len(fit_P), dtype=np.bool_)
        out_P[places_N[folds_N == fold]] = True
        what = f"{name} without part {fold + 1} of {NUM_FOLDS}"
        router, _ = fits.fit(fit_P & ~out_P, fits.data.heldout_P, what)
        logits_NM[folds_N == fold] = fits.logits(router, out_P)
    return logits_NM


def _agreed(choice: KindChoice) -> KindChoice:
    """The first worker's choice: rounding may part workers, and a network is trained by all.

    Without networks nothing is: each worker may go on by itself, and the first one's router stays.
    """
    has_networks = any(one.kind in NETWORKS for one in choice.gains)
    if has_networks and torch.distributed.is_available() and torch.distributed.is_initialized():
        told = [choice]
        torch.distributed.broadcast_object_list(told, src=0)
        return told[0]
    return choice


def _compared(choice: KindChoice, predictors: PredictorFits, config: RouterConfig) -> KindsCompared:
    """Every kind with its gain, and those that were not compared with why."""
    gains = {one.kind: one for one in choice.gains}
    kinds: list[KindEstimate] = []
    for kind in (*KINDS, *NETWORKS):
        if (gain := gains.get(kind)) is None:
            told = f"not compared: {_why_left_out(kind, choice, predictors, config)}"
            kinds.append(KindEstimate(kind=kind, told=told))
            continue
        low, high = gain.bounds
        found = KindEstimate(kind=kind, gain=gain.gain, low=low, high=high, told=gain.told)
        kinds.append(found)
    num = int((~predictors.networks.data.heldout_P).sum())
    return KindsCompared(why=choice.why, num_prompts=num, kinds=kinds)


def _why_left_out(
    kind: str, choice: KindChoice, predictors: PredictorFits, config: RouterConfig
) -> str:
    if kind != "constant" and kind not in config.candidates:
        costs = "it takes six fits of the backbone; " if kind == "fine_tuned" else ""
        return f"{costs}not in router.candidates"
    if not choice.gains:
        return f"there are fewer than {FEWEST} prompts"
    if kind in NETWORKS:
        return _why_no_network(predictors) or "it was not fitted"
    return "the prompts are not of two tasks (prompts.task_column)"
