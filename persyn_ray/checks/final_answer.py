r"""Extracts the final answer of a response: one function with a table of forms.

| form | example | which one counts |
|---|---|---|
| box | `\boxed{72}`, `\fbox{72}`, `\boxed{1}` and `\boxed{2}` | the last; those beside each other |
| tag | `<answer>72</answer>` | the last |
| line | `#### 72` | the last that says a value, or that nothing follows |
| phrase | The answer is 72. Antwort: 72. 答案是72。 | the last, to the end of its sentence |
| expression | … that is 72 clips. | the last formula or number |

Box, tag and line are marks: where there are several, the one that stands last in the text counts. A
form within a form (`<answer>\boxed{72}</answer>`) is opened. A phrase counts where there is no
mark, the last expression where there is no phrase either. Nothing is cut out of a marked answer:
`(7, 2)` is not 2.

Thinking is taken off before (`response_text.without_thinking`); what an answer says is for
`same_answer`.
"""

import re
from typing import NamedTuple

from persyn_ray.checks.answer_numbers import quantity_of
from persyn_ray.checks.answer_phrases import announced, announced_at_once
from persyn_ray.checks.answer_text import canonical, is_prose, unified
from persyn_ray.data.response_text import is_blank

LONGEST = 2_000  # characters taken as an answer
SHORT = 200  # characters of a text that may be an answer as a whole
MOST_BOXES = 50  # looked at, from the end; texts may hold thousands that never close
TAIL = 4_000  # characters searched for an answer without a mark; it stands at the end

_TAG = re.compile(r"<\s*(?:final[_ ]?)?answer\s*>", re.IGNORECASE)
_TAG_END = re.compile(r"<\s*/\s*(?:final[_ ]?)?answer\s*>", re.IGNORECASE)
_BETWEEN_BOXES = re.compile(
    r"[\s$,;.()\[\]\\、，]*(?:(?:text\{\s*)?(?:and|or|und|oder|et|ou|y|e|o|и|или|和|或|と)\b\s*\}?)?"
    r"[\s$,;()\[\]\\]*(?:[a-z](?:_\{?\d\}?)?\s*=\s*)?[\s$]*",
    re.IGNORECASE,
)
_VALUE = (
    r"(?:(?:\d{1,2}(?:,\d{2})+,\d{3}|\d+(?:,\d{3})*)(?:\.\d+)?|\.\d+)"
    r"(?:\s+\d+\s*/\s*\d+|\s*/\s*\d+(?![\d/])|[eE][-+]?\d+"
    r"|\s*\\times\s*10\s*\^\s*\{?-?\d+\}?|\\(?:frac|sqrt)(?:\{[^{}]{1,40}\}){1,2})?"
    r"|\\(?:frac|sqrt)(?:\{[^{}]{1,40}\}){1,2}"
)
_SIGNED = rf"(?:(?<![\w)])-)?(?:[$€£¥₹₽]|\bRs\.?)?\s?(?:(?<=[$€£¥₹₽\s])-)?(?:{_VALUE})"
# Of a tuple, where a comma parts elements and no thousands; atomic there, so that it is read once.
_ELEMENT = _SIGNED.replace(r"(?:\d{1,2}(?:,\d{2})+,\d{3}|\d+(?:,\d{3})*)", r"\d+")
_EXPRESSION = re.compile(
    r"(?:\$\$(?P<display>[^$]{1,500}?)\$\$|(?<![\\\d])\$(?=\S)(?P<inline>[^$\n]{0,500}?[^\s$])\$(?!\d)"
    r"|\\\((?P<round>.{1,500}?)\\\)|\\\[(?P<square>(?s:.{1,500}?))\\\])"
    r"|(?<![A-Za-z0-9_])\d{1,2}:\d\d(?::\d\d)?(?:\s*[ap]\.?m\b)?"
    rf"|[(\[]\s*+(?>{_ELEMENT})(?:\s*+,\s*+(?>{_ELEMENT})){{1,20}}+\s*+[)\]]"
    rf"|(?<![A-Za-z0-9_#])(?<!\d[.,]){_SIGNED}(?:\s*%)?"
)
_LATEX = re.compile(r"\\(?:begin|[lg]eq?|in|infty|log|pm|pi)(?![A-Za-z])")
"""Commands of a whole that its last number would not stand for; fractions and roots are numbers."""
_SENTENCES = re.compile(r"[.!?。](?:\s|$)")
_BULLET = re.compile(r"(?:^|\n)[ \t]*\d{1,3}[.)](?=\s)")


class Answer(NamedTuple):
    """What a text says its answer is."""

    text: str
    is_marked: bool = True
    """By a box, a tag or a line of its own, so that all of it is the answer."""


class _Found(NamedTuple):
    start: int
    text: str


def final_answer(text: str, marker: str | None = None) -> Answer | None:
    """The answer that a response ends with, None where it states none.

    With a `marker` that is the only form: what follows its last occurrence.
    """
    if marker is not None:
        _, found, answer = text.rpartition(marker)
        return Answer(answer.strip()) if found and not is_blank(answer) else None
    marked = _marked(text)
    if marked is not None:
        return Answer(_opened(marked))
    tail = unified(text[-TAIL:])
    told = announced(text[-TAIL:])
    if told is not None and not is_blank(told):
        return Answer(_opened(told[:LONGEST]), is_marked=False)
    last = _last_expression(tail)
    return None if last is None else Answer(last, is_marked=False)


def reference_answer(text: str) -> str:
    """The answer in a reference: the whole of it, but where it is a solution that ends in one."""
    marked = _marked(text)
    if marked is not None:
        return _opened(marked)
    told = announced_at_once(text)
    if told is not None and not is_blank(told):
        return told
    whole = text[-TAIL:].strip()
    is_solution = len(text) > SHORT and len(_SENTENCES.findall(whole)) > 1 and is_prose(whole)
    answer = final_answer(text) if is_solution else None
    return whole if answer is None else answer.text


def _marked(text: str) -> str | None:
    """What the last mark of a text holds."""
    found = [mark for mark in (_last_box(text), _last_tag(text), _last_line(text)) if mark]
    return max(found).text if found else None


def _opened(text: str) -> str:
    """An answer without the forms that it stands in once more."""
    for _ in range(3):
        inner = _marked(text) or announced_at_once(text)
        if inner is None or is_blank(inner):
            break
        text = inner
    return text


def _last_tag(text: str) -> _Found | None:
    if "<" not in text:
        return None
    for tag in reversed(list(_TAG.finditer(text))):
        end = _TAG_END.search(text, tag.end())
        inner = text[tag.end() : end.start() if end else None][:LONGEST]
        if not is_blank(inner):
            return _Found(tag.start(), inner.strip())
    return None


def _last_line(text: str) -> _Found | None:
    """The last `#### …`; it is also a heading in Markdown, which is no answer."""
    end = len(text)
    for _ in range(50):
        start = text.rfind("####", 0, end)
        if start < 0:
            return None
        rest = text[start : start + 2 * LONGEST].lstrip("#")
        line, _, after = rest.strip().partition("\n")
        line = line[:LONGEST].strip()
        if not is_blank(line) and (is_blank(after) or _says_a_value(line)):
            return _Found(start, line)
        end = start
    return None


def _says_a_value(line: str) -> bool:
    plain = canonical(line)
    quantity = quantity_of(plain)
    return not quantity.noun if quantity else not is_prose(plain)


def _last_box(text: str) -> _Found | None:
    """The last box, together with those right before it."""
    boxes: list[_Found] = []
    end = start = len(text)
    for _ in range(MOST_BOXES):
        place = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if place < 0:
            break
        box = _box_at(text, place)
        if box is not None:
            closing, inner = box
            if boxes and not _BETWEEN_BOXES.fullmatch(text, closing, max(start, closing)):
                break
            boxes.append(_Found(place, inner))
            start = place
        end = place
    if not boxes:
        return None
    inner = list(dict.fromkeys(box.text for box in reversed(boxes)))
    return _Found(boxes[0].start, ", ".join(inner))


def _box_at(text: str, place: int) -> tuple[int, str] | None:
    r"""Where a box ends, and what it holds; None where it is empty or its braces do not close."""
    start = text.find("{", place, place + 20)
    if start < 0 or not re.fullmatch(r"\\(?:boxed|fbox)\s*", text[place:start]):
        return None
    depth = 0
    for index in range(start, min(len(text), start + LONGEST)):
        if text[index] in "{}" and text[index - 1] != "\\":
            depth += 1 if text[index] == "{" else -1
        if depth == 0:
            inner = text[start + 1 : index].strip()
            return None if is_blank(inner) else (index + 1, inner)
    return None


def _last_expression(tail: str) -> str | None:
    """The last formula or number; the whole of a short line without either, or of LaTeX alone."""
    whole = tail.strip()
    is_short = bool(whole) and len(whole) <= SHORT and "\n" not in whole
    if is_short and _LATEX.search(whole) and "$" not in whole and not is_prose(canonical(whole)):
        return whole
    last = None
    bullets = {match.end() - 1 for match in _BULLET.finditer(tail)}
    for match in _EXPRESSION.finditer(tail):
        inner = next((group for group in match.groups() if group is not None), None)
        is_variable = inner is not None and len(inner.strip()) < 3 and not inner.strip().isdigit()
        if not is_variable and match.end() not in bullets:
            last = inner or match[0]
    if last is not None:
        return last.strip()
    return whole if is_short else None
