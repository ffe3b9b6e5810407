"""The only place that tokenises: conversations become token ids through a chat template.

The response tokens of an example are the assistant's content and its end-of-turn token; what a
template writes after that token (a line break, say) is no part of it. The prompt's ids are a true
prefix of prompt + response, and are the very ids that stand before the first generated token, so
that scoring, fine-tuning and generation see the same prompt.

A template may strip white space around the content and around its thinking tags. What it writes
before the content and leaves out of its generation prompt, the student has to write, and it counts:
the empty thinking block of Qwen3, the channel of harmony. Where the generation prompt opens the
thinking, the response goes on from there, and tags that the prompt holds are not repeated. All else
that a template adds, drops or changes is an error that names the tokenizer and shows the place.

Text of users and teachers cannot act as control tokens: `escape_special_tokens` breaks it up.
This module does not truncate and does not pad.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.names import loaded_name
from persyn_ray.models.sanitize import (
    control_id,
    controls,
    encode_text,
    escape_special_tokens,
)

# What chat templates write, whatever a recipe calls them.
THINK, END_OF_THINKING = "<think>", "</think>"
# Thinking that a generation prompt opens, and closes again where thinking is off.
OPENED = re.compile(rf"(?:{THINK}\s*(?:{END_OF_THINKING}\s*)?)?\Z")
STAND_IN = "\u25a1"  # a visible character in no control token, in place of an empty response


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
    escape: bool = True,
) -> list[int]:
    """Token ids of a conversation, ready for the assistant to answer.

    Raises:
        ConfigError: the tokenizer has no chat template.
        DataError: the template refuses the conversation.
    """
    if escape:
        messages = _escaped_messages(tokenizer, messages)
    return _prompt_ids(
        tokenizer, render_conversation(tokenizer, messages, add_generation_prompt, template_kwargs)
    )


def encode_example(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    response: str,
    template_kwargs: Mapping[str, Any] | None = None,
    escape: bool = True,
    end_of_turn: str | None = None,
) -> Example:
    """Token ids of a conversation and its response, which ends with `end_of_turn`.

    By default that is what the template writes after a response, or the tokenizer's end of text.

    Raises:
        ConfigError: the tokenizer has no chat template, or no (such) end-of-turn token.
        DataError: the template rewrites the prompt or the response; the message shows where.
    """
    if escape:
        messages = _escaped_messages(tokenizer, messages)
        response = escape_special_tokens(tokenizer, response)
    chat = _Chat(tokenizer, messages, template_kwargs)
    prompt_text = chat.prompt()
    turn_text, is_ended = _turn(chat, prompt_text, response)
    prompt_ids = _prompt_ids(tokenizer, prompt_text)
    turn_ids = _ids_after(tokenizer, prompt_ids, prompt_text, turn_text)
    if end_of_turn is not None:
        end_id = control_id(tokenizer, end_of_turn, "end_of_turn")
        turn_ids = [*(turn_ids[:-1] if is_ended else turn_ids), end_id]
    elif not is_ended:
        turn_ids = [*turn_ids, _end_of_text(tokenizer)]
    return Example(prompt_ids + turn_ids, len(prompt_ids))


def _escaped_messages(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[Message]:
    return [
        Message(
            role=escape_special_tokens(tokenizer, message["role"]),
            content=escape_special_tokens(tokenizer, message["content"]),
        )
        for message in messages
    ]


def render_conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    template_kwargs: Mapping[str, Any] | None,
) -> str:
    """Text that the chat template makes of a conversation, which is taken as it is.

    Raises:
        ConfigError: the tokenizer has no chat template.
        DataError: the template refuses the conversation.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {loaded_name(tokenizer)} has no chat template: set "
            "`chat_template` on the model (Jinja text, such as the template of the instruct model "
            "of the same family)."
        )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": each["role"], "content": each["content"]} for each in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **(template_kwargs or {}),
        )
    except Exception as error:  # a template is a program of others: it may fail in any way
        roles = [message["role"] for message in messages]
        raise DataError(
            f"The chat template of {loaded_name(tokenizer)} refuses a conversation with the "
            f"roles {roles}: {error}. Change the conversation or `system_prompt`, or set "
            "`chat_template` on the model."
        ) from error
    return str(text)


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a rendered prompt: without any, nothing would predict the first response."""
    ids = encode_text(tokenizer, text)
    if not ids:
        raise DataError(
            f"The chat template of {loaded_name(tokenizer)} writes nothing for a conversation: "
            "set another `chat_template` on the model."
        )
    return ids


@dataclass(frozen=True)
class _Chat:
    """A conversation to be answered, and the texts its template makes of it."""

    tokenizer: PreTrainedTokenizerBase
    messages: Sequence[Message]
    template_kwargs: Mapping[str, Any] | None

    def prompt(self, add_generation_prompt: bool = True) -> str:
        return render_conversation(
            self.tokenizer, self.messages, add_generation_prompt, self.template_kwargs
        )

    def answered(self, response: str) -> str:
        answer = Message(role="assistant", content=response)
        return render_conversation(
            self.tokenizer, [*self.messages, answer], False, self.template_kwargs
        )


class _Piece(NamedTuple):
    """A control token, a thinking tag, or the words between two of them; where it ends."""

    text: str
    end: int


def _turn(chat: _Chat, prompt_text: str, response: str) -> tuple[str, bool]:
    """What the student writes after the prompt, and whether an end-of-turn token ends it."""
    opened = OPENED.search(prompt_text)[0]  # pyright: ignore[reportOptionalSubscript]
    after_prompt = _after_prompt(chat, prompt_text, opened, response)
    # Tags that the prompt holds already may stand in the response as well.
    pieces = _pieces(chat.tokenizer, opened + after_prompt)
    words = _texts(_pieces(chat.tokenizer, response))
    if words:
        end = _end_of_response(chat.tokenizer, pieces, words)
    else:
        end = _num_before_response(chat, prompt_text, opened)
    is_ended = end is not None and _is_control(chat.tokenizer, pieces, end)
    if end is None or not (is_ended or end == len(pieces)):
        raise _rewritten(chat, "response", response.strip(), after_prompt.strip())
    _require_header(chat, prompt_text, pieces[: end - len(words)])
    length = pieces[end].end - len(opened) if is_ended else len(after_prompt)
    return after_prompt[:length], is_ended


def _after_prompt(chat: _Chat, prompt_text: str, opened: str, response: str) -> str:
    """The answered conversation without its prompt."""
    full_text = chat.answered(response)
    if full_text.startswith(prompt_text):
        return full_text[len(prompt_text) :]
    before_thinking = prompt_text.removesuffix(opened)
    begun = _begun(opened, response)
    if begun is None or not full_text.startswith(before_thinking):
        raise _rewritten(chat, "prompt", prompt_text, full_text, _thinking_advice(opened, response))
    # Such templates write an answered turn as they write history, without its thinking. The text is
    # put together from what the student writes and how the template ends a turn.
    answer = response.rpartition(END_OF_THINKING)[2].strip()
    shown = full_text[len(before_thinking) :]
    before, _, ending = shown.partition(answer) if answer else ("", "", shown)
    if before.strip() or shown == before:
        raise _rewritten(chat, "response", answer, shown)
    return begun.rstrip() + ending


def _begun(opened: str, response: str) -> str | None:
    """The response from where the prompt's open thinking leaves off; None if it does not go on."""
    if THINK not in opened or END_OF_THINKING in opened:
        return None
    rest = response.lstrip()
    rest = rest.removeprefix(opened if rest.startswith(opened) else THINK)
    thinking, closing, _ = rest.partition(END_OF_THINKING)
    return rest if closing and THINK not in thinking else None


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[_Piece]:
    """A text in pieces without white space around them, so that only that may differ."""
    _, pattern = controls(tokenizer)
    pieces, end = [], 0
    for part in re.split(f"({pattern}|{THINK}|{END_OF_THINKING})", text):
        end += len(part)
        if part.strip():
            pieces.append(_Piece(part.strip(), end))
    return pieces


def _texts(pieces: Sequence[_Piece]) -> list[str]:
    return [piece.text for piece in pieces]


def _is_control(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[_Piece], number: int) -> bool:
    _, pattern = controls(tokenizer)
    return number < len(pieces) and re.fullmatch(pattern, pieces[number].text) is not None


def _end_of_response(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[_Piece], words: Sequence[str]
) -> int | None:
    """How many pieces there are up to the response's end: a control token follows, or nothing."""
    # From the back, because what opens a turn may hold the response's words (harmony's "final").
    ends = [end for end in range(len(pieces), -1, -1) if _is_control(tokenizer, pieces, end)]
    for end in [*ends, len(pieces)]:
        if end >= len(words) and _texts(pieces[end - len(words) : end]) == list(words):
            return end
    return None


def _num_before_response(chat: _Chat, prompt_text: str, opened: str) -> int | None:
    """How many pieces stand before a response, seen by one that is not empty."""
    pieces = _pieces(chat.tokenizer, opened + _after_prompt(chat, prompt_text, opened, STAND_IN))
    end = _end_of_response(chat.tokenizer, pieces, [STAND_IN])
    return None if end is None else end - 1


def _require_header(chat: _Chat, prompt_text: str, lead: Sequence[_Piece]) -> None:
    """Refuse a turn that begins with its header, which is no part of a response."""
    if all(piece.text in (THINK, END_OF_THINKING) for piece in lead):
        return
    if chat.prompt(add_generation_prompt=False) == prompt_text:
        header = " ".join(_texts(lead))
        raise DataError(
            f"The chat template of {loaded_name(chat.tokenizer)} writes no generation prompt: "
            f"{header[:80]!r} would count as response. Set a `chat_template` on the model that "
            "heeds `add_generation_prompt`."
        )


def _thinking_advice(opened: str, response: str) -> str:
    if END_OF_THINKING in opened and END_OF_THINKING in response:
        return (
            "The prompt closes its thinking and this response brings its own: set "
            "`responses.thinking` to strip, or `enable_thinking` to true. "
        )
    return "The prompt opens thinking that this response does not go on with. " if opened else ""


def _rewritten(chat: _Chat, what: str, ours: str, theirs: str, advice: str = "") -> DataError:
    """The error for a template that does not keep a text; it shows where the two texts part."""
    differing = (n for n in range(min(len(ours), len(theirs))) if ours[n] != theirs[n])
    place = next(differing, min(len(ours), len(theirs)))
    if what == "response" and place == len(ours):
        advice = "What comes next has to be a control token of the tokenizer. "
    elif what == "response" and END_OF_THINKING in ours:
        advice = "Where only thinking is dropped, `responses.thinking: strip` drops it everywhere. "
    return DataError(
        f"The chat template of {loaded_name(chat.tokenizer)} rewrites the {what}: after "
        f"{ours[max(0, place - 40) : place]!r} the {what} goes on {ours[place : place + 60]!r} and "
        f"the answered conversation {theirs[place : place + 60]!r}. {advice}Set a `chat_template` "
        f"on the model that keeps the {what}, or its `template_kwargs`."
    )


def _ids_after(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], prompt_text: str, text: str
) -> list[int]:
    """Ids after the prompt, though a token may want to span the border (two line breaks, say)."""
    full_ids = encode_text(tokenizer, prompt_text + text)
    if full_ids[: len(prompt_ids)] == prompt_ids:
        return full_ids[len(prompt_ids) :]
    ids = encode_text(tokenizer, text)
    if _decode(tokenizer, prompt_ids + ids) != _decode(tokenizer, full_ids):
        raise DataError(
            "The prompt's token ids are no prefix of the answered conversation's under the chat "
            f"template of {loaded_name(tokenizer)}: set a `chat_template` on the model that "
            "ends the prompt where a token ends."
        )
    return ids


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a turn where the template writes none."""
    end_of_text: Any = tokenizer.eos_token_id
    if end_of_text is None:
        raise ConfigError(
            f"Neither the chat template nor the tokenizer of {loaded_name(tokenizer)} has an "
            "end-of-turn token: set `chat_template` on the model."
        )
    return end_of_text


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids)))
