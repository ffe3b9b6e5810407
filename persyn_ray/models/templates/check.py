"""Tells conversations a chat template refuses from templates that refuse every conversation.

A chat template may refuse a conversation (roles that do not alternate) or rewrite it once it is
answered. Whether that is the template's fault, the prompt's or the response's is told by trying the
same template with harmless texts in the place of the others.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import (
    END_OF_THINKING,
    STAND_IN,
    THINK,
    Message,
    encode_example,
    render_conversation,
)
from persyn_ray.models.templates.shapes import Check, check_by_roles

RESPONSES = (STAND_IN, f"{THINK}\n{STAND_IN}\n{END_OF_THINKING}\n\n{STAND_IN}")
"""Harmless responses: a plain one, and one for templates whose prompt opens the thinking."""
CONVERSATIONS = (
    [Message(role="user", content=STAND_IN)],
    [Message(role="system", content=STAND_IN), Message(role="user", content=STAND_IN)],
)
"""Harmless conversations: of a template that works, one at least is taken."""


def why_unreadable(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    template_kwargs: Mapping[str, Any] | None = None,
) -> str | None:
    """Why a conversation can be answered by no response, however harmless; None if it can.

    Raises:
        ConfigError: the tokenizer has no chat template, or no end-of-turn token.
    """
    why: str | None = None
    for response in RESPONSES:
        try:
            encode_example(tokenizer, messages, response, template_kwargs)
        except DataError as error:
            why = why or str(error)
        else:
            return None
    return why


def readability_check(
    tokenizer: PreTrainedTokenizerBase, template_kwargs: Mapping[str, Any] | None = None
) -> Check:
    """`why_unreadable` for many conversations: those that a template copies are told by roles."""

    def prompt(messages: Sequence[Message]) -> str:
        return render_conversation(tokenizer, messages, True, template_kwargs)

    def answered(messages: Sequence[Message]) -> str:
        turn = Message(role="assistant", content=STAND_IN)
        return render_conversation(tokenizer, [*messages, turn], False, template_kwargs)

    check = partial(why_unreadable, tokenizer, template_kwargs=template_kwargs)
    return check_by_roles(tokenizer, check, (prompt, answered), template_kwargs)


def require_sound_template(
    tokenizer: PreTrainedTokenizerBase,
    template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a chat template that breaks every conversation, before any row is tokenised.

    Raises:
        ConfigError: with what the template does to the simplest conversation.
    """
    whys = [why_unreadable(tokenizer, messages, template_kwargs) for messages in CONVERSATIONS]
    if None not in whys:
        raise ConfigError(str(whys[0]))
