"""Properties of a response's text: repetition loops, invalid Unicode, and where its thinking
ends.

A text is a loop when it ends in a passage u said `repeats` times or more, the last time perhaps in
part: text = … u u … u v, where v begins u. That is a suffix of length L with period p = |u| and
L >= repeats · p. White space counts as one space. A circle with a counter in it is none: the
repetition must be exact.

Nothing here knows tables, tokens or teachers.
"""

import unicodedata
from collections.abc import Iterator
from typing import Protocol

Tags = tuple[str, str]

BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters by their class, and yet unseen


class SeenByStudent(Protocol):
    """The part of `responses` in a recipe that decides what the student sees."""

    @property
    def thinking(self) -> str: ...

    @property
    def think_tags(self) -> Tags: ...


def is_loop(text: str, repeats: int, min_chars: int = 200) -> bool:
    """Whether the text ends in a passage repeated so often, over at least `min_chars` characters.

    Linear in the text's length.
    """
    return loop_length(text, repeats, min_chars) is not None


def loop_length(text: str, repeats: int, min_chars: int = 200) -> int | None:
    """Characters of the repeated end of a loop, with white space as one space; None if it is none.

    Linear in the text's length.
    """
    # The space in front lets the first passage be as long as the others in "so so so".
    backwards = " ".join(["", *text.split()])[::-1]
    # Whatever the period, so much of the end stands once more before it. Most texts go no further.
    if backwards.find(backwards[: min_chars * (repeats - 1) // repeats], 1) < 0:
        return None
    longest = len(backwards) // repeats
    return next(
        (
            period + num_same
            for period, num_same in _agreements(backwards, longest)
            if period + num_same >= max(repeats * period, min_chars)
        ),
        None,
    )


def _agreements(text: str, last: int) -> Iterator[tuple[int, int]]:
    """For each start up to `last`, how far the text from there on agrees with its beginning.

    This is the Z function. What is known to agree already, from `left` to `right`, is not compared
    again: hence linear.
    """
    known = [0] * (last + 1)
    left = right = 0
    for start in range(1, last + 1):
        num_same = min(right - start, known[start - left]) if start < right else 0
        if start + num_same >= right:
            num_same = _agree_from(text, start, num_same)
            left, right = start, start + num_same
        known[start] = num_same
        yield start, num_same


def _agree_from(text: str, start: int, num_same: int) -> int:
    length = len(text)
    while start + num_same < length and text[num_same] == text[start + num_same]:
        num_same += 1
    return num_same


def without_thinking(text: str, tags: Tags) -> str:
    """The text after the last thinking; empty where thinking has not ended, unchanged without any.

    The opening tag may be missing: many chat templates write it into the prompt. Such a text that
    was cut before its closing tag cannot be told from an answer; its finish reason says so.
    """
    if is_thinking_unclosed(text, tags):
        return ""
    _, closing, answer = text.rpartition(tags[1])
    return answer.lstrip() if closing else answer


def is_thinking_unclosed(text: str, tags: Tags) -> bool:
    """Whether the text ends inside its thinking."""
    opening, closing = tags
    return opening in text.rpartition(closing)[2]


def is_blank(text: str) -> bool:
    """Whether there is nothing to see: white space, zero-width and control characters alone."""
    return all(
        character.isspace()
        or character in BLANK_LETTERS
        or unicodedata.category(character) in ("Cf", "Cc", "Zs", "Zl", "Zp")
        for character in text
    )


def judged_text(response: str | None, tags: Tags) -> str:
    """What of a response is judged, whatever the student sees: the answer behind the thinking.

    Empty where there is none: thinking alone, thinking that was cut, or nothing to see.
    """
    answer = without_thinking(response or "", tags)
    return "" if is_blank(answer) else answer


def student_text(response: str | None, seen: SeenByStudent) -> str | None:
    """A response as the student sees it: the same in scoring and in training.

    Empty where it holds no answer: from thinking alone there is nothing to learn.
    """
    if response is None:
        return None
    answer = judged_text(response, seen.think_tags)
    return response if answer and seen.thinking != "strip" else answer


def valid_unicode(text: str) -> str:
    """Text that can be stored and tokenised: halves of surrogate pairs are joined or replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
