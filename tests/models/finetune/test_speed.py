"""Speed of a training: tokens of the steps that were trained, and the model's own arithmetic."""

from types import SimpleNamespace

import numpy as np
import pytest

from persyn_ray.models.chat import Example
from persyn_ray.models.finetune.order import GlobalBatches
from persyn_ray.models.finetune.speed import SpeedMeter, operations
from persyn_ray.models.finetune.token_table import TokenTable
from persyn_ray.models.fit import with_adapters
from persyn_ray.models.load import load_causal_lm
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.storage.results import TrainingSpeed

EXAMPLES = {f"{n}": Example(list(range(n + 4)), 3) for n in range(10)}  # 4 to 13 tokens
ROUND = 4  # examples of a step, so that the third of an epoch has two blanks


def speed_of(model: str, first: int, last: int) -> TrainingSpeed | None:
    table = TokenTable.of(EXAMPLES, 0)
    order = GlobalBatches(table.lengths, ROUND, seed=1)
    meter = SpeedMeter()
    meter.on_train_begin(None, SimpleNamespace(global_step=first), None)
    for step in range(first, last):
        meter.on_step_end(None, SimpleNamespace(global_step=step + 1), None)
    return meter.speed(order, table, load_causal_lm(model))


def test_every_epoch_counts_every_example_once_and_no_blank(llama_folder: str) -> None:
    once, twice = speed_of(llama_folder, 0, 3), speed_of(llama_folder, 0, 6)
    assert once is not None
    assert twice is not None
    tokens = sum(len(one.ids) for one in EXAMPLES.values())
    assert (once.tokens, once.response_tokens) == (tokens, tokens - 3 * len(EXAMPLES))
    assert (twice.tokens, twice.flops) == (2 * tokens, pytest.approx(2 * once.flops))
    assert once.response_tokens_per_second == once.response_tokens / once.seconds


def test_a_resumed_training_counts_its_own_steps_alone(llama_folder: str) -> None:
    table = TokenTable.of(EXAMPLES, 0)
    order = GlobalBatches(table.lengths, ROUND, seed=1)
    seen = [n for step in (2, 3) for n in order.examples_of(step) if n != order.blank]
    resumed = speed_of(llama_folder, 2, 4)
    assert resumed is not None
    assert resumed.tokens == table.lengths[seen].sum()
    assert speed_of(llama_folder, 3, 3) is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # by PEFT
def test_arithmetic_is_six_a_weight_and_token_and_four_for_adapters(llama_folder: str) -> None:
    model = load_causal_lm(llama_folder)
    config = model.config
    num = sum(weight.numel() for weight in model.parameters())
    if not config.tie_word_embeddings:
        num -= model.get_input_embeddings().weight.numel()  # pyright: ignore
    lengths = np.array([10, 30])
    attention = 12 * config.num_hidden_layers * config.hidden_size * (10**2 + 30**2)
    assert operations(model, lengths) == 6 * num * 40 + attention
    adapted = with_adapters(load_causal_lm(llama_folder), LoraConfig(rank=2), "CAUSAL_LM")  # pyright: ignore
    added = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    found = operations(adapted.base_model.model, lengths)
    assert found == 4 * (num + added) * 40 + attention
