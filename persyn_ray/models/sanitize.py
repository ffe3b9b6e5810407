"""Escapes special tokens in text of users and teachers, so that it cannot act as template control.

What it tokenises to is checked, so that no spelling gets through. This module knows no templates.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from persyn_ray.data.response_text import valid_unicode
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.names import loaded_name

ZERO_WIDTH_JOINER = "\u200d"
REPLACEMENT = "\ufffd"
SIMPLE = re.compile(r"[\t\n\r\x20-\x7e]*")


def escape_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Text that holds no control token of the tokenizer, is valid Unicode and has no NUL.

    Harmless text comes back unchanged. A control token is broken up by a zero-width joiner; where
    the tokenizer's own normalisation would undo that, by a space. The result is checked by
    tokenising it.

    Raises:
        DataError: the text still tokenises to a control token.
    """
    control_ids, _ = controls(tokenizer)
    for candidate in _attempts(tokenizer, _valid_unicode(text)):
        if control_ids.isdisjoint(encode_text(tokenizer, candidate)):
            return candidate
    raise DataError(
        f"A text holds control tokens of {loaded_name(tokenizer)} that cannot be broken up: "
        f"{text[:200]!r}. Take the prompt out, or change the tokenizer."
    )


def is_free_of_controls(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text is known to hold no control token, without tokenising it.

    False says nothing: only `escape_special_tokens` can tell then. What a normalisation may take
    out of a text (accents, invisible and control characters, case) is looked through.
    """
    if not SIMPLE.fullmatch(text):
        if any(unicodedata.category(c)[0] == "C" for c in text if c not in "\t\n\r"):
            return False
        folded = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in folded if not unicodedata.combining(c))
    _, pattern = controls(tokenizer)
    return re.search(pattern, text, re.IGNORECASE) is None


def _attempts(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[str]:
    _, pattern = controls(tokenizer)
    yield text
    yield _break_up(re.compile(pattern), text, ZERO_WIDTH_JOINER)
    folded = "".join(c for c in unicodedata.normalize("NFKC", text) if not _is_invisible(c))
    yield _break_up(re.compile(pattern, re.IGNORECASE), folded, " ")


def _break_up(pattern: re.Pattern[str], text: str, wedge: str) -> str:
    # Repeated, because control tokens may overlap: every round parts two neighbours, so it ends.
    while pattern.search(text):
        text = pattern.sub(lambda match: _wedged(match.group(), wedge), text)
    return text


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf"


def _wedged(token: str, wedge: str) -> str:
    return REPLACEMENT if len(token) == 1 else token[0] + wedge + token[1:]


def _valid_unicode(text: str) -> str:
    # A lone surrogate cannot be tokenised at all; NUL ends strings in some engines.
    return valid_unicode(text).replace("\0", REPLACEMENT)


@lru_cache(maxsize=16)
def controls(tokenizer: PreTrainedTokenizerBase) -> tuple[frozenset[int], str]:
    """Ids that only a template may write, and a pattern that finds their text.

    The unknown token is none of them: ordinary text makes it. Added tokens that are not special
    (`<think>` in some vocabularies) are text like any other.
    """
    names: dict[str, Any] = dict(tokenizer.special_tokens_map)
    unknown = names.pop("unk_token", None)
    tokens = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    tokens |= set(tokenizer.all_special_tokens)
    if unknown not in names.values():  # in some vocabularies it also ends the text
        tokens -= {unknown}
    ids: Any = tokenizer.convert_tokens_to_ids(sorted(tokens))
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return frozenset(ids), "|".join(map(re.escape, longest_first)) or r"(?!)"


def control_id(tokenizer: PreTrainedTokenizerBase, token: str, setting: str) -> int:
    """Id of a control token that a setting names.

    Raises:
        ConfigError: the tokenizer has no such control token: texts could hold it as well.
    """
    ids, _ = controls(tokenizer)
    found: Any = tokenizer.convert_tokens_to_ids(token)
    if found not in ids or tokenizer.convert_ids_to_tokens(found) != token:
        known = ", ".join(sorted(map(str, tokenizer.convert_ids_to_tokens(sorted(ids)[:20]))))
        raise ConfigError(
            f"`{setting}` is {token!r}, which is no control token of {loaded_name(tokenizer)}. "
            f"Its control tokens: {known}."
        )
    return found


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written every control token already, the first one included.
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
