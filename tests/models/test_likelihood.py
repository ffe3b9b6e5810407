import math
import random

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from persyn_ray.errors import DataError
from persyn_ray.models import likelihood
from persyn_ray.models.chat import Example, Message, encode_example
from persyn_ray.models.likelihood import response_likelihoods

TINY = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}


def _examples(count: int = 9, vocabulary: int = 100) -> list[Example]:
    draw = random.Random(0)
    return [
        Example([draw.randrange(vocabulary) for _ in range(prompt + response)], prompt)
        for prompt, response in [(draw.randint(1, 12), draw.randint(1, 20)) for _ in range(count)]
    ]


def _token_by_token(model: PreTrainedModel, example: Example) -> float:
    log_probs = []
    for end in range(example.num_prompt_tokens, len(example.ids)):
        with torch.no_grad():
            logits_V = model(torch.tensor([example.ids[:end]])).logits[0, -1].double()
        log_probs.append(float(logits_V.log_softmax(-1)[example.ids[end]]))
    return sum(log_probs) / len(log_probs)


def _means(model: PreTrainedModel, examples: list[Example], **settings: int) -> list[float]:
    return [found.mean for found in response_likelihoods(model, examples, **settings)]


def test_equals_a_token_by_token_loop(llama: PreTrainedModel) -> None:
    examples = _examples()
    expected = [_token_by_token(llama, example) for example in examples]
    assert _means(llama, examples) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize(
    "build",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**TINY, head_dim=8, final_logit_softcapping=2.0)),
        lambda: CohereForCausalLM(CohereConfig(**TINY, logit_scale=0.3)),
        lambda: GraniteForCausalLM(GraniteConfig(**TINY, logits_scaling=3.0)),
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4)),
    ],
    ids=["gemma2", "cohere", "granite", "gpt2"],
)
def test_scaled_and_capped_logits_are_the_models_own(build: object) -> None:
    torch.manual_seed(0)
    model = build().eval()  # type: ignore[operator]
    examples = _examples(3)
    expected = [_token_by_token(model, example) for example in examples]
    assert _means(model, examples) == pytest.approx(expected, abs=1e-5)


def test_a_head_that_does_more_than_known_falls_back_to_the_whole_model(
    llama: PreTrainedModel,
) -> None:
    forward = llama.forward

    def sharper(*args: object, **settings: object) -> object:
        output = forward(*args, **settings)
        output.logits = output.logits * 3
        return output

    llama.forward = sharper  # type: ignore[method-assign]
    examples = _examples(3)
    expected = [_token_by_token(llama, example) for example in examples]
    assert _means(llama, examples) == pytest.approx(expected, abs=1e-5)


def test_batching_and_the_padding_token_change_nothing(llama: PreTrainedModel) -> None:
    examples = _examples(12)
    reference = _means(llama, examples)
    for settings in ({"tokens_per_batch": 1}, {"tokens_per_batch": 50}, {"pad_id": 7}):
        assert _means(llama, examples, **settings) == pytest.approx(reference, abs=1e-5)
    assert _means(llama, examples[::-1])[::-1] == pytest.approx(reference, abs=1e-5)


def test_the_size_of_a_chunk_of_the_head_changes_nothing(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = _means(llama, _examples())
    monkeypatch.setattr(likelihood, "HEAD_ROWS", 3)
    assert _means(llama, _examples()) == pytest.approx(reference, abs=1e-5)


def test_padding_on_the_left_would_give_the_same(llama: PreTrainedModel) -> None:
    example = _examples(1)[0]
    ids = torch.tensor([[0] * 6 + example.ids])
    mask = torch.tensor([[0] * 6 + [1] * len(example.ids)])
    with torch.no_grad():
        logits_TV = llama(
            ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(0)
        ).logits[0]
    start = 6 + example.num_prompt_tokens
    picked = logits_TV[start - 1 : -1].log_softmax(-1).gather(1, ids[0, start:, None])
    assert _means(llama, [example]) == pytest.approx([float(picked.mean())], abs=1e-5)


def test_bfloat16_stays_near_float32(llama: PreTrainedModel) -> None:
    examples = _examples()
    reference = _means(llama, examples)
    assert _means(llama.bfloat16(), examples) == pytest.approx(reference, abs=0.1)


def test_chat_examples_count_the_end_of_turn(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    example = encode_example(tokenizer, [Message(role="user", content="1+1")], "two")
    (found,) = response_likelihoods(llama, [example])
    assert found.num_tokens == len("two") + 1
    assert found.mean < 0


def test_no_response_is_not_a_number(llama: PreTrainedModel) -> None:
    empty, full = response_likelihoods(llama, [Example([1, 2], 2), Example([1, 2], 1)])
    assert math.isnan(empty.mean)
    assert empty.num_tokens == 0
    assert math.isfinite(full.mean)
    assert response_likelihoods(llama, []) == []


def test_what_cannot_be_scored_is_named(llama: PreTrainedModel) -> None:
    good = Example([1, 2, 3], 1)
    with pytest.raises(DataError, match=r"Row 1 has 2049 tokens.*2048"):
        response_likelihoods(llama, [good, Example([1] * 2049, 1)])
    with pytest.raises(DataError, match="Row 1 has no prompt"):
        response_likelihoods(llama, [good, Example([1, 2], 0)])


def test_broken_weights_are_named_by_row(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.get_parameter("model.embed_tokens.weight")[5] = math.nan
    llama.set_output_embeddings(torch.nn.Linear(32, 259, bias=False))
    with pytest.raises(DataError, match="row 1 is nan"):
        response_likelihoods(llama, [Example([1, 2, 3], 1), Example([1, 5, 6], 1)])
