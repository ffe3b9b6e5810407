"""A response as it is shown: stored text in; thinking, answer and what of them to mark out."""

import re
from dataclasses import dataclass

from persyn_ray.data.response_text import Tags, loop_length


@dataclass(frozen=True)
class ShownText:
    """A response in its two parts."""

    thinking: str | None
    """None where the teacher has shown none."""
    text: str
    thinking_loop_start: int | None = None
    """Character from which on the thinking repeats itself."""
    loop_start: int | None = None
    """The same in the text."""


Span = tuple[int, int]


def shown_text(response: str, tags: Tags, repeats: int | None) -> ShownText:
    """Part a response at its think tags and find a loop at its end."""
    opening, closing = tags
    before, closed, answer = response.rpartition(closing)
    if opening in answer:  # thinking that was cut
        text, _, thinking = answer.partition(opening)
        start = loop_start(thinking, repeats)
        return ShownText((before + closed + thinking).strip(), text.strip(), start)
    text = answer.lstrip() if closed else answer
    thinking = before.replace(opening, "", 1).strip() if closed else None
    return ShownText(thinking, text, None, loop_start(text, repeats))


def spans_in(
    shown: ShownText, response: str, tags: Tags, span: Span
) -> tuple[Span | None, Span | None]:
    """A stretch of the stored response in the thinking and in the text, each by its own characters.

    None where it does not reach, and where it is the whole answer: a mark would tell nothing.
    """
    if response[slice(*span)].strip() in (response.strip(), shown.text.strip()):
        return None, None
    opened = response.find(tags[0])
    begin = 0 if opened < 0 else opened + len(tags[0])
    thinking = shown.thinking or ""
    return (
        _within(span, response.find(thinking, begin), len(thinking)),
        _within(span, response.rfind(shown.text), len(shown.text)),
    )


def loop_start(text: str, repeats: int | None) -> int | None:
    """The character at which the repeated end of a text begins; None where there is none or
    nothing counts as a loop (`repeats` None).
    """
    length = None if repeats is None else loop_length(text, repeats)
    if length is None:
        return None
    left = length
    for word in reversed(list(re.finditer(r"\S+", text))):  # white space counts as one space
        if left <= len(word[0]):
            return word.end() - left
        left -= len(word[0]) + 1
        if left <= 0:
            return word.start()
    return 0


def _within(span: Span, at: int, length: int) -> Span | None:
    """A stretch by the characters of a part of the response that begins there."""
    start, end = max(0, span[0] - at), min(length, span[1] - at)
    return (start, end) if at >= 0 and start < end else None
