"""Students of the lab's experiments: one that is really tuned, and jobs whose time is over."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BLOCK, NUM_HELDOUT = 8, 4
SMALL = (
    "finetune.epochs=2",
    "finetune.batch_size=1",
    "finetune.micro_batch_size=1",
    "evaluate.max_tokens=8",
)


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with its scripts on the path, for its processes too."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from lab import bank

    return bank


def test_a_student_is_tuned_answers_the_heldout_problems_and_is_kept(
    bank: Any, tmp_path: Path
) -> None:
    from lab.world import Lab

    prompts, heldout = bank.problems(1, BLOCK, NUM_HELDOUT)
    responses = bank.Bank(prompts, (("1 + 1 = 2 # 2",) * BLOCK,), {}, np.zeros((BLOCK, 1)))
    asked = bank.Bank(heldout, (), {}, np.zeros((NUM_HELDOUT, 0)))
    recipe = ROOT / "jobs" / "second_world.yaml"
    lab = Lab(tmp_path, recipe, SMALL, responses, asked, 1, BLOCK, BLOCK // 2)
    tuning = lab.tuning(0, np.zeros(BLOCK, dtype=np.int64))
    assert not lab.is_tuned(tuning)
    correct_SP = lab.students([tuning])
    assert correct_SP.shape == (1, NUM_HELDOUT)
    assert set(correct_SP.ravel()) <= {0.0, 1.0}
    kept = json.loads((tmp_path / "students" / f"{tuning.key}.json").read_text())
    assert kept["loss"] > 0
    assert len(kept["correct"]) == NUM_HELDOUT
    assert lab.is_tuned(tuning)
    assert not (tmp_path / "fits" / tuning.key).exists()


@pytest.fixture
def threads(bank: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`in_processes`, in threads."""
    monkeypatch.setattr(bank, "ProcessPoolExecutor", lambda num, *_: ThreadPoolExecutor(num))
    return bank.in_processes


def test_no_job_begins_when_the_time_is_over(
    bank: Any, threads: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(bank.time, "monotonic", lambda: float(next(clock)))
    begun: list[int] = []
    with pytest.raises(bank.OutOfTime):
        threads(begun.append, [(n,) for n in range(9)], until=3.0)
    assert begun == [0, 1, 2]


def test_results_come_in_order_and_a_failure_ends_the_rest(
    threads: Callable[..., Any],
) -> None:
    assert threads(abs, [(n,) for n in (-3, 2, -1, 5)]) == [3, 2, 1, 5]
    begun: list[int] = []

    def fails_at_one(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        threads(fails_at_one, [(n,) for n in range(200)])
    assert len(begun) < 200
