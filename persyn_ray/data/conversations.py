"""Parses conversations: the common table formats in, messages with role and text out.

Read are OpenAI's form (`role` and `content`, which may be a list of text parts), ShareGPT's (`from`
and `value`), lists of both as JSON or Python text, as an object under `messages` or
`conversations`, and as an object of lists. A prompt ends with its last user turn: answers behind it
are cut off. What only some models can be told (images, calls of tools) is refused with its reason,
for a prompt must be the same for all teachers.
"""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from persyn_ray.data.cells import text_key, text_of

READ_AS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}
TOOLS = ("tool", "function", "function_call", "observation", "tool_call", "tool_response")
_WRAPPERS = ("messages", "conversations", "conversation")
_WHO, _WHAT = ("role", "from"), ("content", "value", "text")
_TEXT_PARTS = ("text", "input_text", "output_text")
_LIKE_MESSAGES = re.compile(r"""\s*[\[{].*?["'](role|from|messages|conversations)["']\s*:""", re.S)

Messages = list[dict[str, str]]


class NoConversation(Exception):
    """A cell that no prompt can be read from: reason and detail of its dead letter."""


def messages_of(cell: Any) -> Messages | None:
    """The conversation in a cell up to its last user turn; None for a cell that holds none.

    Raises:
        NoConversation: it is one, but not of a form that can be read, or nothing is asked in it.
    """
    turns = _turns(_parsed(cell) if isinstance(cell, str) else cell)
    if turns is None:
        return None
    roles = [_role(turn) for turn in turns]
    if "user" not in roles:
        raise NoConversation("bad_messages", "the conversation has no user message")
    end = len(roles) - roles[::-1].index("user")
    messages = [_message(turn) for turn in turns[:end]]
    if not text_key(messages[-1]["content"]):
        raise NoConversation("no_text", "the last user message is empty")
    return messages


def prompt_key(cell: Any) -> str | None:
    """What a cell asks, in the form in which equal prompts are equal: a text's own, or the last
    user turn of a conversation; None where nothing is asked.
    """
    try:
        messages = messages_of(cell)
    except NoConversation:
        return None
    text = text_of(cell) if messages is None else messages[-1]["content"]
    return (text_key(text) or None) if text is not None else None


def answer_of(cell: Any) -> str | None:
    """The response in a cell: text as it is, of a conversation the last turn, which answers.

    Raises:
        NoConversation: it is neither.
    """
    turns = _turns(cell)
    if turns is None and not isinstance(cell, list | dict):
        return text_of(cell)
    if not turns or _role(turns[-1]) != "assistant":
        kind = type(cell).__name__
        raise NoConversation("wrong_type", f"a text is expected, found {kind} {str(cell)[:80]!r}")
    return _message(turns[-1])["content"]


def _turns(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    for name in _WRAPPERS:
        if value.get(name) is not None:
            return _turns(value[name])
    who, what = _field(value, _WHO), _field(value, _WHAT)
    if isinstance(who, list) and isinstance(what, list) and len(who) == len(what):
        return [{"role": role, "content": text} for role, text in zip(who, what, strict=True)]
    return [value] if isinstance(who, str) else None


def _parsed(text: str) -> Any:
    """What a text says that is a conversation written down; other texts as they are.

    Raises:
        NoConversation: it looks like one and cannot be read: it must not be sent as it stands.
    """
    text = text.strip()
    looks = _LIKE_MESSAGES.match(text[:2000]) if text.endswith(("]", "}")) else None
    if looks is None:
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if _is_conversation(value) else text
    if text.startswith("[") or looks[1] in _WRAPPERS:
        raise NoConversation(
            "bad_messages", f"it looks like messages and is neither JSON nor Python: {text!r:.200}"
        )
    return text


def _is_conversation(value: Any) -> bool:
    """Whether it is made of messages; a prompt may be JSON of another kind, also a lone message."""
    if isinstance(value, dict) and not any(value.get(name) for name in _WRAPPERS):
        return False
    turns = _turns(value)
    return bool(turns) and all(isinstance(turn, dict) and _field(turn, _WHO) for turn in turns)


def _role(turn: Any) -> str:
    given = _field(turn, _WHO) if isinstance(turn, dict) else None
    role = given.strip().lower() if isinstance(given, str) else None
    if role in TOOLS:
        return "tool"
    if role not in READ_AS:
        raise NoConversation(
            "bad_messages", f"a message needs a role of {sorted(READ_AS)}, found {turn!r:.200}"
        )
    return READ_AS[role]


def _message(turn: Mapping[str, object]) -> dict[str, str]:
    role = _role(turn)
    if role == "tool" or turn.get("tool_calls") or turn.get("function_call"):
        raise NoConversation(
            "tool_turns", f"calls of tools and their results are not carried, found {turn!r:.200}"
        )
    return {"role": role, "content": _text(_field(turn, _WHAT), turn)}


def _text(content: Any, turn: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NoConversation("bad_messages", f"a message needs a text, found {turn!r:.200}")
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = (part.get("type") or "text") if isinstance(part, dict) else type(part).__name__
    text = part.get("text") if isinstance(part, dict) and kind in _TEXT_PARTS else None
    if not isinstance(text, str):
        raise NoConversation(
            "not_text", f"only text is carried, found a part of type {kind!r}: {part!r:.200}"
        )
    return text


def _field(turn: Mapping[str, object], names: tuple[str, ...]) -> Any:
    """The first of these fields that is not null: formats mixed in one table leave nulls."""
    return next((turn[name] for name in names if turn.get(name) is not None), None)
