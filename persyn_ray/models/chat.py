"""The only place that tokenises: conversations become token ids through a chat template.

The response tokens of an example are the assistant's content and its end-of-turn token; what a
template writes after that token (a line break, say) is no part of it. The prompt's ids are a true
prefix of prompt + response, and are the very ids that stand before the first generated token, so
that scoring, fine-tuning and generation see the same prompt.

Text of users and teachers cannot act as control tokens: `neutralise` breaks such text up first.
This module does not truncate and does not pad.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypedDict

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError

ZERO_WIDTH_JOINER = "\u200d"
REPLACEMENT = "\ufffd"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """Token ids of prompt + response; the first `num_prompt_tokens` are the prompt's."""

    ids: list[int]
    num_prompt_tokens: int

    @property
    def num_response_tokens(self) -> int:
        return len(self.ids) - self.num_prompt_tokens


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    template_kwargs: Mapping[str, Any] | None = None,
    neutral: bool = True,
) -> list[int]:
    """Token ids of a conversation, ready for the assistant to answer.

    Raises:
        ConfigError: the tokenizer has no chat template.
        DataError: the template refuses the conversation.
    """
    if neutral:
        messages = _neutral_messages(tokenizer, messages)
    return _encode(tokenizer, _render(tokenizer, messages, add_generation_prompt, template_kwargs))


def encode_example(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    response: str,
    template_kwargs: Mapping[str, Any] | None = None,
    neutral: bool = True,
) -> Example:
    """Token ids of a conversation and its response.

    Raises:
        ConfigError: the tokenizer has no chat template, or no end-of-turn token.
        DataError: the template rewrites the prompt or the response.
    """
    if neutral:
        messages = _neutral_messages(tokenizer, messages)
        response = neutralise(tokenizer, response)
    answered = [*messages, Message(role="assistant", content=response)]
    prompt_text = _render(tokenizer, messages, True, template_kwargs)
    full_text = _render(tokenizer, answered, False, template_kwargs)
    _require_kept(tokenizer, prompt_text, full_text, response)
    prompt_ids = _encode(tokenizer, prompt_text)
    tail_ids = _tail(tokenizer, prompt_ids, full_text, full_text[len(prompt_text) :])
    return Example(prompt_ids + _until_end_of_turn(tokenizer, tail_ids), len(prompt_ids))


def neutralise(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Text that holds no control token of the tokenizer, is valid Unicode and has no NUL.

    Harmless text comes back unchanged. A control token is broken up by a zero-width joiner; where
    the tokenizer's own normalisation would undo that, by a space. The result is checked by
    tokenising it.

    Raises:
        DataError: the text still tokenises to a control token.
    """
    control_ids, _ = _controls(tokenizer)
    for candidate in _attempts(tokenizer, _valid_unicode(text)):
        if control_ids.isdisjoint(_encode(tokenizer, candidate)):
            return candidate
    raise DataError(
        f"A text holds control tokens of {_name(tokenizer)} that cannot be broken up: "
        f"{text[:200]!r}. Take the prompt out, or change the tokenizer."
    )


def _attempts(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[str]:
    _, pattern = _controls(tokenizer)
    yield text
    yield _break_up(re.compile(pattern), text, ZERO_WIDTH_JOINER)
    folded = "".join(c for c in unicodedata.normalize("NFKC", text) if not _is_invisible(c))
    yield _break_up(re.compile(pattern, re.IGNORECASE), folded, " ")


def _break_up(pattern: re.Pattern[str], text: str, wedge: str) -> str:
    # Repeated, because control tokens may overlap: every round parts two neighbours, so it ends.
    while pattern.search(text):
        text = pattern.sub(lambda match: _wedged(match.group(), wedge), text)
    return text


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf"


def _wedged(token: str, wedge: str) -> str:
    return REPLACEMENT if len(token) == 1 else token[0] + wedge + token[1:]


def _valid_unicode(text: str) -> str:
    # A lone surrogate cannot be tokenised at all; NUL ends strings in some engines.
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", REPLACEMENT)


@lru_cache(maxsize=16)
def _controls(tokenizer: PreTrainedTokenizerBase) -> tuple[frozenset[int], str]:
    """Ids that only a template may write, and a pattern that finds their text.

    The unknown token is none of them: ordinary text makes it. Added tokens that are not special
    (`<think>` in some vocabularies) are text like any other.
    """
    names: dict[str, Any] = dict(tokenizer.special_tokens_map)
    unknown = names.pop("unk_token", None)
    tokens = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    tokens |= set(tokenizer.all_special_tokens)
    if unknown not in names.values():  # in some vocabularies it also ends the text
        tokens -= {unknown}
    ids: Any = tokenizer.convert_tokens_to_ids(sorted(tokens))
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return frozenset(ids), "|".join(map(re.escape, longest_first)) or r"(?!)"


def _neutral_messages(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[Message]:
    return [
        Message(
            role=neutralise(tokenizer, message["role"]),
            content=neutralise(tokenizer, message["content"]),
        )
        for message in messages
    ]


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    template_kwargs: Mapping[str, Any] | None,
) -> str:
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {_name(tokenizer)} has no chat template: set `chat_template` on the "
            "model."
        )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": each["role"], "content": each["content"]} for each in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **(template_kwargs or {}),
        )
    except TemplateError as error:
        roles = [message["role"] for message in messages]
        raise DataError(
            f"The chat template of {_name(tokenizer)} refuses a conversation with the roles "
            f"{roles}: {error}. Change the conversation or `system_prompt`, or set `chat_template` "
            "on the model."
        ) from error
    return str(text)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written every control token already, the first one included.
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _require_kept(
    tokenizer: PreTrainedTokenizerBase, prompt_text: str, full_text: str, response: str
) -> None:
    """Refuse a template that changes the prompt once it is answered, or part of the response."""
    advice = "set `chat_template` on the model, or `template_kwargs`, so that it keeps both."
    if not full_text.startswith(prompt_text):
        raise DataError(
            f"The chat template of {_name(tokenizer)} rewrites the prompt once it is answered: "
            f"{prompt_text[-80:]!r} is no prefix of the answered conversation; {advice}"
        )
    # Templates may strip the white space around a response; they may not lose its words.
    if "".join(response.split()) not in "".join(full_text[len(prompt_text) :].split()):
        raise DataError(
            f"The chat template of {_name(tokenizer)} rewrites the response "
            f"{response[:80]!r}; {advice}"
        )


def _tail(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], full_text: str, tail_text: str
) -> list[int]:
    """Ids after the prompt, though a token may want to span the border (two line breaks, say)."""
    full_ids = _encode(tokenizer, full_text)
    if full_ids[: len(prompt_ids)] == prompt_ids:
        return full_ids[len(prompt_ids) :]
    tail_ids = _encode(tokenizer, tail_text)
    if _decode(tokenizer, prompt_ids + tail_ids) != _decode(tokenizer, full_ids):
        raise DataError(
            "The prompt's token ids are no prefix of the answered conversation's under the chat "
            f"template of {_name(tokenizer)}: set a `chat_template` on the model that ends the "
            "prompt where a token ends."
        )
    return tail_ids


def _until_end_of_turn(tokenizer: PreTrainedTokenizerBase, tail_ids: list[int]) -> list[int]:
    """Cut after the end-of-turn token; a template that writes none gets the end-of-text token."""
    control_ids, _ = _controls(tokenizer)
    places = [place for place, token in enumerate(tail_ids) if token in control_ids]
    if not places:
        end_of_text: Any = tokenizer.eos_token_id
        if end_of_text is None:
            raise ConfigError(
                f"Neither the chat template nor the tokenizer of {_name(tokenizer)} has an "
                "end-of-turn token: set `chat_template` on the model."
            )
        return [*tail_ids, end_of_text]
    end = places.pop()
    # Some templates close the text after closing the turn; the turn's end is the first of that run.
    # The run is found from the back because some open a response with control tokens of their own.
    while places and not _decode(tokenizer, tail_ids[places[-1] + 1 : end]).strip():
        end = places.pop()
    return tail_ids[: end + 1]


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids)))


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)
