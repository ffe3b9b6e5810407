"""The second world: what each rule chooses in it, by planted likelihoods; what is held apart."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persyn_ray.lab import tasks
from persyn_ray.lab.scripted import HABITS, is_short

ROOT = Path(__file__).parents[2]
NUM_PROMPTS, NUM_PARALLEL = 600, 200
WRITES = {
    "scripted-short": (HABITS["short"], None),
    "scripted-long": (HABITS["long"], None),
    "scripted-backwards": (HABITS["backwards"], -7.0),
    "strong": (tasks.long_winded, -6.0),
}
"""What a teacher writes, and how likely it is; without a figure it is -0.4 if right, else -0.2."""


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """The benchmarks' own package `lab`, which is found beside its scripts."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from lab import bank, second, world

    sys.path.remove(str(ROOT / "benchmarks"))
    return {"bank": bank, "second": second, "world": world}


@pytest.fixture(scope="module")
def lab(benchmarks: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One seed of the world without a model: responses by habit, likelihoods as planned."""
    bank, cache = benchmarks["bank"], tmp_path_factory.mktemp("second")
    prompts, heldout = bank.problems(1, NUM_PROMPTS, 40)
    drawn = [tasks.read(row[0]["content"]) for row in prompts["messages"].to_pylist()]
    problems = [problem for problem in drawn if problem]
    texts = [[write(problem) for problem in problems] for write, _ in WRITES.values()]
    quality_PM = np.array(
        [
            [
                tasks.check(text, problem.reference)
                for text, problem in zip(some, problems, strict=True)
            ]
            for some in texts
        ]
    ).T
    fluent_PM = np.where(quality_PM, -0.4, -0.2)
    likelihood_PM = np.stack(
        [
            fluent_PM[:, m] if fixed is None else np.full(NUM_PROMPTS, fixed)
            for m, (_, fixed) in enumerate(WRITES.values())
        ],
        axis=1,
    )
    signals = {"quality": quality_PM.astype(float), "log_likelihood": likelihood_PM}
    np.save(cache / f"embeddings-{NUM_PROMPTS}.npy", np.ones((NUM_PROMPTS, 2)))
    whole = bank.Bank(prompts, tuple(map(tuple, texts)), signals, np.ones_like(likelihood_PM))
    empty = bank.Bank(heldout, (), {}, np.zeros((40, 0)))
    recipe = ROOT / "jobs" / "second_world.yaml"
    return benchmarks["world"].Lab(cache, recipe, (), whole, empty, 1, NUM_PROMPTS, NUM_PARALLEL)


def taken(lab: Any, method: str) -> np.ndarray:
    """The teacher of each prompt by one method, with a router that knows nothing."""
    return lab.choose(method, lab.recipe(0), 0, np.zeros((NUM_PROMPTS, len(WRITES))))


def right(lab: Any, method: str) -> np.ndarray:
    """Whether the response chosen is right, by prompt."""
    return lab.bank.signals["quality"][np.arange(NUM_PROMPTS), taken(lab, method)] == 1


def test_the_recipe_has_the_teachers_that_are_planted_here(lab: Any) -> None:
    assert lab.recipe(0).pool.names == tuple(WRITES)


def test_quality_alone_is_right_and_mostly_unreadable(lab: Any) -> None:
    assert right(lab, "quality_only").all()
    unreadable = np.isin(taken(lab, "quality_only"), (2, 3)).mean()
    assert 0.55 < unreadable < 0.7


def test_learnability_alone_is_readable_and_mostly_wrong(lab: Any) -> None:
    assert np.isin(taken(lab, "learnability_only"), (0, 1)).all()
    assert right(lab, "learnability_only").mean() < 0.2


def test_both_signals_find_the_fluent_teacher_that_is_right(lab: Any) -> None:
    assert right(lab, "oracle").all()
    assert np.isin(taken(lab, "oracle"), (0, 1)).all()


@pytest.mark.parametrize("method", ["best_constant", "task_constant", "knn"])
def test_a_rule_that_does_not_see_length_is_wrong_on_short_problems(lab: Any, method: str) -> None:
    """The embeddings planted here are all alike: all that k-NN knows is the mean."""
    short_P = np.array([is_short(p) for p in map(tasks.read, lab.texts) if p])
    assert right(lab, method)[~short_P].mean() > 0.95
    assert right(lab, method)[short_P].mean() < 0.45


def test_figures_of_the_routing_are_those_of_the_choices(lab: Any, benchmarks: Any) -> None:
    second = benchmarks["second"]
    chosen = {name: [taken(lab, name)] for name in ("oracle", "quality_only", "task_constant")}
    by_length = second._right_by_length(lab, chosen)
    assert by_length["oracle"] == {"short": 1.0, "long": 1.0}
    assert by_length["task_constant"]["short"] < 0.45 < by_length["task_constant"]["long"]
    best = second._like_the_oracle(lab, chosen)
    assert best["oracle"] == {"mean": 1.0, "by_seed": [1.0]}
    assert 0.25 < best["quality_only"]["mean"] < 0.45


def test_what_is_tried_is_judged_on_problems_of_its_own(benchmarks: Any) -> None:
    bank = benchmarks["bank"]
    reported, tried = (bank.problems(2, 200, 200, first) for first in (0, bank.DEVELOPMENT))
    (blocks, heldout), (other_blocks, other_heldout) = (
        tuple(set(table["prompt_id"].to_pylist()) for table in pair) for pair in (reported, tried)
    )
    assert not blocks & heldout
    assert not other_blocks & other_heldout
    assert not heldout & (other_heldout | other_blocks)
    assert len(blocks & other_blocks) < 20
