import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import Example, Message, encode_example, encode_prompt
from persyn_ray.models.random_init import CHATML, byte_tokenizer, encoder_tokenizer
from persyn_ray.models.sanitize import escape_special_tokens

LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
PHI4 = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}<|endoftext|>{% endif %}"
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}"
    "<|channel|>final<|message|>{{ m.content }}<|return|>{% else %}<|message|>{{ m.content }}"
    "<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FAMILIES = {  # template, control tokens, end-of-text token, response for the content "Hi there"
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", "Hi there<|im_end|>"),
    "llama3": (
        LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "Hi there<|eot_id|>",
    ),
    "gemma": (
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",  # ends the text, not the turn
        "Hi there<end_of_turn>",
    ),
    "mistral": (MISTRAL, ("<s>", "</s>"), "</s>", " Hi there</s>"),
    "phi4": (
        PHI4,
        ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|endoftext|>",
        "Hi there<|end|>",
    ),
    "harmony": (
        HARMONY,
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
        "<|return|>",
        "<|channel|>final<|message|>Hi there<|return|>",
    ),
    "plain": (PLAIN, ("<eos>",), "<eos>", "Hi there\n<eos>"),
}
ASK = [Message(role="user", content="Hello")]


def _tokenizer(
    template: str | None, specials: tuple[str, ...], eos: str
) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(specials), eos_token=eos, chat_template=template
    )


def _family(name: str) -> PreTrainedTokenizerBase:
    template, specials, eos, _ = FAMILIES[name]
    return _tokenizer(template, specials, eos)


def _response(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    return str(tokenizer.decode(example.ids[example.num_prompt_tokens :]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_response_is_the_content_and_its_end_of_turn(family: str) -> None:
    tokenizer = _family(family)
    example = encode_example(tokenizer, ASK, "Hi there")
    assert _response(tokenizer, example) == FAMILIES[family][3]
    assert example.ids[: example.num_prompt_tokens] == encode_prompt(tokenizer, ASK)


@pytest.mark.parametrize("family", ["chatml", "llama3", "gemma", "mistral"])
def test_every_token_of_a_long_response_is_kept(family: str) -> None:
    tokenizer = _family(family)
    response = "One.\n\nTwo: <think>3</think> é 数学 \\boxed{4}\nEnd"
    kept = _response(tokenizer, encode_example(tokenizer, ASK, response))
    assert response in kept


@pytest.mark.parametrize("family", FAMILIES)
def test_control_tokens_of_users_and_teachers_are_text(family: str) -> None:
    tokenizer = _family(family)
    attack = "".join(FAMILIES[family][1])
    count = len(_controls(tokenizer, encode_example(tokenizer, ASK, "x").ids))
    messages = [Message(role="user", content=f"a{attack}b")]
    example = encode_example(tokenizer, messages, f"x{attack}y")
    assert len(_controls(tokenizer, example.ids)) == count
    forged = encode_prompt(tokenizer, messages, escape=False)
    assert len(_controls(tokenizer, forged)) > len(
        _controls(tokenizer, encode_prompt(tokenizer, messages))
    )


def _controls(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    return [token for token in ids if token in tokenizer.added_tokens_decoder]


def test_an_empty_response_is_its_end_of_turn() -> None:
    tokenizer = _family("chatml")
    assert _response(tokenizer, encode_example(tokenizer, ASK, "")) == "<|im_end|>"


def test_a_token_over_the_border_does_not_change_the_prompt() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "ĊĊ"])}
    merging = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    merging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merging.decoder = decoders.ByteLevel()
    merging.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=merging, eos_token="<|im_end|>", chat_template=CHATML
    )
    example = encode_example(tokenizer, ASK, "\nHi")  # ChatML ends the prompt with a line break
    assert example.ids[: example.num_prompt_tokens] == encode_prompt(tokenizer, ASK)
    assert _response(tokenizer, example) == "\nHi<|im_end|>"


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    thinking = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    tokenizer = _tokenizer(thinking, FAMILIES["chatml"][1], "<|im_end|>")
    with pytest.raises(DataError, match=r"rewrites the prompt.*chat_template"):
        encode_example(tokenizer, ASK, "Hi")


def test_a_template_that_drops_part_of_the_response_is_refused() -> None:
    dropping = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    tokenizer = _tokenizer(dropping, FAMILIES["chatml"][1], "<|im_end|>")
    with pytest.raises(DataError, match="rewrites the response"):
        encode_example(tokenizer, ASK, "<think>long</think>short")


def test_no_template_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="set `chat_template`"):
        encode_prompt(_tokenizer(None, ("<eos>",), "<eos>"), ASK)


def test_a_refusing_template_is_quoted() -> None:
    messages = [Message(role="system", content="Be brief."), *ASK]
    with pytest.raises(DataError, match="System role not supported"):
        encode_prompt(_family("gemma"), messages)


def test_template_kwargs_reach_the_template() -> None:
    tokenizer = _tokenizer("{{ mood }}{{ messages[0].content }}", ("<eos>",), "<eos>")
    ids = encode_prompt(tokenizer, ASK, template_kwargs={"mood": "glad "})
    assert tokenizer.decode(ids) == "glad Hello"


def test_harmless_text_is_left_alone() -> None:
    text = "a < b | c > d\n<think> \U0001f642 数学 [INST] \u200d"
    assert escape_special_tokens(_family("chatml"), text) == text


def test_nul_and_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    tokenizer = _family("chatml")
    assert escape_special_tokens(tokenizer, "a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert escape_special_tokens(tokenizer, "\ud83d\ude42") == "\U0001f642"


def test_no_mixture_of_control_text_survives() -> None:
    specials = ("<a>", "a>b", "<|x|>", "\u2581")  # overlapping ones and one of a single character
    tokenizer = _tokenizer(CHATML, specials, "<a>")
    draw = random.Random(0)
    pieces = ["<", "a", ">", "b", "|", "x", "<a>", "<|x|>", "\u2581", " "]
    for _ in range(200):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 20)))
        ids = tokenizer(escape_special_tokens(tokenizer, text), add_special_tokens=False)[
            "input_ids"
        ]
        assert not _controls(tokenizer, ids), text


def test_tokenizers_that_normalise_first_are_held_off_too() -> None:
    loose = byte_tokenizer(("<e>",))
    loose.normalizer = normalizers.Sequence(
        [normalizers.Replace("\u200d", ""), normalizers.NFKC(), normalizers.Lowercase()]
    )
    loose.add_special_tokens([AddedToken("<stop>", special=True, normalized=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=loose, eos_token="<e>")
    for text in ("<stop>", "x<STOP>", "\uff1cstop\uff1e", "<\u200dstop>"):
        ids = tokenizer(escape_special_tokens(tokenizer, text), add_special_tokens=False)[
            "input_ids"
        ]
        assert not _controls(tokenizer, ids), text


def test_an_encoders_marks_are_control_tokens() -> None:
    tokenizer = encoder_tokenizer()
    ids = tokenizer(escape_special_tokens(tokenizer, "a [SEP] b"))["input_ids"]
    assert [token for token in ids if token < 3] == [1, 2]
