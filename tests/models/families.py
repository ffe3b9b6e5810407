"""Two-layer models of the main families with random weights, and a reference for their scores."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
import transformers as hf
from transformers import PreTrainedModel

from persyn_ray.models.chat import Example
from persyn_ray.models.likelihood import TokenScores

VOCABULARY = 100
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
WINDOWED = {"full_attention", "sliding_attention"}

# Windows of 6 tokens are shorter than most examples below.
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TINY, attention_bias=True)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**TINY)),
    "qwen2_window": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**TINY, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**TINY, head_dim=8)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**TINY, sliding_window=6)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**TINY)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(
            **TINY,
            head_dim=8,
            sliding_window=6,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=2.0,
        )
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(
            **TINY,
            head_dim=8,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
        )
    ),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**TINY, logit_scale=0.3)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**TINY, logits_scaling=3.0)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4)
    ),
}


def build(family: str) -> PreTrainedModel:
    """A seeded model of a family, in eval mode."""
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


def examples(
    num_prompts: int = 4, num_responses: int = 3, longest: int = 20, seed: int = 0
) -> list[Example]:
    """Several responses to each of some prompts, in mixed order."""
    draw = Random(seed)
    found: list[Example] = []
    for _ in range(num_prompts):
        prompt = [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 12))]
        for _ in range(num_responses):
            response = [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, longest))]
            found.append(Example(prompt + response, len(prompt)))
    draw.shuffle(found)
    return found


def token_by_token(model: PreTrainedModel, example: Example) -> TokenScores:
    """The same by one plain forward pass per token, in float64 after the logits."""
    log_probs, ranks, entropies = [], [], []
    for end in range(example.num_prompt_tokens, len(example.ids)):
        with torch.no_grad():
            logits_V = model(torch.tensor([example.ids[:end]])).logits[0, -1].double()
        all_V = logits_V.log_softmax(-1)
        log_probs.append(float(all_V[example.ids[end]]))
        ranks.append(1 + int((logits_V > logits_V[example.ids[end]]).sum()))
        entropies.append(-float((all_V.exp() * all_V).sum()))
    return TokenScores(np.array(log_probs), np.array(ranks), np.array(entropies))


def assert_equal(
    found: Sequence[TokenScores], expected: Sequence[TokenScores], gap: float = 1e-5
) -> None:
    """Log-probabilities and entropies within `gap` nats; ranks equal but for near ties."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=0, atol=gap)
        assert one.entropies is not None
        np.testing.assert_allclose(one.entropies, other.entropies, rtol=0, atol=10 * gap)
        np.testing.assert_array_equal(one.ranks, other.ranks)
