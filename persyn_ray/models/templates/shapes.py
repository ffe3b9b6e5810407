"""Tells whether a template reads a conversation from how it read one with the same roles.

Most chat templates copy what a message says as it is. For those it depends on the roles alone
whether a conversation is read. That a template copies is proved from its source (`copies`) where it
can be; else a rendering shows it of one conversation, which is a tenth of the work of tokenising
it. A million prompts are checked this way before a teacher is paid for them.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import DataError
from persyn_ray.models.chat import END_OF_THINKING, THINK, Message
from persyn_ray.models.sanitize import controls, is_free_of_controls
from persyn_ray.models.templates.copies import copies_texts

Check = Callable[[Sequence[Message]], str | None]
Render = Callable[[Sequence[Message]], str]
Pieces = tuple[str, ...]
"""What a template writes before, between and after the messages' texts."""
RENDERED_WITH = ("tools", "documents", "add_generation_prompt")
"""What every template is given."""


def check_by_roles(
    tokenizer: PreTrainedTokenizerBase,
    check: Check,
    renders: Sequence[Render],
    template_kwargs: Mapping[str, Any] | None = None,
) -> Check:
    """The same answers as `check`, which is asked only where the roles and a copy do not tell.

    Args:
        tokenizer: whose chat template is meant.
        check: why a conversation cannot be read, or None.
        renders: all that `check` makes of a conversation by the template.
        template_kwargs: what the template is given beside the conversation.
    """
    known: dict[tuple[str, ...], list[Pieces] | None] = {}
    copies_all, copies_stripped = _copied(tokenizer, template_kwargs or {})

    def quick(messages: Sequence[Message]) -> str | None:
        roles = tuple(message["role"] for message in messages)
        if roles not in known:
            known[roles] = _pieces_of(tokenizer, roles, check, renders)
        pieces, texts = known[roles], [message["content"] for message in messages]
        if pieces is not None and all(_is_plain(tokenizer, text) for text in texts):
            if copies_all or (copies_stripped and all(text == text.strip() for text in texts)):
                return None
            expected = [_joined(of, texts) for of in pieces]
            if _rendered(messages, renders) == expected:
                return None
        return check(messages)

    return quick


def _copied(
    tokenizer: PreTrainedTokenizerBase, template_kwargs: Mapping[str, Any]
) -> tuple[bool, bool]:
    """Whether the template is proved to copy all texts, and those without white space around."""
    render, template = PreTrainedTokenizerBase.apply_chat_template, tokenizer.chat_template
    # Some settings are none of the template's: they name another one, or change texts before it.
    is_alone = inspect.signature(render).parameters.keys().isdisjoint(template_kwargs)
    is_alone = is_alone and type(tokenizer).apply_chat_template is render
    if not is_alone or not isinstance(template, str):
        return False, False
    settings = (*RENDERED_WITH, *tokenizer.special_tokens_map, *template_kwargs)
    return copies_texts(template, False, settings), copies_texts(template, True, settings)


def _pieces_of(
    tokenizer: PreTrainedTokenizerBase,
    roles: Sequence[str],
    check: Check,
    renders: Sequence[Render],
) -> list[Pieces] | None:
    """What stands around the texts in each rendering; None if that does not tell who reads them."""
    texts = [f"text-{number}-of-{len(roles)}" for number in range(len(roles))]
    messages = [Message(role=r, content=text) for r, text in zip(roles, texts, strict=True)]
    if check(messages) is not None:
        return None
    found = [_split(text, texts) for text in _rendered(messages, renders)]
    pieces = [of for of in found if of is not None]
    # A control token behind the last text keeps the tokens that follow apart from it.
    is_told = len(pieces) == len(renders) and not any(
        re.search(controls(tokenizer)[1], of[-1]) is None for of in pieces
    )
    return pieces if is_told else None


def _rendered(messages: Sequence[Message], renders: Sequence[Render]) -> list[str]:
    try:
        return [render(messages) for render in renders]
    except DataError:
        return []


def _split(rendered: str, texts: Sequence[str]) -> Pieces | None:
    """A rendering around its texts; None unless each stands in it once, in their order."""
    pieces: list[str] = []
    for text in texts:
        before, found, rendered = rendered.partition(text)
        if not found or text in rendered:
            return None
        pieces.append(before)
    return (*pieces, rendered)


def _joined(pieces: Pieces, texts: Sequence[str]) -> str:
    return "".join(a + b for a, b in zip(pieces, texts, strict=False)) + pieces[-1]


def _is_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text has words, no control token and no thinking tag."""
    if not text.strip() or THINK in text or END_OF_THINKING in text:
        return False
    return is_free_of_controls(tokenizer, text)
