"""Scores of packed responses against a token-by-token loop, over the main families."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from persyn_ray.errors import DataError
from persyn_ray.models import attention, head, packing
from persyn_ray.models.chat import Example, Message, encode_example
from persyn_ray.models.likelihood import Likelihood, TokenScores
from persyn_ray.models.reference import plain_log_probs

from . import families
from .families import assert_equal, examples, token_by_token


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_is_packed_and_equals_a_token_by_token_loop(family: str) -> None:
    model = families.build(family)
    likelihood, given = Likelihood(model, tokens_per_batch=64), examples()
    assert likelihood.is_packed
    expected = [token_by_token(model, example) for example in given]
    assert_equal(likelihood(given), expected)
    assert np.ptp([scores.log_probs.mean() for scores in expected]) > 0.1


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3"])
def test_blocks_of_attention_change_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = families.build(family), examples(3, 2, longest=40)
    reference = Likelihood(model)(given)
    for size in (1, 3, 8):
        monkeypatch.setattr(packing, "BLOCK_TOKENS", size)
        assert_equal(Likelihood(model)(given), reference)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3"])
def test_flex_attention_sees_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = families.build(family), examples()
    reference = Likelihood(model)(given)
    calls: list[int] = []

    def flex(*arguments: object) -> torch.Tensor:
        calls.append(1)
        return attention.by_flex(*arguments, compiled=False)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "by_blocks", flex)
    likelihood = Likelihood(model)
    assert likelihood.is_packed
    assert_equal(likelihood(given), reference)
    assert calls


def test_a_prompt_is_read_once_for_all_its_responses() -> None:
    given = examples(num_prompts=5, num_responses=6)
    (pack,) = packing.packs(given, 10_000)
    prompts = {tuple(example.ids[: example.num_prompt_tokens]) for example in given}
    inputs = sum(example.num_response_tokens - 1 for example in given)
    assert len(pack.ids) == sum(map(len, prompts)) + inputs
    assert len(pack.targets) == sum(example.num_response_tokens for example in given)


@pytest.mark.parametrize("budget", [1, 30, 64, 500])
def test_packs_keep_to_their_size_and_lose_nothing(budget: int) -> None:
    given = examples(6, 5)
    packs = list(packing.packs(given, budget))
    assert sorted(row for pack in packs for row in pack.rows) == list(range(len(given)))
    for pack in packs:
        assert len(pack.ids) <= budget or len(pack.rows) == 1
        assert len(pack.ids) == len(pack.positions)
    longest = [max(len(given[row].ids) for row in pack.rows) for pack in packs]
    assert longest[0] == max(longest)


def test_neither_batches_nor_order_nor_company_change_anything(llama: PreTrainedModel) -> None:
    given = examples(5, 4)
    reference = Likelihood(llama)(given)
    for budget in (1, 50, 200):
        assert_equal(Likelihood(llama, budget)(given), reference)
    assert_equal(Likelihood(llama)(given[::-1])[::-1], reference)
    assert_equal([Likelihood(llama)([example])[0] for example in given], reference)


def test_the_size_of_a_chunk_of_the_head_changes_nothing(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples()
    reference = Likelihood(llama)(given)
    monkeypatch.setattr(head, "LOGITS_BYTES", {"cpu": 3 * 4 * 300})
    monkeypatch.setattr(head, "REDUCED_BYTES", 2 * 4 * 300)
    assert_equal(Likelihood(llama)(given), reference)


def test_logits_of_few_rows_exist_at_once(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    logits = head.Head.logits

    def counted(
        self: head.Head, hidden_RD: torch.Tensor, out_RV: torch.Tensor | None = None
    ) -> torch.Tensor:
        rows.append(len(hidden_RD))
        return logits(self, hidden_RD, out_RV)

    monkeypatch.setattr(head.Head, "logits", counted)
    monkeypatch.setattr(head, "LOGITS_BYTES", {"cpu": 5 * 4 * 259})
    Likelihood(llama)(examples(longest=60))
    assert max(rows[1:]) == 5  # the first call compares head and model


def test_a_head_that_does_more_than_known_is_run_as_a_whole(llama: PreTrainedModel) -> None:
    forward = llama.forward

    def sharper(*args: object, **settings: object) -> object:
        output = forward(*args, **settings)
        output.logits = output.logits * 3
        return output

    llama.forward = sharper  # type: ignore[method-assign]
    given = examples(2)
    assert_equal(Likelihood(llama)(given), [token_by_token(llama, example) for example in given])


def test_a_model_without_replaceable_attention_is_run_on_padded_batches() -> None:
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=4))
    likelihood, given = Likelihood(model.eval(), 100), examples()
    assert not likelihood.is_packed
    assert_equal(likelihood(given), [token_by_token(model, example) for example in given])


def test_a_model_that_computes_otherwise_in_a_pack_is_run_on_padded_batches(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Likelihood(llama)(examples())
    monkeypatch.setattr(attention, "by_blocks", lambda *given: torch.zeros_like(given[0]))
    likelihood = Likelihood(llama)
    assert not likelihood.is_packed
    assert_equal(likelihood(examples()), reference)


def test_long_conversations_do_not_turn_the_positions_of_short_ones() -> None:
    """Phi's long rotary factors hold for a whole call as soon as one conversation is long."""
    torch.manual_seed(0)
    scaling = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [9.0] * 4,
        "original_max_position_embeddings": 24,
    }
    config = Phi3Config(**families.TINY, max_position_embeddings=96, rope_parameters=scaling)
    model = Phi3ForCausalLM(config).eval()
    given = [*examples(3, 2, longest=10), Example([1, 2, *range(3, 60)], 2)]
    likelihood = Likelihood(model)
    assert likelihood.is_packed
    assert_equal(likelihood(given[:-1]), likelihood(given)[:-1])
    plain = plain_log_probs(model, given[-1])
    np.testing.assert_allclose(likelihood(given)[-1].log_probs, plain, atol=1e-5)


def test_a_window_that_goes_by_the_mask_alone_is_not_lost() -> None:
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        **families.TINY,
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=0,
        num_experts=4,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    model, given = Qwen2MoeForCausalLM(config).eval(), examples(3, 2, longest=30)
    found = Likelihood(model)(given)
    for scores, example in zip(found, given, strict=True):
        plain = plain_log_probs(model, example)
        np.testing.assert_allclose(scores.log_probs, plain, atol=1e-5)


def test_the_model_keeps_its_own_attention(llama: PreTrainedModel) -> None:
    before = llama.config._attn_implementation
    Likelihood(llama)(examples(1))
    assert llama.config._attn_implementation == before


def test_bfloat16_stays_near_float32(llama: PreTrainedModel) -> None:
    given = examples()
    reference = [scores.log_probs.mean() for scores in Likelihood(llama)(given)]
    likelihood = Likelihood(llama.bfloat16())
    assert likelihood.is_packed
    means = [scores.log_probs.mean() for scores in likelihood(given)]
    assert means == pytest.approx(reference, abs=0.1)


def test_chat_examples_count_the_end_of_turn(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    example = encode_example(tokenizer, [Message(role="user", content="1+1")], "two")
    (found,) = Likelihood(llama)([example])
    assert len(found.log_probs) == len("two") + 1
    assert found.log_probs.mean() < 0


def test_no_response_has_no_tokens(llama: PreTrainedModel) -> None:
    empty, full = Likelihood(llama)([Example([1, 2], 2), Example([1, 2], 1)])
    assert len(empty.log_probs) == 0
    assert np.isfinite(full.log_probs).all()
    assert Likelihood(llama)([]) == []


def test_ranks_and_entropy_of_a_known_prediction() -> None:
    logits_RV = torch.tensor([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 1.0]])
    scores = head.reduce_logits(logits_RV, torch.tensor([2, 1]))
    assert scores.ranks.tolist() == [1, 3]
    assert scores.entropies.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)
    assert scores.log_probs.tolist() == pytest.approx([-math.log(4), -50.0])


def test_what_cannot_be_scored_is_named(llama: PreTrainedModel) -> None:
    good, likelihood = Example([1, 2, 3], 1), Likelihood(llama)
    with pytest.raises(DataError, match=r"Row 1 has 2049 tokens.*2048"):
        likelihood([good, Example([1] * 2049, 1)])
    with pytest.raises(DataError, match="p7, teacher b has no prompt"):
        likelihood([good, Example([1, 2], 0)], ["p3, teacher a", "p7, teacher b"])


def test_broken_weights_are_named_with_model_and_row(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.get_parameter("model.embed_tokens.weight")[50] = math.nan
    llama.set_output_embeddings(torch.nn.Linear(32, 259, bias=False))
    given = [Example([1, 2, 3], 1), Example([1, 50, 6], 1)]
    with pytest.raises(DataError, match=r"llama.* gives log-probability nan.* token 1 of .* Row 1"):
        Likelihood(llama)(given)


def test_scores_are_plain_arrays(llama: PreTrainedModel) -> None:
    (scores,) = Likelihood(llama)(examples(1, 1))
    assert isinstance(scores, TokenScores)
    assert scores.log_probs.dtype == np.float64
    assert scores.ranks.dtype == np.int64
