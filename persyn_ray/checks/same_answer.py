r"""Compares two answers for equality, as far as that needs no algebra.

An answer equals itself in every writing. Beyond that numbers with their units are compared by
value, tuples, intervals, sets and lists element by element, letters of a choice as such, and words
as words. What is left (`\sqrt{8}` and `2\sqrt{2}`) is for math-verify: the verdict is then None.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from persyn_ray.checks.answer_numbers import quantity_of
from persyn_ray.checks.answer_text import canonical, is_prose, key
from persyn_ray.checks.final_answer import Answer
from persyn_ray.checks.same_quantity import same_quantity

_CHOICE = re.compile(r"\(?([A-Za-z])\)?[.):]?")
_CHOSEN = re.compile(
    r"(?:option|choice|answer)?\s*(?:\(([A-Z])\)|([A-Z])(?:[).:,]|\s*$|\s+(?:because|since|is|as)\b|\s*[-–—]\s))",
    re.IGNORECASE,
)
_YES_NO = ("yes", "no", "true", "false")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}")
_ROW = re.compile(r"(?<![_\d])\d+\s+\d+(?!\s?[\d/])")  # `0 0 6`; algebra takes it for a product
_IN_BASE = re.compile(r"([0-9A-Fa-f]+)_\{?\s?(\d{1,2})\s?\}?")  # algebra ignores the base
_RATIO = re.compile(r"\d{1,9}(?:\.\d{1,9})?(?:\s*:\s*\d{1,9}(?:\.\d{1,9})?)+")
_ARITHMETIC = re.compile(r"(?:[-+*/^.,()\[\]{}\s$€£¥%\d]|\\(?:times|cdot|div|frac|sqrt|approx))+")
_NAME = re.compile(r"[^\W\d_]+(?:_\{?\w+\}?)?(?:\([a-z]\))?|(?:[^\W\d_]+[\s']*)+(?:of [^=]*)?")
_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)|\\approx(?![a-z])")
_SOLUTIONS = re.compile(r"(?<![^\W_])([A-Za-z])\s*=[^=]{1,80}?(?:[,;]|\bor\b|\band\b)\s*\1\s*=")
_BRACKETS = (("\\{", "\\}"), ("{", "}"), ("(", ")"), ("(", "]"), ("[", ")"), ("[", "]"))
_SEPARATOR = re.compile(r"[,;]|\s(?:and|or|und|oder|et|y|e|и)\s")
_LAST_VALUE = re.compile(r"(?:\bis|\bare|=|:|\bequals)\s+(\S.*)$")
_NUMBER = re.compile(
    r"[-+]?[$€£¥₹]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s+\d+/\d+|\s*/\s*\d+|:\d\d)?(?:\s?%|\s[ap]\.?m\b)?"
)
_LIMITING = re.compile(
    r"(?i)\b(?:than|not|least|most|between|until|below|above|under|over"
    r"|up to|exceeds?|never|nor|or)\b"
)


def same_answer(answer: Answer, reference: str) -> bool | None:
    """Whether an answer is the reference's; None where algebra has to decide.

    The reference is one as `final_answer.reference_answer` gives it.
    """
    gold = canonical(reference)
    return _same(reading(answer, gold), gold)


def reading(answer: Answer, gold: str) -> str:
    """The canonical text of an answer that stands against a canonical reference.

    The answer as it stands where it is of the reference's kind; else what an equation or a sentence
    comes to: `24 + 48 = 72`, `x = 72` and `she sold 72 clips` for 72. No part of a tuple or of an
    expression is taken for the whole.
    """
    text = canonical(answer.text)
    if not answer.is_marked and text.endswith("!") and "!" not in gold:
        text = text.rstrip("!").strip()
    if key(text) == key(gold):
        return text
    if not _EQUALS.search(gold):
        text = _right_side(text, answer.is_marked)
    if is_prose(text) and not is_prose(gold) and not _CHOICE.fullmatch(gold):
        text = _number_said(text, answer.is_marked)
    return text


def _right_side(text: str, is_marked: bool = True) -> str:
    """What an equation comes to, where its left side is a calculation or a name.

    In a sentence the left side may be anything.
    """
    *left, right = _EQUALS.split(text)
    if not left or not right.strip() or _SOLUTIONS.search(text):
        return text
    if all(_is_name(side.strip()) for side in left) or (
        not is_marked and quantity_of(right.strip())
    ):
        return canonical(right)
    return text


def _is_name(side: str) -> bool:
    return bool(_ARITHMETIC.fullmatch(side) or _NAME.fullmatch(side)) or (
        not any(sign in side for sign in "<>,;") and quantity_of(side) is not None
    )


def _number_said(text: str, is_marked: bool) -> str:
    """The number of a sentence that gives one; the sentence where it gives a limit or several.

    Of several the first counts where a sentence that no mark announces begins with it.
    """
    if quantity_of(text) is not None or _LIMITING.search(text):
        return text
    numbers = _NUMBER.findall(text)
    if len(numbers) == 1:
        return numbers[0]
    told = _LAST_VALUE.search(text)
    if told and quantity_of(told[1]):
        return told[1]
    first = None if is_marked else _NUMBER.match(text)
    return first[0] if first and text[first.end() : first.end() + 1].isspace() else text


def _same(text: str, gold: str) -> bool | None:
    if key(text) == key(gold):
        return True
    if _CHOICE.fullmatch(gold):
        return _same_choice(text, gold)
    if _IN_BASE.fullmatch(gold):
        return _same_in_base(text, gold)
    if _DATE.fullmatch(gold) or _DATE.fullmatch(text):
        return False
    if _RATIO.fullmatch(gold) or _RATIO.fullmatch(text):
        return _same_ratio(text, gold)
    said, meant = quantity_of(text), quantity_of(gold)
    if said and meant:
        return same_quantity(said, meant)
    if meant and _in_other_writing(text, gold):
        return True
    if is_prose(gold) or gold.casefold() in _YES_NO:
        return _same_words(text, gold)
    parts, gold_parts = collection(text), collection(gold)
    if parts and gold_parts:
        return _same_collection(parts, gold_parts)
    is_row = _ROW.search(text) or _ROW.search(gold)
    if is_row or is_prose(text) or (meant and parts) or (said and gold_parts):
        return False
    return None


def _same_in_base(text: str, gold: str) -> bool | None:
    """Whether digits and base agree; an answer without a base is meant in the reference's."""
    said, meant = _IN_BASE.fullmatch(text), _IN_BASE.fullmatch(gold)
    digits, base = meant.groups() if meant else (gold, "")
    if said:
        return said[1].upper() == digits.upper() and said[2] == base
    return True if key(text).upper() == digits.upper() else None


def _same_ratio(text: str, gold: str) -> bool:
    """Whether one is a multiple of the other; `2/3` is 2:3, and 5:30 is a time."""
    said, meant = quantity_of(text), quantity_of(gold)
    if meant and meant.is_clock:
        return said is not None and same_quantity(said, meant)
    terms, gold_terms = _terms(text), _terms(gold)
    return len(terms) == len(gold_terms) > 1 and all(
        term * gold_terms[0] == gold_term * terms[0]
        for term, gold_term in zip(terms, gold_terms, strict=True)
    )


def _terms(text: str) -> list[Fraction]:
    ratio = text.replace("/", ":").replace(" ", "")
    return [Fraction(term) for term in ratio.split(":")] if _RATIO.fullmatch(ratio) else []


def _in_other_writing(text: str, gold: str) -> bool:
    """A decimal comma, or spaces between thousands, where the reference shows what is meant."""
    number = re.fullmatch(r"(-?\d+),(\d+)", text)
    if number and "." in gold and len(number[2]) != 3:
        said, meant = quantity_of(f"{number[1]}.{number[2]}"), quantity_of(gold)
        return bool(said and meant and same_quantity(said, meant))
    joined = text.replace(" ", "")
    return bool(re.fullmatch(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?", text)) and joined == gold


def _same_choice(text: str, gold: str) -> bool | None:
    letter = gold.strip("().: ")
    chosen = _CHOICE.fullmatch(text) or _CHOSEN.match(text)
    if chosen is None:
        return False if is_prose(text) or quantity_of(text) else None
    said = next(group for group in chosen.groups() if group)
    # Of variables x and X are two; the letters of a choice are one.
    is_choice = letter.upper() in "ABCDEFGHIJ"
    return said.upper() == letter.upper() if is_choice else said == letter


def _same_words(text: str, gold: str) -> bool:
    said, meant = _words(text), _words(gold)
    if said == meant:
        return True
    option = re.fullmatch(r"\(?([A-J])[).:]\s+(.+)", gold)
    if option:
        chosen = _CHOICE.fullmatch(text) or _CHOSEN.match(text)
        letter = next((group for group in chosen.groups() if group), "") if chosen else ""
        return letter.upper() == option[1] or said == _words(option[2])
    return meant[0] in _YES_NO and len(meant) == 1 and said[:1] == meant


def _words(text: str) -> list[str]:
    """The words of a text, without articles, upper case and punctuation."""
    words = re.findall(r"[^\s,;!?\"'()]+", text.casefold())
    return [word.strip(".:") for word in words if word not in ("the", "a", "an")] or [text]


def collection(text: str) -> tuple[str, list[str], str] | None:
    """Opening bracket, elements and closing bracket of a tuple, interval, set or bare list."""
    text = text.strip()
    for opening, closing in _BRACKETS:
        if text.startswith(opening) and text.endswith(closing):
            parts = _split(text[len(opening) : -len(closing)])
            if parts is not None:
                kind = opening.removeprefix("\\")
                return (kind, parts, closing) if len(parts) > 1 or kind == "{" else None
    parts = _split(text)
    return ("", parts, "") if parts and len(parts) > 1 else None


def _split(text: str) -> list[str] | None:
    """Elements at the top level; None where brackets close that were not opened."""
    depth, start, parts = 0, 0, list[str]()
    separators = {match.start(): match.end() for match in _SEPARATOR.finditer(text)}
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
        if depth == 0 and index in separators:
            parts.append(text[start:index])
            start = separators[index]
    parts = [part.strip() for part in [*parts, text[start:]]]
    return [part for part in parts if part] if depth == 0 else None


def _same_collection(
    said: tuple[str, list[str], str], meant: tuple[str, list[str], str]
) -> bool | None:
    (opening, parts, closing), (gold_opening, gold_parts, gold_closing) = said, meant
    if len(parts) != len(gold_parts):
        return False
    is_bare = not opening or not gold_opening
    # Two numbers in brackets may be an interval; more are a list, however it is written.
    if not is_bare and (opening, closing[-1]) != (gold_opening, gold_closing[-1]):
        is_list = len(parts) > 2 and "{" not in (opening, gold_opening)
        return _all_same(parts, gold_parts) if is_list else False
    if {opening, gold_opening} <= {"", "{"}:
        return _same_set(parts, gold_parts)
    return _all_same(parts, gold_parts)


def _all_same(parts: Sequence[str], gold_parts: Sequence[str]) -> bool | None:
    verdicts = [_same_part(part, gold) for part, gold in zip(parts, gold_parts, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _same_set(parts: Sequence[str], gold_parts: Sequence[str]) -> bool | None:
    left = list(gold_parts)
    is_unknown = False
    for part in parts:
        verdicts = [_same_part(part, gold) for gold in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            is_unknown = True
        else:
            return False
    return None if is_unknown else True


def _same_part(part: str, gold: str) -> bool | None:
    return _same(part if _EQUALS.search(gold) else _right_side(part), gold)
