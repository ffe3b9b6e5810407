"""Routers for Python: prompts with their rewards in, a router out; prompts in, teachers out.

A router is fitted on this machine, without Ray, and is saved as the folder that `persyn route`,
`persyn serve` and a run's RUN/router read.

Axes: P prompts, M teachers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.library.prompts import Prompts, conversations_of, ids_of
from persyn_ray.models.router.model import RouterModelConfig, save_router
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.routing.choose import Rule, choose
from persyn_ray.routing.score import TOKENS_PER_BATCH, readable
from persyn_ray.serving.router_model import RouterModel
from persyn_ray.serving.router_source import settings_of
from persyn_ray.shards.fit_router import fit_to_folder
from persyn_ray.shards.parallel_set import ParallelSet
from persyn_ray.shards.tables import heldout_mask
from persyn_ray.stages.route import NOVELTY_FILE
from persyn_ray.storage.fits import RouterFit, write_router_fit
from persyn_ray.storage.folder import Folder

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Routes:
    """Where P prompts go, in their order."""

    pool: tuple[str, ...]
    """The router's M teachers, in the order of the columns of `probabilities`."""
    teachers: tuple[str | None, ...]
    """One for each prompt; None where the router cannot read it."""
    probabilities: Floats
    """Shape (P, M), each row adds up to 1: exp(logit) over the sum of exp(logits). NaN where the
    router cannot read the prompt; 0 for a teacher that was left out."""
    margins: Floats
    """How far the chosen teacher's logit is ahead of the second best, in logits, shape (P,)."""
    distances: Floats | None
    """Cosine distance to the prompts that the router was fitted on, shape (P,); None where the
    router does not tell."""
    is_novel: NDArray[np.bool_] | None
    """Whether a prompt is unlike those, shape (P,)."""
    refused: tuple[str | None, ...]
    """Why the router cannot read a prompt."""

    def to_arrow(self) -> pa.Table:
        """Columns teacher, margin and probabilities ({teacher: number}), a row for each prompt."""
        each = [pa.array(self.probabilities[:, m]) for m in range(len(self.pool))]
        columns = {
            "teacher": pa.array(self.teachers, pa.string()),
            "margin": pa.array(self.margins, from_pandas=True),
            "probabilities": pa.StructArray.from_arrays(each, list(self.pool)),
        }
        return pa.table(columns)


class Router:
    """A fitted router. `fit_router` makes one, `Router.load` reads one."""

    def __init__(
        self, model: RouterModel, fit: RouterFit | None = None, masked: Sequence[str] = ()
    ) -> None:
        self._model, self.masked = model, tuple(masked)
        self.fit = fit
        """Loss curve of the fit, and logits of the prompts that were held out of it; None for a
        router that was loaded."""

    @classmethod
    def load(cls, source: str | Path) -> "Router":
        """A saved router: its folder, or a run folder whose step router is done.

        Raises:
            ConfigError: there is no router.
        """
        address, settings = settings_of(str(source))
        return cls(RouterModel(address), masked=settings.masked)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The pool."""
        return self._model.teachers

    @property
    def kind(self) -> str:
        """What it is, see `RouterConfig.kind`."""
        return self._model.kind

    def save(self, folder: str | Path) -> None:
        """Write it where `Router.load`, `persyn route` and `persyn serve` find it; a folder that is
        there must be empty or a router.

        Raises:
            ConfigError: the folder holds something else.
        """
        place, network = Folder.absolute(str(folder)), self._model.router
        if place.names() and not _is_router(place):
            raise ConfigError(f"{folder} holds something that is no router: name another folder.")
        with TemporaryDirectory() as scratch:
            files = Path(scratch) / "router"
            save_router(network, self._model.tokenizer, files, network.config.extra)
            if self._model.novelty is not None:
                self._model.novelty.save(files / NOVELTY_FILE)
            place.upload(files)
        if self.fit is not None:
            write_router_fit(place, self.fit)

    def route(
        self,
        prompts: Prompts,
        *,
        tasks: Sequence[str | None] | None = None,
        excluded: Sequence[str] = (),
        seed: int = 0,
    ) -> Routes:
        """A teacher for each prompt: that of the highest logit.

        Args:
            tasks: labels of the prompts, None where there is none, for kinds that go by tasks.
            excluded: teachers that get nothing.
            seed: of the draws among exact equals.

        Raises:
            ConfigError: an excluded teacher is unknown, or nobody is left.
            DataError: a prompt is none, or tasks and prompts differ in number.
        """
        model, conversations = self._model, conversations_of(prompts)
        labels = _labels(tasks, len(conversations))
        found = readable(model, conversations)
        read = [place for place, one in enumerate(found) if not isinstance(one, str)]
        logits_PM = np.full((len(found), len(model.teachers)), np.nan)
        distance_P = np.full(len(found), np.nan)
        is_novel_P = np.zeros(len(found), dtype=np.bool_)
        if read:
            rows = [one for one in found if isinstance(one, list)]
            scores = model.score(rows, TOKENS_PER_BATCH, [labels[place] for place in read])
            logits_PM[read] = scores.logits_PM
            if scores.distances is not None:
                distance_P[read], is_novel_P[read] = zip(*scores.distances, strict=True)
        masked = tuple(dict.fromkeys((*self.masked, *excluded)))
        rule = Rule(model.teachers, masked, seed=seed, is_reward=model.loss == "regression")
        chosen = choose(rule, ids_of(conversations), logits_PM)
        tells = model.novelty is not None
        return Routes(
            pool=model.teachers,
            teachers=tuple(model.teachers[m] if m >= 0 else None for m in chosen.teacher_P),
            probabilities=_probabilities(rule.open_logits(logits_PM)),
            margins=chosen.margin_P,
            distances=distance_P if tells else None,
            is_novel=is_novel_P if tells else None,
            refused=tuple(one if isinstance(one, str) else None for one in found),
        )


def fit_router(
    prompts: Prompts,
    rewards: Any,
    *,
    teachers: Sequence[str] | None = None,
    tasks: Sequence[str | None] | None = None,
    backbone: str | None = None,
    settings: RouterConfig | None = None,
) -> Router:
    """Fit a router on prompts whose rewards are known (Eq. 4), on this machine.

        router = persyn.fit_router(df["prompt"], df[["ada", "bert"]], backbone="Qwen/Qwen2.5-0.5B")
        router.route(["What is 2+2?"]).teachers

    Args:
        prompts: P texts or conversations.
        rewards: an array of shape (P, M), or a table of Arrow or pandas (or a dict) with a column
            for each teacher; more is better, NaN where unknown. `rewards` of this package makes
            them of quality and learnability.
        teachers: names of the M columns of an array.
        tasks: labels of the prompts, None where there is none, for `settings.kind` and
            `settings.transfer`.
        backbone: the model that reads the prompts, with the recipe's defaults for all else.
        settings: the recipe's `router` section, in place of `backbone`.

    Raises:
        ConfigError: not one of backbone and settings is given, or a setting goes by tasks and there
            are none.
        DataError: rewards and prompts do not fit together, or no teacher beats another anywhere,
            which a router of kind fitted needs.
    """
    config = _settings(backbone, settings)
    conversations = conversations_of(prompts)
    names, rewards_PM = _matrix(rewards, teachers)
    _require_fit(rewards_PM, len(conversations))
    if config.kind == "fitted":
        _require_preferences(rewards_PM)
    ids = ids_of(conversations)
    data = ParallelSet(
        tuple(ids),
        conversations,
        _labels(tasks, len(ids)),
        rewards_PM,
        heldout_mask(ids, config.heldout_fraction, config.seed),
    )
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "router"
        fit = fit_to_folder(data, config, TeacherPool(names), folder)
        return Router(RouterModel(str(folder)), fit)


def route(
    router: Router | str | Path,
    prompts: Prompts,
    *,
    tasks: Sequence[str | None] | None = None,
    excluded: Sequence[str] = (),
) -> Routes:
    """A teacher for each prompt, by a router or the folder of one; see `Router.route`."""
    found = router if isinstance(router, Router) else Router.load(router)
    return found.route(prompts, tasks=tasks, excluded=excluded)


def _is_router(place: Folder) -> bool:
    config = place.read_json("config.json") if place.exists("config.json") else {}
    return config.get("model_type") == RouterModelConfig.model_type


def _settings(backbone: str | None, settings: RouterConfig | None) -> RouterConfig:
    if (backbone is None) == (settings is None):
        raise ConfigError(
            "fit_router needs either backbone (a model's name) or settings (a RouterConfig)."
        )
    if settings is None:
        assert backbone is not None
        given = {"backbone": ModelConfig(name=backbone)}  # pyright: ignore[reportCallIssue]
        return RouterConfig.model_validate(given)
    return settings


def _matrix(rewards: Any, teachers: Sequence[str] | None) -> tuple[tuple[str, ...], Floats]:
    """Teachers and rewards (P, M)."""
    names = _columns(rewards)
    if names is not None:
        names = [name for name in names if teachers is None or name in teachers]
        rewards = np.stack([_floats(rewards[name]) for name in names], axis=1) if names else []
    rewards_PM = _floats(rewards)
    given = tuple(names if names is not None else teachers or ())
    if rewards_PM.ndim != 2 or rewards_PM.shape[1] != len(given):
        raise DataError(
            f"Rewards have shape {rewards_PM.shape} for the teachers {given}: it must be (prompts, "
            "teachers), and an array needs `teachers`, a name for each of its columns."
        )
    return given, rewards_PM


def _columns(rewards: Any) -> list[str] | None:
    """Names of a table's columns; None for an array."""
    if isinstance(rewards, pa.Table):
        return rewards.column_names
    if isinstance(rewards, Mapping):
        return list(rewards)
    columns = getattr(rewards, "columns", None)  # of pandas
    return None if columns is None else [str(name) for name in columns]


def _floats(values: Any) -> Floats:
    if isinstance(values, pa.ChunkedArray):
        values = values.to_pylist()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Rewards must be numbers, NaN where unknown: {error}.") from None


def _labels(tasks: Sequence[str | None] | None, num_prompts: int) -> list[str | None]:
    labels: list[str | None] = [None] * num_prompts if tasks is None else list(tasks)
    if len(labels) != num_prompts:
        raise DataError(f"There are {num_prompts} prompts and {len(labels)} `tasks`.")
    return labels


def _require_fit(rewards_PM: Floats, num_prompts: int) -> None:
    if len(rewards_PM) != num_prompts:
        raise DataError(f"There are {num_prompts} prompts and rewards of {len(rewards_PM)}.")
    if np.isinf(rewards_PM).any():
        raise DataError("A reward is infinite; use NaN for an unknown one.")


def _require_preferences(rewards_PM: Floats) -> None:
    known_PM = ~np.isnan(rewards_PM)
    high_P = np.max(rewards_PM, axis=1, where=known_PM, initial=-np.inf)
    low_P = np.min(rewards_PM, axis=1, where=known_PM, initial=np.inf)
    if (high_P > low_P).sum() < 2:
        raise DataError(
            "A router needs two prompts at least on which one teacher's reward is above another's."
        )


def _probabilities(open_PM: Floats) -> Floats:
    """Luce's choice axiom over the logits that are known; NaN where none is."""
    is_known_P1 = (~np.isnan(open_PM)).any(axis=1, keepdims=True)
    filled_PM = np.where(np.isnan(open_PM), -np.inf, open_PM)
    top_P1 = np.where(is_known_P1, filled_PM.max(axis=1, keepdims=True, initial=-np.inf), 0.0)
    odds_PM = np.exp(filled_PM - top_P1)
    total_P1 = np.where(is_known_P1, odds_PM.sum(axis=1, keepdims=True), 1.0)
    return np.where(is_known_P1, odds_PM / total_P1, np.nan)
