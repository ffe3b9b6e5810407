"""What the lab's experiments share: students of chosen data, rankings, and figures with intervals.

Students' accuracies are means over seeds and held-out problems, with intervals over both
(statistics/significance.py). A difference is PerSyn minus the other, paired by seed and problem.
Axes: S seeds, P prompts or problems, M teachers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.bank import in_processes
from lab.students import RouterFit, answered
from lab.world import Lab, Teachers
from persyn_ray.method import metrics
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.statistics.significance import holm, mean_over_seeds, paired_difference
from persyn_ray.storage.layout import PERSYN

Floats = NDArray[np.float64]
FEW = 3  # seeds of the smaller experiments


def few(lab: Lab) -> range:
    """The seeds of a smaller experiment."""
    return range(min(FEW, lab.num_seeds))


def rounded(value: Any) -> Any:
    """Figures with four digits, however deep."""
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def estimate(values_SP: Floats) -> dict[str, Any]:
    """Mean over seeds and problems with its interval, and each seed's own."""
    found = mean_over_seeds(values_SP, seed=0)
    return rounded({**asdict(found), "by_seed": values_SP.mean(axis=1).tolist()})


def fits(lab: Lab, seeds: Sequence[int], *more: str) -> list[RouterFit]:
    """Each seed's router, under other settings where given."""
    return [
        lab.router(lab.recipe(seed, *more), lab.parallel_rows(seed), lab.rows(seed))
        for seed in seeds
    ]


def chosen_by(lab: Lab, seeds: Sequence[int], methods: Sequence[str]) -> dict[str, list[Teachers]]:
    """Each method's teachers for the block of each seed."""
    logits = lab.logits(fits(lab, seeds))
    return {
        method: [
            lab.choose(method, lab.recipe(seed), seed, logits_PM)
            for seed, logits_PM in zip(seeds, logits, strict=True)
        ]
        for method in methods
    }


def accuracies(
    lab: Lab, chosen: dict[str, list[Teachers]], seeds: Sequence[int] | None = None
) -> dict[str, Floats]:
    """Correct answers of every method's students, (S, P); all students tuned side by side."""
    names = list(chosen)
    seeds = range(lab.num_seeds) if seeds is None else seeds
    # Seed by seed, so that an interrupted run has whole seeds.
    order = [(name, place) for place in range(len(seeds)) for name in names]
    tunings = [lab.tuning(seeds[place], chosen[name][place]) for name, place in order]
    rows = dict(zip(order, lab.students(tunings), strict=True))
    return {name: np.stack([rows[name, place] for place in range(len(seeds))]) for name in names}


def before(lab: Lab) -> Floats:
    """The untuned student's verdicts, (P,)."""
    path = lab.cache / "before.npy"
    if not path.exists():
        recipe = lab.recipe(0)
        marks = in_processes(answered, [(recipe.student, recipe, lab.heldout.prompts)])[0]
        np.save(path, np.array([float(mark) for mark in marks]))
    return np.load(path)


def with_before(lab: Lab, correct: dict[str, Floats]) -> dict[str, Floats]:
    """Correct answers by method, and those of the untuned student for every seed."""
    return correct | {"before": np.tile(before(lab), (len(correct[PERSYN]), 1))}


def differences(
    lab: Lab,
    chosen: dict[str, list[Teachers]],
    correct: dict[str, Floats],
    beaten: Sequence[str],
) -> dict[str, Any]:
    """Accuracies, PerSyn's difference from every other, and the share of right answers in the data.

    Args:
        beaten: what PerSyn is to be above; their p-values are held together (Holm).
    """
    minus = {
        name: paired_difference(correct[PERSYN], values_SP, seed=0)
        for name, values_SP in correct.items()
        if name != PERSYN
    }
    return {
        "accuracy": {name: estimate(values_SP) for name, values_SP in correct.items()},
        "difference": {name: asdict(one) for name, one in minus.items()},
        "p_after_holm": holm({name: minus[name].p_value for name in beaten}),
        "correct_share": means_of_data(lab, chosen, "quality"),
    }


def means_of_data(lab: Lab, chosen: dict[str, list[Teachers]], signal: str) -> dict[str, float]:
    """Mean of a signal over each method's data: of `quality`, the share of right answers."""
    return {
        name: float(np.mean([of_chosen(lab, signal, s, t).mean() for s, t in enumerate(some)]))
        for name, some in chosen.items()
    }


def of_chosen(lab: Lab, signal: str, seed: int, teacher_P: Teachers) -> Floats:
    """A signal of the chosen responses of a seed's block, (P,)."""
    values_PM = lab.bank.signals[signal][np.asarray(lab.rows(seed))]
    return np.take_along_axis(values_PM, teacher_P[:, None], axis=1)[:, 0]


def ranking(lab: Lab, seed: int, logits_PM: Floats) -> tuple[Floats, Floats, Floats]:
    """Hit@1, regret and routed reward on the held-out problems, which all teachers answered."""
    recipe = lab.recipe(seed)
    truth = lab.heldout.rewards(recipe, range(len(lab.heldout.prompts)))
    breaks_PM = tie_breaks(truth.prompt_ids, recipe.pool.names, seed)
    teacher_P, _ = assign(logits_PM, breaks_PM)
    return (
        metrics.hit_at_k(logits_PM, truth.rewards_PM, 1),
        metrics.regret(truth.rewards_PM, teacher_P),
        metrics.routed_reward(truth.rewards_PM, teacher_P),
    )


def variants_of(lab: Lab, variants: dict[str, Callable[[int], Teachers]]) -> dict[str, Any]:
    """Students of variants of PerSyn on a few seeds, and their differences from the recipe's."""
    seeds = few(lab)
    chosen = {PERSYN: chosen_by(lab, seeds, (PERSYN,))[PERSYN]}
    chosen |= {name: [choose(seed) for seed in seeds] for name, choose in variants.items()}
    correct = accuracies(lab, chosen, seeds)
    right = rounded(means_of_data(lab, chosen, "quality"))
    return {
        name: {
            "accuracy": estimate(values_SP),
            "persyn_minus": rounded(asdict(paired_difference(correct[PERSYN], values_SP, seed=0))),
            "correct_share": right[name],
        }
        for name, values_SP in correct.items()
    }


def routed_with(lab: Lab, *more: str) -> Callable[[int], Teachers]:
    """PerSyn under other settings: a router of its own."""
    logits = lab.logits(fits(lab, few(lab), *more))
    return lambda seed: lab.choose(PERSYN, lab.recipe(seed, *more), seed, logits[seed])
