import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from persyn_ray.models.losses import bradley_terry_loss


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
