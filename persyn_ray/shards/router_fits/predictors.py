"""Fits simple predictors as routers: prompts with their rewards in; a router and its fit out.

A predictor (`method/predictors/`) reads what the unfitted backbone makes of a prompt, and its task.
It is fitted on the prompts that a network would be fitted on, so that figures of the held-out ones
are honest; and it is put on the scale of log-odds, unless `router.loss` asks for rewards.

Axes: P prompts, N prompts that are fitted on, M teachers, D hidden.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from persyn_ray.errors import ConfigError
from persyn_ray.method.predictors.calibrated import calibrated
from persyn_ray.method.predictors.choose import NUM_FOLDS, LabelledRewards, left_out_scores
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import Predictor, available, fit_predictor
from persyn_ray.models.router.model import Router
from persyn_ray.shards.parallel_set import Booleans, chosen
from persyn_ray.shards.router_fits.networks import NetworkFits
from persyn_ray.storage.fits import Logits, RouterFit


@dataclass(eq=False)
class PredictorFits:
    """Fits predictors on parts of the same prompts."""

    networks: NetworkFits
    """With a frozen backbone, which embeds the prompts."""

    @cached_property
    def features(self) -> PromptFeatures:
        """What is known of each parallel prompt."""
        features_PD = self.networks.features_PD
        assert features_PD is not None
        return PromptFeatures(tuple(self.networks.data.tasks), features_PD.double().cpu().numpy())

    def labelled(self, which_P: Booleans) -> LabelledRewards:
        """Some of the prompts with their rewards."""
        networks = self.networks
        ids = tuple(chosen(networks.data.prompt_ids, which_P))
        rewards_NM = networks.data.rewards_PM[which_P]
        features, seed = self.features.rows(which_P), networks.config.seed
        return LabelledRewards(ids, networks.pool.names, features, rewards_NM, seed)

    def fit(self, kind: str, which_P: Booleans) -> Predictor:
        """A predictor of some of the prompts, on the scale that `router.loss` asks for."""
        data = self.labelled(which_P)
        is_enough = len(data.ids) >= NUM_FOLDS
        folds_N = data.folds() if is_enough else None
        predictor = fit_predictor(kind, data.features, data.rewards_NM, folds_N)
        if self.networks.config.loss == "regression" or not is_enough:
            return predictor
        left_out_NM = left_out_scores(data, kinds=(kind,))[kind]
        return calibrated(predictor, left_out_NM, data.rewards_NM)

    def curve(self, kind: str) -> tuple[Router, RouterFit]:
        """The run's router, and its fit with the logits of the learning curve.

        Raises:
            ConfigError: the prompts lack what the kind reads.
        """
        data, config = self.networks.data, self.networks.config
        fit_P = ~data.heldout_P
        self._require(kind, fit_P)
        num_fit = int(fit_P.sum())
        logits: dict[int, Logits] = {}
        for size in (size for size in config.learning_curve if size < num_fit):
            first_P = fit_P & (fit_P.cumsum() <= size)
            if kind in available(self.features.rows(first_P)):
                logits[size] = self._heldout_logits(self.fit(kind, first_P))
        predictor = self.fit(kind, fit_P)
        logits[num_fit] = self._heldout_logits(predictor)
        fit = RouterFit(
            kind=kind, told=predictor.told, num_fit=num_fit, loss_curve=[], heldout_logits=logits
        )
        return self._router(predictor), fit

    def _require(self, kind: str, which_P: Booleans) -> None:
        features = self.features.rows(which_P)
        if kind not in available(features):
            tasks = sorted({task for task in features.tasks if task is not None})
            raise ConfigError(
                f"router.kind is {kind!r}, which needs parallel prompts of two tasks or more; "
                f"found {tasks}. Set prompts.task_column to a column with their labels, or "
                "router.kind: auto."
            )

    def _heldout_logits(self, predictor: Predictor) -> Logits:
        return predictor.logits(self.features.rows(self.networks.data.heldout_P)).tolist()

    def _router(self, predictor: Predictor) -> Router:
        """The backbone with the predictor, and a head that tells nobody from another."""
        router = self.networks.frozen
        assert router is not None
        with torch.no_grad():
            router.head.weight.zero_()
            router.head.bias.zero_()
        router.config.loss = self.networks.config.loss
        router.predictor = predictor
        return router


def has_preferences(rewards_NM: np.ndarray) -> bool:
    """Whether a teacher's known reward is above another's on any prompt."""
    known_NM = ~np.isnan(rewards_NM)
    high_N = np.max(rewards_NM, axis=1, where=known_NM, initial=-np.inf)
    low_N = np.min(rewards_NM, axis=1, where=known_NM, initial=np.inf)
    return bool((high_N > low_N).any())
