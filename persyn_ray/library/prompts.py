"""Prompts as Python has them: texts or conversations in, messages out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from persyn_ray.data.conversations import NoConversation, messages_of
from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.errors import DataError
from persyn_ray.models.chat import Message

Prompt = str | Sequence[Mapping[str, Any]]
"""A text, or messages with `role` and `content` up to the user's last."""
Prompts = Iterable[Prompt]
"""Prompts in a list, an Arrow column, or a column of pandas."""


@runtime_checkable
class _Column(Protocol):
    """An Arrow array."""

    def to_pylist(self) -> list[Any]: ...


def as_list(values: Any, what: str) -> list[Any]:
    """The values of a list, an Arrow column, a column of pandas or an array.

    Raises:
        DataError: it is one text, a table or a mapping.
    """
    if isinstance(values, str | Mapping) or hasattr(values, "columns"):
        raise DataError(
            f"{what} are a {type(values).__name__}; a list or one column of a table would be right."
        )
    return values.to_pylist() if isinstance(values, _Column) else list(values)


def conversations_of(prompts: Prompts) -> list[list[Message]]:
    """The messages of each prompt, in order; a text is what a user says.

    Raises:
        DataError: one is empty, or neither a text nor messages; with its place.
    """
    return [_messages(prompt, place) for place, prompt in enumerate(as_list(prompts, "Prompts"))]


def ids_of(conversations: Sequence[Sequence[Message]]) -> list[str]:
    """The id that each conversation has in every run."""
    return [
        prompt_id_of([{"role": turn["role"], "content": turn["content"]} for turn in turns])
        for turns in conversations
    ]


def _messages(prompt: Any, place: int) -> list[Message]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise DataError(f"Prompt {place} is empty.")
        return [Message(role="user", content=prompt)]
    if not isinstance(prompt, dict) and isinstance(prompt, Iterable):
        prompt = [dict(turn) if isinstance(turn, Mapping) else turn for turn in prompt]
    try:
        found = messages_of(prompt)
    except NoConversation as why:
        raise DataError(f"Prompt {place}: {why.args[1]}.") from None
    if found is None:
        raise DataError(
            f"Prompt {place} is {prompt!r:.80}; a text or a list of messages would be right."
        )
    return [Message(role=turn["role"], content=turn["content"]) for turn in found]
