from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from persyn_ray.method.preferences import Ties, preferences
from persyn_ray.models.router.losses import (
    TARGETS,
    Loss,
    bradley_terry_loss,
    plackett_luce_loss,
    regression_loss,
    router_loss,
)

NAN = float("nan")
Compute = Callable[[Tensor, NDArray[np.float64]], Tensor]


def _by_rewards(loss: Loss, ties: Ties = "drop") -> Compute:
    """A loss as a function of logits and rewards, whatever its target."""

    def compute(logits_BM: Tensor, rewards_BM: NDArray[np.float64]) -> Tensor:
        target = rewards_BM if TARGETS[loss] == "rewards" else preferences(rewards_BM, ties)
        return router_loss(loss, logits_BM, torch.from_numpy(target))

    return compute


ALL = {f"{loss}-{ties}": _by_rewards(loss, ties) for loss in TARGETS for ties in ("drop", "half")}
every_loss = pytest.mark.parametrize("loss", ALL.values(), ids=ALL.keys())


def _logits_and_rewards(
    seed: int, shape: tuple[int, int] = (7, 5)
) -> tuple[Tensor, NDArray[np.float64]]:
    """Rewards with ties and unknown ones among them."""
    draw = np.random.default_rng(seed)
    rewards_BM = draw.integers(0, 4, shape).astype(float)
    rewards_BM[draw.random(shape) < 0.2] = NAN
    return torch.from_numpy(draw.normal(size=shape)), rewards_BM


def _random(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_BM = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    rewards_BM = torch.randint(0, 4, (6, 5), generator=generator)
    return logits_BM, (rewards_BM[:, :, None] > rewards_BM[:, None, :]).double()


def _pair_by_pair(logits_BM: Tensor, wins_BMM: Tensor) -> Tensor:
    losses = [
        -logsigmoid(logits_BM[prompt, winner] - logits_BM[prompt, loser])
        for prompt, winner, loser in wins_BMM.nonzero().tolist()
    ]
    return torch.stack(losses).mean()


def test_equals_the_mean_over_single_pairs_with_its_gradient() -> None:
    logits_BM, wins_BMM = _random()
    grouped, single = bradley_terry_loss(logits_BM, wins_BMM), _pair_by_pair(logits_BM, wins_BMM)
    (gradient,) = torch.autograd.grad(grouped, logits_BM)
    (expected,) = torch.autograd.grad(single, logits_BM)
    torch.testing.assert_close(grouped, single, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_equals_a_numpy_writing_with_half_wins() -> None:
    logits_BM, wins_BMM = _random(1)
    ties_BMM = 1 - wins_BMM - wins_BMM.transpose(1, 2) - torch.eye(5, dtype=torch.float64)
    wins_BMM = wins_BMM + 0.5 * ties_BMM
    o, w = logits_BM.detach().numpy(), wins_BMM.numpy()
    p = 1 / (1 + np.exp(o[:, None, :] - o[:, :, None]))
    expected = -(w * np.log(p)).sum() / w.sum()
    assert abs(float(bradley_terry_loss(logits_BM.detach(), wins_BMM)) - expected) < 1e-12


def test_a_known_value() -> None:
    wins = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    loss = bradley_terry_loss(torch.tensor([[np.log(3.0), 0.0]]), wins)
    assert abs(float(loss) + np.log(0.75)) < 1e-6  # odds of 3 to 1


def test_a_margin_of_a_thousand_stays_finite() -> None:
    wins = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    lost = torch.tensor([[-500.0, 500.0]], requires_grad=True)
    loss = bradley_terry_loss(lost, wins)
    loss.backward()
    assert float(loss.detach()) == 1000.0
    assert lost.grad is not None
    assert lost.grad.tolist() == [[-1.0, 1.0]]
    assert float(bradley_terry_loss(-lost.detach(), wins)) == 0.0


def test_no_pair_costs_nothing_and_can_be_differentiated() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = bradley_terry_loss(logits, torch.zeros(3, 4, 4))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0.0


def test_a_shift_of_a_prompt_and_another_order_of_teachers_change_nothing() -> None:
    logits_BM, wins_BMM = _random(2)
    loss = bradley_terry_loss(logits_BM, wins_BMM)
    shift_B1 = torch.arange(6, dtype=torch.float64)[:, None]
    order = torch.tensor([3, 1, 4, 0, 2])
    moved = bradley_terry_loss(logits_BM[:, order], wins_BMM[:, order][:, :, order])
    torch.testing.assert_close(bradley_terry_loss(logits_BM + shift_B1, wins_BMM), loss)
    torch.testing.assert_close(moved, loss)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits_BM, wins_BMM = _random(3)
    loss = bradley_terry_loss(logits_BM.detach().bfloat16(), wins_BMM)
    assert loss.dtype == torch.float32


def _chance_of_order(logits: list[float], order: tuple[int, ...]) -> float:
    """Of drawing teachers without replacement, each in proportion to exp of its logit."""
    chance, left = 1.0, sum(np.exp(logits))
    for teacher in order:
        chance *= np.exp(logits[teacher]) / left
        left -= np.exp(logits[teacher])
    return chance


def test_plackett_luce_is_the_chance_of_drawing_the_ranking_one_by_one() -> None:
    logits = [0.3, -1.2, 0.8, 2.0]
    total = 0.0
    for order in permutations(range(4)):
        rewards = np.argsort(order)[None] * -1.0  # the first drawn has the highest
        loss = _by_rewards("plackett_luce")(torch.tensor([logits], dtype=torch.float64), rewards)
        assert float(loss) == pytest.approx(-np.log(_chance_of_order(logits, order)))
        total += np.exp(-float(loss))
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("ties", ["drop", "half"])
def test_plackett_luce_equals_a_writing_place_by_place(ties: Ties) -> None:
    logits_BM, rewards_BM = _logits_and_rewards(4)
    losses: list[float] = []
    for logits, rewards in zip(logits_BM.tolist(), rewards_BM, strict=True):
        known = [i for i in range(5) if not np.isnan(rewards[i])]
        terms: list[float] = []
        for i in known:
            equal = [j for j in known if rewards[j] == rewards[i] and (ties == "half" or j == i)]
            rivals = equal + [j for j in known if rewards[j] < rewards[i]]
            terms.append(np.log(sum(np.exp(logits[j]) for j in rivals)) - logits[i])
        if any(_is_compared(rewards[i], rewards[j], ties) for i in known for j in known if i != j):
            losses.append(sum(terms))
    found = float(_by_rewards("plackett_luce", ties)(logits_BM, rewards_BM))
    assert found == pytest.approx(np.mean(losses), abs=1e-12)


def _is_compared(first: float, second: float, ties: Ties) -> bool:
    return first != second or ties == "half"


def test_plackett_luce_of_two_teachers_is_bradley_terry() -> None:
    logits_BM, rewards_BM = _logits_and_rewards(5, (20, 2))
    rewards_BM = rewards_BM[(rewards_BM[:, 0] != rewards_BM[:, 1]) & ~np.isnan(rewards_BM).any(1)]
    logits_BM = logits_BM[: len(rewards_BM)]
    pairs = _by_rewards("bradley_terry")(logits_BM, rewards_BM)
    ranking = _by_rewards("plackett_luce")(logits_BM, rewards_BM)
    torch.testing.assert_close(ranking, pairs, atol=1e-12, rtol=0)


def test_regression_is_half_the_mean_squared_error_of_all_differences() -> None:
    logits_BM, rewards_BM = _logits_and_rewards(6)
    errors, num = 0.0, 0
    for logits, rewards in zip(logits_BM.numpy(), rewards_BM, strict=True):
        known = np.flatnonzero(~np.isnan(rewards))
        if len(known) > 1:
            gaps = np.subtract.outer(logits[known] - rewards[known], logits[known] - rewards[known])
            errors += (gaps**2).sum() / (2 * len(known))
            num += len(known)
    found = float(_by_rewards("regression")(logits_BM, rewards_BM))
    assert found == pytest.approx(errors / num, abs=1e-12)
    assert (
        float(
            regression_loss(torch.from_numpy(rewards_BM).nan_to_num(), torch.from_numpy(rewards_BM))
        )
        == 0
    )


@every_loss
def test_neither_a_shift_of_a_prompt_nor_the_order_of_teachers_matters(loss: Compute) -> None:
    logits_BM, rewards_BM = _logits_and_rewards(7)
    value = loss(logits_BM, rewards_BM)
    order = np.array([3, 1, 4, 0, 2])
    shift_B1 = torch.arange(7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(logits_BM[:, order], rewards_BM[:, order]), value)
    torch.testing.assert_close(loss(logits_BM + shift_B1, rewards_BM), value)
    assert float(value) > 0


@every_loss
def test_a_teacher_without_a_reward_is_as_if_it_were_not_there(loss: Compute) -> None:
    logits_BM, rewards_BM = _logits_and_rewards(8)
    rewards_BM[:, 2] = NAN
    logits_BM.requires_grad_()
    value = loss(logits_BM, rewards_BM)
    (gradient,) = torch.autograd.grad(value, logits_BM)
    assert gradient[:, 2].tolist() == [0.0] * 7
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0
    others = [0, 1, 3, 4]
    torch.testing.assert_close(loss(logits_BM[:, others], rewards_BM[:, others]), value)


@every_loss
def test_gradients_are_those_of_finite_differences(loss: Compute) -> None:
    logits_BM, rewards_BM = _logits_and_rewards(9)
    logits_BM.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits_BM, rewards_BM), logits_BM)
    step = 1e-6
    for row, column in np.ndindex(*logits_BM.shape):
        moved = [logits_BM.detach().clone() for _ in range(2)]
        moved[0][row, column] -= step
        moved[1][row, column] += step
        low, high = (float(loss(logits, rewards_BM)) for logits in moved)
        assert float(gradient[row, column]) == pytest.approx((high - low) / (2 * step), abs=1e-8)


@every_loss
def test_nothing_known_costs_nothing_and_can_be_differentiated(loss: Compute) -> None:
    logits_BM = torch.randn(3, 4, requires_grad=True)
    rewards_BM = np.full((3, 4), NAN)
    rewards_BM[0, 0] = 1.0  # one alone is in no pair
    value = loss(logits_BM, rewards_BM)
    value.backward()
    assert float(value.detach()) == 0.0
    assert logits_BM.grad is not None
    assert float(logits_BM.grad.abs().sum()) == 0.0


@every_loss
def test_descent_ends_with_the_best_teacher_on_top(loss: Compute) -> None:
    _, rewards_BM = _logits_and_rewards(10)
    rewards_BM += 0.1 * np.random.default_rng(0).random(rewards_BM.shape)  # no ties
    logits_BM = torch.zeros(rewards_BM.shape, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits_BM], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        loss(logits_BM, rewards_BM).backward()
        optimiser.step()
    known_BM = torch.from_numpy(~np.isnan(rewards_BM))
    found = logits_BM.detach().masked_fill(~known_BM, -torch.inf).argmax(1)
    assert found.tolist() == np.nanargmax(rewards_BM, axis=1).tolist()


def test_equally_good_teachers_get_equal_logits_where_ties_count() -> None:
    rewards_BM = np.array([[1.0, 1.0, 0.0]])
    for loss in ("bradley_terry", "plackett_luce"):
        logits_BM = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(
            _by_rewards(loss, "half")(logits_BM, rewards_BM), logits_BM
        )
        assert float(gradient[0, 0]) > float(gradient[0, 1])
    # Both are drawn ahead of the third alone, so each costs what a pair costs.
    equal = torch.zeros(1, 3, dtype=torch.float64)
    found = float(_by_rewards("plackett_luce", "drop")(equal, rewards_BM))
    assert found == pytest.approx(2 * np.log(2))
    assert float(_by_rewards("plackett_luce", "half")(equal, rewards_BM)) == pytest.approx(
        2 * np.log(3)
    )


def test_margins_of_a_thousand_stay_finite_in_a_ranking() -> None:
    logits = torch.tensor([[-500.0, 500.0, 0.0]], requires_grad=True)
    wins = torch.from_numpy(preferences(np.array([[2.0, 1.0, 0.0]])))
    loss = plackett_luce_loss(logits, wins)
    loss.backward()
    assert float(loss.detach()) == 1000.0
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
