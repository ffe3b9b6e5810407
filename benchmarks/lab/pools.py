"""Other pools: teachers of extreme sizes, teachers that join, second teachers on unsure prompts.

Axes: P prompts, M teachers, N teachers that join, each on every seed.
"""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lab.bank import fill, in_processes
from lab.measures import accuracies, chosen_by, estimate, few, fits, ranking, rounded
from lab.students import Newcomer, joined_logits
from lab.world import Lab
from persyn_ray.lab.build import Course, ModelSpec
from persyn_ray.method.allocation import tie_breaks
from persyn_ray.shards.tables import rewards_of
from persyn_ray.statistics.hedging import hedging_curve
from persyn_ray.statistics.significance import paired_difference
from persyn_ray.storage.layout import PERSYN

TINY = tuple(
    ModelSpec(f"tiny-{task}", (Course((task,), "named"),), hidden=24, layers=1, steps=4000)
    for task in ("max", "rev")
)
"""Teachers of about 8,000 weights, a hundredth of the strong one's."""


def extreme_scale(lab: Lab) -> dict[str, Any]:
    """A pool of the strong generalist and specialists with a hundredth of its weights."""
    weights = in_processes(_train_tiny, [(lab, spec) for spec in TINY])
    sampling = "sampling: {max_tokens: 96}"
    folders = {"strong": "package:persyn_ray/lab/assets/strong"}
    folders |= {spec.name: str(lab.cache / spec.name) for spec in TINY}
    teachers = ", ".join(
        f"{{name: {name}, engine: {{kind: transformers, model: {{name: '{folder}'}}, "
        f"batch_size: 256}}, {sampling}}}"
        for name, folder in folders.items()
    )
    family = f"compare.family=[{TINY[0].name}]"
    weak = f"compare.weak={TINY[0].name}"
    world = _with_pool(lab, "extreme", f"teachers=[{teachers}]", family, weak)
    seeds, methods = few(lab), (PERSYN, "random", "best_constant", "strong", "oracle")
    chosen = chosen_by(world, seeds, methods)
    correct = accuracies(world, chosen, seeds)
    return {
        "weights": dict(zip((spec.name for spec in TINY), weights, strict=True)),
        "strong_over_tiny": rounded(777_600 / max(weights)),
        "share_of_strong": {
            name: rounded(float(np.mean([np.mean(t == 0) for t in some])))
            for name, some in chosen.items()
        },
        "accuracy": {name: estimate(rows) for name, rows in correct.items()},
        "persyn_minus": {
            name: rounded(asdict(paired_difference(correct[PERSYN], rows, seed=0)))
            for name, rows in correct.items()
            if name != PERSYN
        },
    }


def newcomer(lab: Lab) -> dict[str, Any]:
    """Every teacher in turn joins a router fitted without it: Hit@1 against a full refit."""
    seeds, names = few(lab), lab.recipe(0).pool.names
    logits = lab.logits(fits(lab, seeds))
    full = [ranking(lab, s, logits[s][lab.block :])[0] for s in seeds]
    found: dict[str, Any] = {"full refit": estimate(np.stack(full))}
    for num_probe in (50, 200):
        jobs = [_newcomer(lab, seed, name, num_probe) for name in names for seed in seeds]
        in_processes(joined_logits, [(lab.cache, job) for job in jobs])
        hits_NP = [
            ranking(lab, seed, joined_logits(lab.cache, job)[lab.block :])[0]
            for job, seed in zip(jobs, [s for _ in names for s in seeds], strict=True)
        ]
        by_name = np.stack(hits_NP).reshape(len(names), len(seeds), -1)
        found[f"probe of {num_probe}"] = {
            "mean": rounded(float(by_name.mean())),
            "teachers": {name: estimate(hits) for name, hits in zip(names, by_name, strict=True)},
            "minus_full": rounded(
                asdict(paired_difference(by_name.mean(axis=0), np.stack(full), seed=0))
            ),
        }
    return found


def _newcomer(lab: Lab, seed: int, name: str, num_probe: int) -> Newcomer:
    recipe, rows = lab.recipe(seed), lab.parallel_rows(seed)
    place = recipe.pool.index(name)
    others = tuple(teacher for teacher in recipe.teachers if teacher.name != name)
    without = recipe.model_copy(
        update={"teachers": others, "compare": recipe.compare.model_copy(update={"weak": None})}
    )
    some = np.asarray(rows)
    columns = [m for m in range(len(recipe.pool)) if m != place]
    quality_PM = lab.bank.signals["quality"][some]
    learnability_PM = lab.bank.signals["log_likelihood"][some]
    old_PM = rewards_of(without.scoring, quality_PM[:, columns], learnability_PM[:, columns])
    rewards_PM = rewards_of(recipe.scoring, quality_PM, learnability_PM)
    # The first of the parallel set: its order is a draw already.
    rewards_PM[num_probe:, place] = np.nan
    fit = lab.router(recipe, rows, lab.rows(seed))._replace(recipe=without, rewards_PM=old_PM)
    return Newcomer(fit, recipe.pool.names, name, rewards_PM)


def hedging(lab: Lab) -> dict[str, Any]:
    """Reward against extra responses on the held-out problems, from routing to selecting."""
    shares = [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4]
    curves = []
    for seed in range(lab.num_seeds):
        recipe = lab.recipe(seed)
        truth = lab.heldout.rewards(recipe, range(len(lab.heldout.prompts)))
        logits_PM = lab.logits(fits(lab, [seed]))[0][lab.block :]
        breaks_PM = tie_breaks(truth.prompt_ids, recipe.pool.names, seed)
        curves.append(hedging_curve(logits_PM, truth.rewards_PM, shares, breaks_PM))
    return {
        "extra": shares,
        "reward": rounded(np.mean([curve.reward_S for curve in curves], axis=0).tolist()),
        "random": rounded(np.mean([curve.random_S for curve in curves], axis=0).tolist()),
        "reward_by_seed": rounded([curve.reward_S.tolist() for curve in curves]),
    }


def _train_tiny(lab: Lab, spec: ModelSpec) -> int:
    """Train a tiny teacher once; the number of its weights."""
    from persyn_ray.lab import build
    from persyn_ray.models.load import load_causal_lm

    folder = lab.cache / spec.name
    if not folder.exists():
        reserved = frozenset(lab.texts) | frozenset(lab.heldout_texts)
        build.save(build.train(spec, 0, reserved), folder)
    return load_causal_lm(str(folder), "float32").num_parameters()


def _with_pool(lab: Lab, name: str, *more: str) -> Lab:
    """The lab's first blocks and held-out problems with another pool."""
    overrides, folder = (*lab.overrides, *more), lab.cache / name
    prompts = lab.bank.prompts[: len(few(lab)) * lab.block]
    return replace(
        lab,
        overrides=overrides,
        bank=fill(folder / "bank", lab.recipe_path, overrides, prompts, lab.block),
        heldout=fill(folder / "heldout", lab.recipe_path, overrides, lab.heldout.prompts, 1000),
        num_seeds=len(few(lab)),
    )
