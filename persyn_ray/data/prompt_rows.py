"""One row of a file becomes a prompt: its messages, its id, its labels, or why it is none."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from persyn_ray.data.cells import label_of, text_key
from persyn_ray.data.conversations import Messages, NoConversation, messages_of
from persyn_ray.data.files.rows import BadRow, Row
from persyn_ray.recipe.data import PromptsConfig

ALPACA = ("instruction", "input")
"""An instruction and what it is about, in columns of their own."""
QUOTED = json.JSONEncoder(ensure_ascii=False).encode


def prompt_id_of(messages: Sequence[dict[str, str]]) -> str:
    """The id of a conversation: the first 32 hex digits of the SHA-256 of its canonical JSON.

    Canonical is `json.dumps` with sorted keys, no white space and letters as they are.
    Conversations that read the same have the same id.
    """
    turns = [
        # Texts one by one: of whole conversations the encoder takes three times as long.
        f'{{"content":{QUOTED(text_key(turn["content"]))},"role":{QUOTED(turn["role"])}}}'
        for turn in messages
    ]
    return hashlib.sha256(f"[{','.join(turns)}]".encode()).hexdigest()[:32]


def prompt_of(section: PromptsConfig, row: Row | BadRow, require_reference: bool) -> dict[str, Any]:
    """The prompt's id, messages, reference and task.

    Raises:
        NoConversation: the row is no prompt; says why.
    """
    if isinstance(row, BadRow):
        raise NoConversation("unreadable_row", row.detail)
    messages, known_by = _messages(section, row)
    reference, task = (
        None if column is None else label_of(row.get(column))
        for column in (section.reference_column, section.task_column)
    )
    texts = [reference, task, *(message["content"] for message in messages)]
    if not all(_is_unicode(text) for text in texts if text is not None):
        raise NoConversation(
            "invalid_unicode",
            "a text holds bytes or surrogates that are no UTF-8: save the file as UTF-8",
        )
    if require_reference and reference is None:
        raise NoConversation("no_reference", f"column {section.reference_column!r} is empty")
    return {
        "prompt_id": prompt_id_of(known_by),
        "messages": messages,
        "reference": reference,
        "task": task,
    }


def _messages(section: PromptsConfig, row: Row) -> tuple[Messages, Messages]:
    """The conversation of a row as it is sent, and as its id is made of it.

    A cell holds messages, which are taken as they stand, or text, which goes through the template.
    """
    value = row.get(section.column)
    messages = messages_of(value)
    if messages is not None:
        return messages, messages
    if value is None or (isinstance(value, str) and not text_key(value)):
        raise NoConversation("no_text", f"column {section.column!r} is empty")
    if not isinstance(value, str):
        raise NoConversation(
            "wrong_type", f"column {section.column!r} holds no text but {type(value).__name__}"
        )
    subject = row.get(ALPACA[1]) if section.column == ALPACA[0] else None
    text = f"{value}\n\n{subject}" if isinstance(subject, str) and subject.strip() else value
    return _asked(section, text), _asked(section, text_key(text))


def _asked(section: PromptsConfig, text: str) -> Messages:
    # Not str.format: templates speak of \boxed{} and JSON.
    messages = [{"role": "user", "content": section.template.replace("{prompt}", text)}]
    if section.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": section.system_prompt})
    return messages


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
