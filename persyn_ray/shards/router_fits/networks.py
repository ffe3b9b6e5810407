"""Fits networks as routers: prompts with their rewards in; routers and their fits out.

The run's router is fitted on all parallel prompts but the held-out ones; others on fewer of them
(`router.learning_curve`) and on some of their tasks (`router.transfer`). With a frozen backbone
each prompt is embedded once for all of them.

Axes: P prompts, M teachers, D hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback

from persyn_ray.errors import ConfigError, advising
from persyn_ray.method.preferences import preferences
from persyn_ray.models.collate import FeatureRow, RouterRow, TokenRow
from persyn_ray.models.fit import fit_router
from persyn_ray.models.load import load_tokenizer, on_device
from persyn_ray.models.router.frozen import feature_logits, prompt_features
from persyn_ray.models.router.head import fresh_head
from persyn_ray.models.router.model import (
    Router,
    build_router,
    encode_router_prompts,
    router_logits,
)
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.shards.parallel_set import Booleans, ParallelSet, chosen
from persyn_ray.stages.route import TOKENS_PER_BATCH
from persyn_ray.storage.fits import Logits, RouterFit, TransferFit, TransferFits
from persyn_ray.storage.results import TrainingLoss

Floats = NDArray[np.float64]
MIN_PROMPTS = 20
"""Fewer prompts of some tasks are not worth a router of their own."""

Watch = Callable[[str], TrainerCallback]
"""Makes a watcher of one training, given what is fitted."""


@dataclass(eq=False)
class NetworkFits:
    """Fits routers on parts of the same prompts."""

    config: RouterConfig
    pool: TeacherPool
    data: ParallelSet
    scratch: Path
    num_workers: int
    watch: Watch | None
    is_first: bool

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's."""
        backbone = self.config.backbone
        return load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)

    @cached_property
    def frozen(self) -> Router | None:
        """With a frozen backbone the router whose head alone is new in every fit."""
        return on_device(self._built()) if self.config.freeze_backbone else None

    def curve(self) -> tuple[Router, RouterFit]:
        """The run's router, fitted last, and its fit with the logits of the learning curve."""
        fit_P, out_P = ~self.data.heldout_P, self.data.heldout_P
        num_fit = int(fit_P.sum())
        logits: dict[int, Logits] = {}
        for size in [*(s for s in self.config.learning_curve if s < num_fit), num_fit]:
            first_P = fit_P & (fit_P.cumsum() <= size)
            router, losses = self.fit(first_P, out_P, f"router on {size} prompts")
            logits[size] = self._heldout_logits(router)
        return router, RouterFit(num_fit=num_fit, loss_curve=losses, heldout_logits=logits)

    def transfer(self) -> TransferFits:
        """Fits without each task in turn and on each alone; two that are the same are one."""
        tasks = sorted({task for task in self.data.tasks if task is not None})
        if len(tasks) < 2:
            raise ConfigError(
                f"router.transfer needs parallel prompts of two tasks or more; found {tasks}. Set "
                "prompts.task_column to a column with their labels."
            )
        parts = [tuple(other for other in tasks if other != task) for task in tasks]
        parts += [(task,) for task in tasks]
        fits = {part: self._fit_on(part) for part in dict.fromkeys(parts)}
        return TransferFits(
            heldout_tasks=chosen(self.data.tasks, self.data.heldout_P),
            fits=[fit for fit in fits.values() if fit is not None],
            skipped=[list(part) for part, fit in fits.items() if fit is None],
        )

    def _fit_on(self, tasks: tuple[str, ...]) -> TransferFit | None:
        """A fit on the prompts of some tasks; None where they are too few."""
        of_part_P = np.array([task in tasks for task in self.data.tasks])
        fit_P, stop_P = of_part_P & ~self.data.heldout_P, of_part_P & self.data.heldout_P
        if fit_P.sum() < MIN_PROMPTS or not stop_P.any():
            return None
        router, _ = self.fit(fit_P, stop_P, f"router on {', '.join(tasks)}")
        return TransferFit(
            fitted_on=list(tasks),
            num_fit=int(fit_P.sum()),
            heldout_logits=self._heldout_logits(router),
        )

    def fit(
        self, fit_P: Booleans, stop_P: Booleans, what: str
    ) -> tuple[Router, list[TrainingLoss]]:
        """A router fitted on some prompts and stopped early by others, and its loss curve."""
        router = self._unfitted()
        with TemporaryDirectory(dir=self.scratch) as checkpoints:
            losses = fit_router(
                router,
                self.tokenizer,
                chosen(self.rows, fit_P),
                chosen(self.rows, stop_P),
                self.config,
                Path(checkpoints),
                num_workers=self.num_workers,
                callbacks=[self.watch(what)] if self.watch else (),
            )
        return router, losses

    def _unfitted(self) -> Router:
        """A new router, or the frozen one with a new head."""
        if self.frozen is None:
            return self._built()
        self.frozen.head = fresh_head(self.frozen.backbone, len(self.pool), self.config.seed)
        return self.frozen

    def _built(self) -> Router:
        backbone = self.config.backbone
        return build_router(
            backbone.name,
            self.pool.names,
            self.config.pooling,
            backbone.dtype,
            self.config.seed,
            backbone.revision,
        )

    @cached_property
    def features_PD(self) -> Tensor | None:
        """What a frozen backbone makes of each prompt."""
        if self.frozen is None:
            return None
        conversations, max_length = self.data.conversations, self.config.max_length
        return prompt_features(
            self.frozen, self.tokenizer, conversations, TOKENS_PER_BATCH, max_length
        )

    @cached_property
    def rows(self) -> Sequence[RouterRow]:
        """What each prompt is fitted with: tokens, or features of the frozen backbone."""
        rewards_PM, conversations = self.data.rewards_PM, self.data.conversations
        with advising("Change router.ties.", ConfigError):
            wins_PMM = preferences(rewards_PM, self.config.ties)
        if self.features_PD is not None:
            return [
                FeatureRow(features=features_D, wins=wins_MM, rewards=rewards_M)
                for features_D, wins_MM, rewards_M in zip(
                    self.features_PD, wins_PMM, rewards_PM, strict=True
                )
            ]
        ids = encode_router_prompts(self.tokenizer, conversations, self.config.max_length)
        return [
            TokenRow(input_ids=row, wins=wins_MM, rewards=rewards_M)
            for row, wins_MM, rewards_M in zip(ids, wins_PMM, rewards_PM, strict=True)
        ]

    def _heldout_logits(self, router: Router) -> Logits:
        """Logits of the held-out prompts, which only the first worker keeps."""
        return self.logits(router, self.data.heldout_P).tolist() if self.is_first else []

    def logits(self, router: Router, which_P: Booleans) -> Floats:
        """Logits of some of the prompts."""
        if self.features_PD is not None:
            return feature_logits(router.head, self.features_PD[torch.from_numpy(which_P)])
        some, max_length = chosen(self.data.conversations, which_P), self.config.max_length
        return router_logits(router, self.tokenizer, some, TOKENS_PER_BATCH, max_length)
