"""Ablations: alpha, the size of the parallel set, a weak quality, the router's loss, CAR's beta."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lab.measures import estimate, few, fits, ranking, routed_with, variants_of
from lab.world import Lab, Teachers
from persyn_ray.pipeline.assign.methods import means
from persyn_ray.storage.layout import PERSYN


def alpha(lab: Lab) -> dict[str, Any]:
    """Alpha from 0 to 1, each with its router and students."""
    values = [round(0.1 * step, 1) for step in range(11)]
    return variants_of(lab, {f"alpha {v}": routed_with(lab, f"scoring.alpha={v}") for v in values})


def alpha_by_difficulty(lab: Lab) -> dict[str, Any]:
    """An alpha for each prompt by the share of teachers that are right, either way round."""
    rules = {"hard 0.2, easy 0.8": (0.2, 0.8), "hard 0.8, easy 0.2": (0.8, 0.2)}
    return variants_of(
        lab,
        {
            name: routed_with(lab, f"scoring.alpha_by_difficulty={{hard: {hard}, easy: {easy}}}")
            for name, (hard, easy) in rules.items()
        },
    )


def parallel_size(lab: Lab) -> dict[str, Any]:
    """Routers on fewer and more parallel prompts; students, on equally many examples, at the ends.

    The prompts of all seeds lie in disjoint blocks: a larger parallel set goes on into the next.
    """
    sizes = [n for n in (50, 100, 200, 400, 800, 1600, 2500) if n <= len(lab.bank.prompts)]
    seeds, found = few(lab), {}
    routers = {
        size: [
            lab.router(lab.recipe(seed), _from(lab, seed, size), lab.rows(seed)) for seed in seeds
        ]
        for size in sizes
    }
    lab.logits([fit for some in routers.values() for fit in some])
    logits = {size: lab.logits(some) for size, some in routers.items()}

    def variant(size: int) -> Callable[[int], Teachers]:
        return lambda seed: lab.choose(PERSYN, lab.recipe(seed), seed, logits[size][seed])

    ends = (sizes[0], sizes[-1])
    found["students"] = variants_of(lab, {str(size): variant(size) for size in ends})
    for size in sizes:
        parts = [ranking(lab, seed, logits[size][seed][lab.block :]) for seed in seeds]
        hit_SP, regret_SP, _ = (np.stack(rows) for rows in zip(*parts, strict=True))
        found[str(size)] = {"hit_at_1": estimate(hit_SP), "regret": estimate(regret_SP)}
    return found


def _from(lab: Lab, seed: int, size: int) -> list[int]:
    start = seed * lab.block
    return [(start + place) % len(lab.bank.prompts) for place in range(size)]


def weak_quality(lab: Lab) -> dict[str, Any]:
    """A checker that is wrong now and then: each verdict turned round with a chance of its own.

    The constant teacher is chosen by the same spoilt verdicts.
    """
    names, found = lab.recipe(0).pool.names, {}
    variants: dict[str, Callable[[int], Teachers]] = {}
    for chance in (0.1, 0.3):
        spoilt_PM = lab.bank.signals["quality"].copy()
        draws_PM = np.random.default_rng(0).random(spoilt_PM.shape)
        spoilt_PM = np.where(draws_PM < chance, 1 - spoilt_PM, spoilt_PM)
        seeds = few(lab)
        logits = lab.logits(
            [lab.router(lab.recipe(s), lab.parallel_rows(s), lab.rows(s), spoilt_PM) for s in seeds]
        )
        variants[f"persyn, {chance:.0%} wrong"] = lambda seed, logits=logits: lab.choose(
            PERSYN, lab.recipe(seed), seed, logits[seed]
        )
        constants = [
            int(np.argmax(means(lab.parallel(lab.recipe(s), s, spoilt_PM).signals.rewards_PM)))
            for s in seeds
        ]
        found[f"constant, {chance:.0%} wrong"] = [names[m] for m in constants]
        variants[f"constant, {chance:.0%} wrong"] = lambda seed, constants=constants: np.full(
            lab.block, constants[seed]
        )
    return {"students": variants_of(lab, variants), "constants": found}


def losses(lab: Lab) -> dict[str, Any]:
    """The router's other losses on the same parallel sets: rankings on the held-out problems."""
    seeds, found = range(lab.num_seeds), {}
    for loss in ("bradley_terry", "plackett_luce", "regression"):
        logits = lab.logits(fits(lab, seeds, f"router.loss={loss}"))
        parts = [ranking(lab, s, logits[s][lab.block :]) for s in seeds]
        hit_SP, regret_SP, _ = (np.stack(rows) for rows in zip(*parts, strict=True))
        found[loss] = {"hit_at_1": estimate(hit_SP), "regret": estimate(regret_SP)}
    return found


def car_beta(lab: Lab) -> dict[str, Any]:
    """Which teacher CAR takes, by beta, on every seed's parallel set."""
    names, found = lab.recipe(0).pool.names, {}
    for beta in (0.01, 0.1, 0.3, 1.0, 3.0, 10.0):
        recipe_of = [lab.recipe(s, f"compare.car_beta={beta}") for s in range(lab.num_seeds)]
        nothing_PM = np.zeros((lab.block, len(names)))
        taken = [lab.choose("car", r, s, nothing_PM)[0] for s, r in enumerate(recipe_of)]
        found[str(beta)] = {name: int(np.sum(np.array(taken) == m)) for m, name in enumerate(names)}
    return found
