"""Overlap with problems of evaluation: their texts in; words in a row that a text shares, out.

As for GPT-3 (arXiv 2005.14165, appendix C): words in lower case without punctuation, n in a row.
What all problems begin or end with (a template, an instruction) is no part of any of them. A
problem of fewer words is found as a whole: anywhere from eight words on, else where it is the whole
text, punctuation included.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.data.cells import text_key

WORD = re.compile(r"\w+")
FEWEST = 8
"""Words of a problem that is looked for within texts."""
Words = tuple[str, ...]


@dataclass(frozen=True)
class Shared:
    """Words that a text shares with a problem."""

    problem: str
    """Its id."""
    words: str
    """Those in a row, or the whole problem."""
    is_whole: bool = False
    """Whether the text is the problem."""


class Problems:
    """Problems of evaluation, to compare texts with.

    Args:
        texts: by id.
        num_words: in a row that count as overlap; None compares whole texts alone.
    """

    def __init__(self, texts: Mapping[str, str], num_words: int | None) -> None:
        self._whole = {_whole(text): name for name, text in texts.items()}
        words = {name: words_of(text) for name, text in texts.items()}
        self._begin, self._end = common_ends(list(words.values()))
        self._of_words: dict[Words, str] = {}
        self._known: set[str] = set()
        for name, of in words.items() if num_words is not None else ():
            core = self._without_ends(of)
            n = min(num_words or 0, len(core))
            if n < min(FEWEST, num_words or 0):
                continue
            self._known.update(core)
            for start in range(len(core) - n + 1):
                self._of_words.setdefault(core[start : start + n], name)
        self._lengths = sorted({len(one) for one in self._of_words})

    def is_whole(self, text: str) -> Shared | None:
        """Which problem a text is, if it is one."""
        name = self._whole.get(_whole(text))
        return None if name is None else Shared(name, text_key(text), is_whole=True)

    def shared_with(self, text: str) -> list[Shared]:
        """All stretches of words that a text shares with problems, each once."""
        words = self._without_ends(words_of(text))
        known = np.array([word in self._known for word in words], dtype=np.int64)
        counts = np.concatenate([[0], known.cumsum()])
        found: dict[Words, str] = {}
        for n in self._lengths:
            if n > len(words):
                break
            for start in np.flatnonzero(counts[n:] - counts[:-n] == n).tolist():
                stretch = words[start : start + n]
                if stretch in self._of_words:
                    found[stretch] = self._of_words[stretch]
        return [Shared(problem, " ".join(stretch)) for stretch, problem in found.items()]

    def _without_ends(self, words: Words) -> Words:
        """Words without what all problems begin and end with."""
        if self._begin and words[: len(self._begin)] == self._begin:
            words = words[len(self._begin) :]
        if self._end and words[-len(self._end) :] == self._end:
            words = words[: -len(self._end)]
        return words


def words_of(text: str) -> Words:
    """The words of a text in lower case, without punctuation."""
    return tuple(WORD.findall(text_key(text).lower()))


def common_ends(texts: Sequence[Words]) -> tuple[Words, Words]:
    """Words that all texts begin with, and those that they end with; none for a single text."""
    if len(texts) < 2:
        return (), ()
    begin = _common(texts)
    end = _common([one[::-1] for one in texts])[::-1]
    shortest = min(map(len, texts))
    return begin, end[max(0, len(begin) + len(end) - shortest) :]


def _common(texts: Sequence[Words]) -> Words:
    first, last = min(texts), max(texts)  # all others lie between them
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:place]
    return first[: min(len(first), len(last))]


def _whole(text: str) -> str:
    return " ".join(text_key(text).lower().split())
