"""Parses message content of endpoints: text and reasoning out of the shapes that servers use.

Content is a string, a list of parts (`text`, `thinking`, `refusal`, …), or one part. Thinking is
such a part, or stands beside the content under one of several names, or in both places.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BESIDE = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thoughts",
    "reasoning_details",
    "thinking_blocks",
)
"""Fields of a message that may hold its thinking; the first that holds some counts."""
INNER = ("text", "thinking", "reasoning", "summary", "content", "value", "output_text")
BEDROCK = ("reasoningContent", "reasoningText")


@dataclass(frozen=True)
class Said:
    """What a message says; `text` is None where it holds something else and no text."""

    text: str | None
    thinking: str = ""
    refusal: str = ""
    others: tuple[str, ...] = ()  # kinds of the parts that are no text

    def in_one(self, tags: tuple[str, str], is_whole: bool) -> str | None:
        """Thinking between its tags, once, and then the text; a thought that was cut stays open."""
        if self.text is None or not self.thinking:
            return self.text
        opening, closing = tags
        thinking, text = _apart(self.thinking, self.text, tags)
        if text is None:  # the text itself is a thought that was cut
            return self.text
        if not is_whole and not text:
            return f"{opening}{thinking}"
        return f"{opening}{thinking}{closing}\n{text}"


def read_message(message: Mapping[str, Any]) -> Said:
    """Take a message apart."""
    parts = list(_parts(message.get("content")))
    found = {
        kind: [text for named, text in parts if named == kind]
        for kind in ("text", "thinking", "refusal", "other")
    }
    thinking = "\n".join(filter(None, found["thinking"]))
    for name in BESIDE:
        thinking = thinking or _inner(message.get(name)) or ""
    refusal = message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else "".join(found["refusal"])
    is_text = bool(found["text"]) or not found["other"]
    text = "".join(found["text"]) if is_text else None
    return Said(text, thinking, refusal, tuple(found["other"]))


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """Kind and text of each part."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, dict):
        yield _part(content)
    elif content is not None:
        yield "other", type(content).__name__


def _part(part: Mapping[str, Any]) -> tuple[str, str]:
    kind = str(part.get("type") or "").lower()
    text = _inner(part)
    is_bedrock = any(name in part for name in BEDROCK)
    if kind == "refusal":
        return "refusal", str(part.get("refusal") or text or "")
    if part.get("thought") is True or "thinking" in kind or "reason" in kind or is_bedrock:
        return "thinking", text or ""
    return ("other", kind or "an object") if text is None else ("text", text)


def _inner(value: Any) -> str | None:
    """The text somewhere inside a part; None where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [text for text in map(_inner, value) if text]
        return "\n".join(texts) if texts else None
    if isinstance(value, dict):
        found = (_inner(value[name]) for name in (*INNER, *BEDROCK) if name in value)
        return next((text for text in found if text is not None), None)
    return None


def _apart(thinking: str, text: str, tags: tuple[str, str]) -> tuple[str, str | None]:
    """Thinking and text, where some servers also leave the thinking in the text.

    The text is None where it is the beginning of that thinking and nothing else.
    """
    opening, closing = tags
    head, closed, rest = text.partition(closing)
    is_opened = head.lstrip().startswith(opening)
    inner = head.lstrip().removeprefix(opening).strip()
    if not is_opened and not (closed and inner == thinking.strip()):
        return thinking, text
    if not closed:
        return thinking, None
    both = thinking if inner in ("", thinking.strip()) else f"{thinking}\n{inner}"
    return both, rest.lstrip()
