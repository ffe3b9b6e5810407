"""Tiny models with random weights, built in code: real classes for tests and smoke runs.

Two layers of width 32 over a byte-level vocabulary of 256 bytes and a few control tokens. They know
nothing; they only have the right shapes and file layout.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from persyn_ray.errors import ConfigError

CHAT_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ENCODER_SPECIALS = ("[PAD]", "[CLS]", "[SEP]")
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_random(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model and its tokenizer; the same seed writes the same weights.

    Raises:
        ConfigError: the kind is none of `KINDS`.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no random model {kind!r}; it must be one of {sorted(KINDS)}.")
    tokenizer = encoder_tokenizer() if kind == "bert" else chat_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = KINDS[kind](tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(specials: tuple[str, ...]) -> Tokenizer:
    """A tokenizer whose tokens are the control tokens given and the 256 bytes."""
    tokens = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a ChatML template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(CHAT_SPECIALS),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
        model_max_length=2048,
    )


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that marks the ends of a text, as encoders do; no chat template."""
    tokenizer = byte_tokenizer(ENCODER_SPECIALS)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=512,
    )


def _llama_config(tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,  # wide enough for outputs that differ from row to row
    )


def _llama(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return LlamaForCausalLM(_llama_config(tokenizer))


def _reward(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = _llama_config(tokenizer)
    config.num_labels = 1
    return LlamaForSequenceClassification(config)


def _bert(tokenizer: Any) -> PreTrainedModel:
    return BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.2,
        )
    )


KINDS: dict[str, Callable[[PreTrainedTokenizerFast], PreTrainedModel]] = {
    "llama": _llama,
    "bert": _bert,
    "reward": _reward,
}
