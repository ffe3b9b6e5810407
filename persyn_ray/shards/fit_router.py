"""Fit all routers of a run, as one worker of several does it: by the tables of the run folder.

The run's router is fitted on all parallel prompts but the held-out ones; others on fewer of them
(`router.learning_curve`) and on some of their tasks (`router.transfer`). Or a router that is there
gets columns for new teachers (`router.extend`). With a frozen backbone each prompt is embedded once
for all of them. RUN/router/fit.json says what came out:

    num_fit          parallel prompts that the run's router was fitted on
    loss_curve       [{step, train_loss, heldout_loss}] of that fit; empty for an extended router
    heldout_logits   {number of prompts: logits of the held-out prompts}
    transfer         heldout_tasks: [label of each held-out prompt, or null]
                     fits: [{fitted_on: [task], num_fit, heldout_logits}]
                     skipped: [[task]], with too few prompts
    extended         kept: [teacher]
                     columns: {teacher: {num_prompts, num_pairs, l2, temperature}}

Logits have a row per held-out prompt, in the order of the parallel shards, and a column per
teacher, in pool order. `transfer` and `extended` are there where the recipe asks for them. A fit on
some tasks is stopped early by their own held-out prompts, so the others' are new to it.

Axes: P prompts, M teachers, D hidden.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from persyn_ray.errors import ConfigError, advising
from persyn_ray.method.novelty import Novelty
from persyn_ray.method.preferences import preferences
from persyn_ray.models.fit import fit_router
from persyn_ray.models.load import load_tokenizer, on_device
from persyn_ray.models.router.frozen import feature_logits, prompt_features
from persyn_ray.models.router.head import fresh_head
from persyn_ray.models.router.model import (
    Router,
    build_router,
    encode_router_prompts,
    router_logits,
    save_router,
)
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.extend_router import extended_router
from persyn_ray.shards.parallel_set import Booleans, ParallelSet, chosen, parallel_set
from persyn_ray.stages.route import NOVELTY_FILE, TOKENS_PER_BATCH
from persyn_ray.storage.layout import run_of

MIN_PROMPTS = 20
"""Fewer prompts of some tasks are not worth a router of their own."""

NOVELTY_NEIGHBOURS = 5
"""Parallel prompts that a prompt must have close by, not to be novel."""

Facts = dict[str, Any]
Watch = Callable[[str], TrainerCallback]
"""Makes a watcher of one training, given what is fitted."""


def fit_routers(recipe: Recipe, watch: Watch | None = None, is_first: bool = True) -> int:
    """Fit what the recipe asks for; the first worker leaves it in RUN/router.

    Returns:
        The number of prompts that the run's router was fitted on.

    Raises:
        ConfigError: the prompts have no tasks to transfer between.
        DataError: a new teacher has no pair with those of the router to extend.
        PoolMismatchError: the router to extend holds a teacher that the recipe does not name.
    """
    data = parallel_set(recipe)
    with TemporaryDirectory() as scratch:
        if recipe.router.extend is not None:
            router, tokenizer, facts = extended_router(recipe, data, Path(scratch))
        else:
            fitting = _Fitting(recipe, data, Path(scratch), watch, is_first)
            transfer = {"transfer": fitting.transfer()} if recipe.router.transfer else {}
            router, facts = fitting.curve()
            tokenizer = fitting.tokenizer
            facts |= transfer
        if is_first:
            folder = Path(scratch) / "router"
            max_length = recipe.router.max_length
            features_PD = prompt_features(
                router, tokenizer, data.conversations, TOKENS_PER_BATCH, max_length
            )
            prior = _prior(router, features_PD)
            extra = {"num_fit": facts["num_fit"], "max_length": max_length, "prior": prior}
            save_router(router, tokenizer, folder, extra)
            _save_novelty(features_PD, folder)
            run_of(recipe).remove(run_of(recipe).router)
            run_of(recipe).router.upload(folder)
            run_of(recipe).router.write_json("fit.json", facts)
        return facts["num_fit"]


def _prior(router: Router, features_PD: Tensor) -> dict[str, float]:
    """The share of the parallel set that the router gives each teacher."""
    first_P = feature_logits(router.head, features_PD).argmax(axis=1)
    shares_M = np.bincount(first_P, minlength=len(router.config.teachers)) / len(first_P)
    return dict(zip(router.config.teachers, shares_M.tolist(), strict=True))


def _save_novelty(features_PD: Tensor, folder: Path) -> None:
    """Leave beside a router what tells prompts unlike those of its parallel set."""
    if len(features_PD) <= NOVELTY_NEIGHBOURS:
        return
    Novelty.fit(features_PD.float().numpy(), NOVELTY_NEIGHBOURS).save(folder / NOVELTY_FILE)


class _Fitting:
    """Fits routers on parts of the same prompts."""

    def __init__(
        self,
        recipe: Recipe,
        data: ParallelSet,
        scratch: Path,
        watch: Watch | None,
        is_first: bool,
    ) -> None:
        self.recipe, self.settings, self.data = recipe, recipe.router, data
        self.scratch, self.watch, self.is_first = scratch, watch, is_first
        backbone = self.settings.backbone
        self.tokenizer = load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
        self.frozen = on_device(self._built()) if self.settings.freeze_backbone else None
        self.rows = self._rows()

    def curve(self) -> tuple[Router, Facts]:
        """The run's router, fitted last, and its facts with those of the learning curve."""
        fit_P, out_P = ~self.data.heldout_P, self.data.heldout_P
        num_fit = int(fit_P.sum())
        logits: dict[str, Any] = {}
        for size in [*(s for s in self.settings.learning_curve if s < num_fit), num_fit]:
            first_P = fit_P & (fit_P.cumsum() <= size)
            router, losses = self._fit(first_P, out_P, f"router on {size} prompts")
            logits[str(size)] = self._heldout_logits(router)
        return router, {"num_fit": num_fit, "loss_curve": losses, "heldout_logits": logits}

    def transfer(self) -> Facts:
        """Fits without each task in turn and on each alone; two that are the same are one."""
        tasks = sorted({task for task in self.data.tasks if task is not None})
        if len(tasks) < 2:
            raise ConfigError(
                f"router.transfer needs parallel prompts of two tasks or more; found {tasks}. Set "
                "prompts.task_column to a column with their labels."
            )
        parts = [tuple(other for other in tasks if other != task) for task in tasks]
        parts += [(task,) for task in tasks]
        fits: list[Facts] = []
        skipped: list[list[str]] = []
        for part in dict.fromkeys(parts):
            of_part_P = np.array([task in part for task in self.data.tasks])
            fit_P, stop_P = of_part_P & ~self.data.heldout_P, of_part_P & self.data.heldout_P
            if fit_P.sum() < MIN_PROMPTS or not stop_P.any():
                skipped.append(list(part))
                continue
            router, _ = self._fit(fit_P, stop_P, f"router on {', '.join(part)}")
            facts = {"fitted_on": list(part), "num_fit": int(fit_P.sum())}
            fits.append(facts | {"heldout_logits": self._heldout_logits(router)})
        heldout_tasks = chosen(self.data.tasks, self.data.heldout_P)
        return {"heldout_tasks": heldout_tasks, "fits": fits, "skipped": skipped}

    def _fit(self, fit_P: Booleans, stop_P: Booleans, what: str) -> tuple[Router, list[Any]]:
        """A router fitted on some prompts and stopped early by others, and its loss curve."""
        router = self._unfitted()
        with TemporaryDirectory(dir=self.scratch) as checkpoints:
            losses = fit_router(
                router,
                self.tokenizer,
                chosen(self.rows, fit_P),
                chosen(self.rows, stop_P),
                self.settings,
                Path(checkpoints),
                num_workers=self.recipe.resources.router.workers,
                callbacks=[self.watch(what)] if self.watch else (),
            )
        return router, losses

    def _unfitted(self) -> Router:
        """A new router, or the frozen one with a new head."""
        if self.frozen is None:
            return self._built()
        num_teachers, seed = len(self.recipe.pool), self.settings.seed
        self.frozen.head = fresh_head(self.frozen.backbone, num_teachers, seed)
        return self.frozen

    def _built(self) -> Router:
        backbone = self.settings.backbone
        return build_router(
            backbone.name,
            self.recipe.pool.names,
            self.settings.pooling,
            backbone.dtype,
            self.settings.seed,
            backbone.revision,
        )

    def _rows(self) -> list[Facts]:
        """What each prompt is fitted with: tokens, or features of the frozen backbone."""
        data, max_length = self.data, self.settings.max_length
        if self.frozen is None:
            ids = encode_router_prompts(self.tokenizer, data.conversations, max_length)
            inputs = [{"input_ids": row} for row in ids]
        else:
            features_PD = prompt_features(
                self.frozen, self.tokenizer, data.conversations, TOKENS_PER_BATCH, max_length
            )
            inputs = [{"features": features_D} for features_D in features_PD]
        with advising("Change router.ties.", ConfigError):
            wins_PMM = preferences(data.rewards_PM, self.settings.ties)
        return [
            {**row, "wins": wins_MM, "rewards": rewards_M}
            for row, wins_MM, rewards_M in zip(inputs, wins_PMM, data.rewards_PM, strict=True)
        ]

    def _heldout_logits(self, router: Router) -> list[list[float]]:
        """Logits of the held-out prompts, which only the first worker keeps."""
        if not self.is_first:
            return []
        out_P, max_length = self.data.heldout_P, self.settings.max_length
        if self.frozen is not None:
            features = [row["features"] for row in chosen(self.rows, out_P)]
            return feature_logits(router.head, torch.stack(features)).tolist()
        out = chosen(self.data.conversations, out_P)
        return router_logits(router, self.tokenizer, out, TOKENS_PER_BATCH, max_length).tolist()
