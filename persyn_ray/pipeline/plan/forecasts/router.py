"""Forecasts step router: the recipe's section and the number of parallel prompts in; how many
networks are fitted, and on how many prompts, out.

All of it is at most: a fit stops early, and `auto` takes a network only where one is best. Other
kinds are solved in a moment once the prompts are embedded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from persyn_ray.method.predictors.choose import FEWEST, NETWORKS, NUM_FOLDS
from persyn_ray.recipe.router import RouterConfig


@dataclass(frozen=True)
class RouterForecast:
    """What is fitted in step router, over all fits."""

    heads: int
    """Fits of a head by itself, whose prompts are embedded once for all of them."""
    backbones: int
    """Fits of the whole backbone, or of its adapters."""
    prompts: float
    """Prompts that a backbone reads forward and backward, over all epochs of all fits."""


def forecast_router(config: RouterConfig, num_parallel: int) -> RouterForecast:
    """What step router fits, at most; a fit for each task (`router.transfer`) is not counted, as
    the tasks are not known before the prompts are read.
    """
    num_fit = round(num_parallel * (1 - config.heldout_fraction))
    head_fits: Sequence[float] = ()
    whole_fits: Sequence[float] = ()
    curve = [float(size) for size in config.learning_curve if size < num_fit] + [float(num_fit)]
    if config.kind == "auto":
        head_fits, whole_fits = _of_auto(config, curve, num_fit)
    elif config.kind == "fitted" and (config.freeze_backbone or config.extend is not None):
        head_fits = curve
    elif config.kind == "fitted":
        whole_fits = curve
    return RouterForecast(len(head_fits), len(whole_fits), sum(whole_fits) * config.epochs)


def _of_auto(
    config: RouterConfig, curve: Sequence[float], num_fit: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Prompts of each fit of a head, and of each of the whole: the folds, then the dearest that
    may be taken, as the run's router."""
    if num_fit < FEWEST:  # no networks are compared
        return (), ()
    folds = [num_fit * (1 - 1 / NUM_FOLDS)] * NUM_FOLDS
    head, whole = (folds if name in config.candidates else [] for name in NETWORKS)
    if whole:
        return head, [*whole, *curve]
    return [*head, *curve] if head else [], []


def told(found: RouterForecast) -> str | None:
    """The forecast in a sentence; None where no network is fitted."""
    parts = list(_parts(found))
    return f"Step router fits, at most, {' and '.join(parts)}." if parts else None


def _parts(found: RouterForecast) -> Iterator[str]:
    if found.backbones:
        yield (
            f"{_number(found.backbones, 'backbone')} (learning from {found.prompts:,.0f} prompts, "
            "all epochs counted)"
        )
    if found.heads:
        yield f"{_number(found.heads, 'head')} on prompts that are embedded once"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}"
