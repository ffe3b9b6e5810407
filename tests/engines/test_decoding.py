"""Decoding: greedy text is transformers' own, rows do not disturb one another."""

from itertools import pairwise

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from persyn_ray.engines.decoding import Draws, Stops, decode

END = 1
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14], [20, 21, 22, 23], [30, 31]]
KEYS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,  # decided enough that greedy choices are not near-ties
    )
    return LlamaForCausalLM(config).eval()


def written(
    model: LlamaForCausalLM,
    prompts: list[list[int]],
    keys: list[str],
    ends: frozenset[int],
    draws: Draws,
    limit: int = 24,
) -> list[list[int]]:
    return decode(model, prompts, [limit] * len(prompts), ends, draws, keys)


def frequent_ends(model: LlamaForCausalLM) -> frozenset[int]:
    """Ids that end some rows early and others late, whatever the random model likes to say."""
    rows = written(model, PROMPTS, KEYS, frozenset(), Draws())
    return frozenset({rows[0][2], rows[1][9]})


def test_greedy_rows_equal_generate_of_transformers_one_by_one(model: LlamaForCausalLM) -> None:
    ends = frequent_ends(model)
    rows = written(model, PROMPTS, KEYS, ends, Draws())
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=0)
    for prompt, row in zip(PROMPTS, rows, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )
        assert row == theirs[0, len(prompt) :].tolist()
    assert len({len(row) for row in rows}) > 1  # some have left the batch before others


@pytest.mark.parametrize("draws", [Draws(), Draws(temperature=0.8, top_p=0.9, seed=4)])
def test_a_response_does_not_depend_on_its_neighbours(
    model: LlamaForCausalLM, draws: Draws
) -> None:
    ends = frequent_ends(model)
    together = written(model, PROMPTS, KEYS, ends, draws)
    backwards = written(model, PROMPTS[::-1], KEYS[::-1], ends, draws)
    alone = [
        written(model, [prompt], [key], ends, draws)[0]
        for prompt, key in zip(PROMPTS, KEYS, strict=True)
    ]
    assert together == alone == backwards[::-1]


def test_each_row_keeps_to_its_own_limit(model: LlamaForCausalLM) -> None:
    limits = [1, 5, 3, 2, 4]
    rows = decode(model, PROMPTS, limits, frozenset(), Draws(), KEYS)
    assert [len(row) for row in rows] == limits


def test_a_stop_text_ends_a_row_with_the_token_that_completes_it(model: LlamaForCausalLM) -> None:
    def to_texts(rows: list[list[int]]) -> list[str]:
        return ["".join(f"<{token}>" for token in row) for row in rows]

    whole = written(model, PROMPTS, KEYS, frozenset(), Draws())
    first, second = whole[0][4:6]
    stops = Stops((f"{first}><{second}", "never"), to_texts)
    rows = decode(model, PROMPTS, [24] * 5, frozenset(), Draws(), KEYS, stops)
    for row, before in zip(rows, whole, strict=True):
        pairs = list(pairwise(before))
        place = pairs.index((first, second)) + 2 if (first, second) in pairs else 24
        assert row == before[:place]
    assert len(rows[0]) <= 6
    assert stops.place("never, 1, never") == 0
    assert stops.place("nothing of the kind") is None


def test_seeds_and_keys_change_samples_and_nothing_else_does(model: LlamaForCausalLM) -> None:
    draws = Draws(temperature=1.5, seed=1)
    first = written(model, PROMPTS, KEYS, frozenset(), draws)
    assert written(model, PROMPTS, KEYS, frozenset(), draws) == first
    assert written(model, PROMPTS, KEYS, frozenset(), Draws(temperature=1.5, seed=2)) != first
    assert written(model, PROMPTS, [f"{key}'" for key in KEYS], frozenset(), draws) != first


def test_drawn_tokens_follow_the_chances_within_the_nucleus() -> None:
    # Chances 0.5, 0.3, 0.15, 0.05: a nucleus of 0.75 holds the first two, as 5/8 and 3/8.
    logits_V = torch.tensor([0.3, 0.05, 0.5, 0.15]).log()
    uniform_B = torch.arange(0.0005, 1, 0.001)
    for temperature, expected in ((1.0, [0.375, 0, 0.625, 0]), (0.5, [9 / 34, 0, 25 / 34, 0])):
        draws = Draws(temperature, top_p=0.75)
        ids = draws.next_tokens(logits_V.expand(len(uniform_B), -1), uniform_B)
        shares = torch.bincount(ids, minlength=4) / len(ids)
        torch.testing.assert_close(shares, torch.tensor(expected), atol=2e-3, rtol=0)
    whole = Draws(1.0).next_tokens(logits_V.expand(len(uniform_B), -1), uniform_B)
    shares = torch.bincount(whole, minlength=4) / len(whole)
    torch.testing.assert_close(shares, logits_V.exp(), atol=2e-3, rtol=0)


def test_a_tiny_temperature_or_nucleus_is_greedy() -> None:
    logits_BV = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    uniform_B = torch.linspace(0, 0.999, 50)
    greedy = Draws().next_tokens(logits_BV, None)
    for draws in (Draws(1e-4), Draws(1.0, top_p=1e-6)):
        assert draws.next_tokens(logits_BV, uniform_B).tolist() == greedy.tolist()


def test_logits_that_are_no_numbers_are_an_error(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        kept = model.model.norm.weight.clone()
        model.model.norm.weight.fill_(float("nan"))
    try:
        with pytest.raises(ArithmeticError, match="NaN"):
            written(model, PROMPTS, KEYS, frozenset(), Draws())
    finally:
        model.model.norm.weight.data.copy_(kept)
