"""Features of the student's prefill against the model's own hidden states."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import Message
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.prefill import (
    middle_layer,
    prefill_features,
    prompt_ids,
    prompt_surprisal,
)

from . import families

ROWS = [[5, 3, 8, 6, 2, 7, 4], [9], [4, 6, 5], [7, 7, 2, 1, 3]]


def by_hand(model: PreTrainedModel, row: list[int], layer: int) -> np.ndarray:
    """Last state and mean state of one prompt, run alone."""
    with torch.no_grad():
        found = model(torch.tensor([row]), output_hidden_states=True).hidden_states[layer][0]
    return torch.cat([found[-1], found.mean(dim=0)]).float().numpy()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_features_are_the_states_of_each_prompt_run_alone(family: str) -> None:
    model = families.build(family)
    found = prefill_features(model, ROWS, [1, 2], tokens_per_batch=8)
    for row, features in zip(ROWS, found, strict=True):
        expected = np.concatenate([by_hand(model, row, layer) for layer in (1, 2)])
        np.testing.assert_allclose(features, expected, atol=2e-5)
    assert np.ptp(found, axis=0).max() > 0.01


def test_layers_above_the_highest_are_not_run(llama: PreTrainedModel) -> None:
    calls: list[int] = []
    last = llama.get_decoder().layers[-1]
    hook = last.register_forward_hook(lambda *_: calls.append(1))
    middle = prefill_features(llama, ROWS, [middle_layer(llama)])
    assert not calls
    both = prefill_features(llama, ROWS)
    hook.remove()
    assert calls
    np.testing.assert_allclose(both[:, : middle.shape[1]], middle, atol=1e-6)
    # Nothing of the reading stays with the model.
    assert llama(torch.tensor([ROWS[0]])).logits.shape[1] == len(ROWS[0])


def test_a_long_prompt_keeps_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [[Message(role="user", content="first " * 20 + "last")]]
    (whole,), (cut,) = (prompt_ids(tokenizer, messages, most) for most in (1000, 16))
    assert cut == whole[-16:]
    assert len(whole) > 100


def test_surprisal_is_minus_the_log_likelihood_of_the_prompt(llama: PreTrainedModel) -> None:
    found = prompt_surprisal(Likelihood(llama), ROWS)
    with torch.no_grad():
        log_probs = llama(torch.tensor([ROWS[0]])).logits[0].log_softmax(dim=-1)
    nats = -log_probs[torch.arange(6), torch.tensor(ROWS[0][1:])].numpy()
    expected = [nats.mean(), nats.std(), nats.max(), nats[-1], np.log(7)]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0, 0])


def test_what_cannot_be_read_is_said(llama: PreTrainedModel) -> None:
    with pytest.raises(ConfigError, match="from 1 to 2"):
        prefill_features(llama, ROWS, [3])
    with pytest.raises(DataError, match="no token"):
        prefill_features(llama, [[1], []])
    assert prefill_features(llama, [], [1]).shape[0] == 0
