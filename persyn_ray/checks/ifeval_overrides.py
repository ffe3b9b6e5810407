r"""IFEval checks that the package if-verifiable does not do as they were specified.

Its checkers put words into regular expressions as they are: `a.b` forbids `acb`, `C++` is never
found because no word ends behind a plus sign, and neither is a Chinese word within its sentence. It
counts letters of the English alphabet alone, draws another where it is given `#`, reads the first
word of a paragraph up to an apostrophe, and takes quotation marks off a response but not off the
phrase that it must end with.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypedDict

_AS_IT_IS = ("P.S.", "P.P.S")  # markers that the package knows by themselves
_PATTERNS = ("keywords", "keyword", "section_spliter", "postscript_marker")
_WORD_LISTS = ("keywords", "forbidden_words")
# Scripts that put no spaces between words: Thai, Lao, Khmer, kana, Chinese.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)


class Checker(Protocol):
    """What checks one instruction."""

    def check_following(self, value: str) -> bool: ...


class ForbiddenWords(TypedDict):
    forbidden_words: list[str]


class LetterFrequency(TypedDict):
    letter: str
    let_frequency: int
    let_relation: str


class FirstWord(TypedDict):
    num_paragraphs: int
    nth_paragraph: int
    first_word: str


class EndPhrase(TypedDict):
    end_phrase: str


@dataclass(frozen=True)
class _Check:
    """A function of the response, as a checker."""

    follows: Callable[[str], bool]

    def check_following(self, value: str) -> bool:
        return self.follows(value)


def literal(given: Mapping[str, object]) -> dict[str, object]:
    """The arguments with words that stand for themselves in the package's regular expressions."""
    return {
        key: _escaped(value) if key in _PATTERNS and value not in _AS_IT_IS else value
        for key, value in given.items()
    }


def _escaped(value: Any) -> Any:
    return list(map(re.escape, value)) if isinstance(value, list) else re.escape(value.strip())


def why_no_words(given: Mapping[str, object]) -> str | None:
    """What is wrong with the words among arguments: empty, or a text where a list belongs."""
    for key, value in given.items():
        words: Sequence[object] = [value] if isinstance(value, str) else []
        if key in _WORD_LISTS:
            if not isinstance(value, list):
                return f"{key} is {value!r}; it must be a list of words"
            words = value
        if (key in _WORD_LISTS and not words) or not all(
            isinstance(word, str) and word.strip() for word in words
        ):
            return f"{key} is {value!r}; a word in it is empty, or there is none"
    return None


def is_single_letter(key: str, value: Any) -> bool:
    """Whether an argument is a letter, or any other sign, that can be counted."""
    return key == "letter" and isinstance(value, str) and len(value) == 1


def _forbidden_words(given: ForbiddenWords, response: str) -> bool:
    return not any(_holds(response, word.strip()) for word in given["forbidden_words"])


def _holds(text: str, word: str) -> bool:
    """Whether a word stands in a text, in either case, and not as a part of another word."""
    before = r"(?<!\w)" if _begins_a_word(word[0]) else ""
    after = r"(?!\w)" if _begins_a_word(word[-1]) else ""
    return re.search(before + re.escape(word) + after, text, re.IGNORECASE) is not None


def _begins_a_word(character: str) -> bool:
    return bool(re.match(r"\w", character)) and not _UNSPACED.match(character)


def _letter_frequency(given: LetterFrequency, response: str) -> bool:
    found = response.lower().count(given["letter"].lower())
    is_less = found < given["let_frequency"]
    return is_less if given["let_relation"] == "less than" else not is_less


def _first_word(given: FirstWord, response: str) -> bool:
    paragraphs = [part.strip() for part in response.split("\n\n") if part.strip()]
    if len(paragraphs) != given["num_paragraphs"]:
        return False
    paragraph = paragraphs[given["nth_paragraph"] - 1].lstrip("'\"").lower()
    word = given["first_word"].strip().lower()
    return paragraph.startswith(word) and not re.match(r"\w", paragraph[len(word) :])


def _end(given: EndPhrase, response: str) -> bool:
    response, phrase = response.strip().lower(), given["end_phrase"].strip().lower()
    return response.endswith(phrase) or response.strip('"').endswith(phrase)


def _own(check: Callable[[Any, str], bool]) -> Callable[[Mapping[str, object]], Checker]:
    """Makes the checker of some arguments, which are known by then to be those that it needs."""
    return lambda given: _Check(partial(check, given))


CHECKS = {
    "keywords:forbidden_words": _own(_forbidden_words),
    "keywords:letter_frequency": _own(_letter_frequency),
    "length_constraints:nth_paragraph_first_word": _own(_first_word),
    "startend:end_checker": _own(_end),
}
