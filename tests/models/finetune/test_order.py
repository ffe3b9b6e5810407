"""The order of examples: each once an epoch, by seed and epoch alone, little padding."""

import numpy as np
import pytest

from persyn_ray.models.finetune.order import GlobalBatches

LENGTHS = np.random.default_rng(0).integers(5, 500, 1003).tolist()


@pytest.mark.parametrize("num", [1, 7, 8, 9, 1003])
def test_every_example_is_in_one_batch_of_an_epoch_and_the_rest_is_blank(num: int) -> None:
    order = GlobalBatches(LENGTHS[:num], 8, seed=1)
    batches_SB = order.batches(0)
    assert batches_SB.shape == (order.steps_per_epoch, 8)
    counts = np.bincount(batches_SB.ravel(), minlength=num + 1)
    assert counts[:num].tolist() == [1] * num
    assert counts[num:].tolist() == [-num % 8]
    assert (np.sum(batches_SB == order.blank, axis=1) > 0).sum() <= 1


def test_seed_and_epoch_decide_and_nothing_that_was_asked_before() -> None:
    order = GlobalBatches(LENGTHS, 16, seed=1)
    epochs = [order.batches(epoch).tolist() for epoch in range(3)]
    again = GlobalBatches(LENGTHS, 16, seed=1)
    assert [again.batches(epoch).tolist() for epoch in (2, 0, 1)] == [epochs[n] for n in (2, 0, 1)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert GlobalBatches(LENGTHS, 16, seed=2).batches(0).tolist() != epochs[0]


def test_iterating_and_steps_agree_with_the_batches() -> None:
    order = GlobalBatches(LENGTHS, 16, seed=1)
    order.epoch = 3
    assert list(order) == order.batches(3).ravel().tolist()
    assert len(list(order)) == len(order)
    step = 3 * order.steps_per_epoch + 5
    assert order.examples_of(step).tolist() == order.batches(3)[5].tolist()


def test_batches_hold_examples_of_about_equal_length_and_the_longest_comes_first() -> None:
    order = GlobalBatches(LENGTHS, 8, seed=1)
    lengths_SB = np.append(LENGTHS, 0)[order.batches(0)]
    assert lengths_SB[0].max() == max(LENGTHS)
    padded = lengths_SB.max(axis=1).sum() * 8
    at_random = np.append(LENGTHS, np.zeros(5, int)).reshape(-1, 8).max(axis=1).sum() * 8
    assert padded < 1.1 * sum(LENGTHS) < at_random


@pytest.mark.parametrize(("workers", "micro"), [(1, 12), (2, 3), (3, 2), (4, 1)])
def test_any_number_of_workers_sees_the_same_examples_in_every_step(
    workers: int, micro: int
) -> None:
    order = GlobalBatches(LENGTHS[:100], 12, seed=4)
    flat = list(order)
    micros = [flat[start : start + micro] for start in range(0, len(flat), micro)]
    dealt = [micros[worker::workers] for worker in range(workers)]  # as a data loader deals them
    per_step = 12 // (workers * micro)
    for step in range(order.steps_per_epoch):
        seen = [n for of in dealt for part in of[step * per_step :][:per_step] for n in part]
        assert sorted(seen) == sorted(order.examples_of(step).tolist())


def test_steps_are_counted_over_the_borders_of_epochs() -> None:
    order = GlobalBatches(LENGTHS[:50], 8, seed=4)
    steps = [order.examples_of(step) for step in range(3 * order.steps_per_epoch)]
    for epoch in range(3):
        of_epoch = np.concatenate(steps[epoch * 7 : (epoch + 1) * 7])
        assert sorted(of_epoch.tolist()) == [*range(50), *[order.blank] * 6]


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_example_is_in_the_first_step_of_every_epoch(seed: int) -> None:
    order = GlobalBatches([5, 9, 1, 7, 300, 2, 2, 8, 6, 4, 3], 3, seed)
    for epoch in range(4):
        assert 4 in order.batches(epoch)[0]


def test_examples_of_one_length_meet_others_in_every_epoch() -> None:
    order = GlobalBatches([7] * 64, 8, seed=0)
    partners = [
        frozenset(next(batch for batch in order.batches(epoch).tolist() if 0 in batch))
        for epoch in range(6)
    ]
    assert len(set(partners)) == 6


def test_a_batch_wider_than_all_examples_is_one_step() -> None:
    order = GlobalBatches([3, 1, 2], 8, seed=0)
    assert order.batches(0).tolist() == [[0, 2, 1, 3, 3, 3, 3, 3]]
    assert GlobalBatches([], 8, seed=0).steps_per_epoch == 0
