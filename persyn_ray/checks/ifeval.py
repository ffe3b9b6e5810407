"""Checks IFEval's verifiable instructions on a response, by the package's own checkers.

A reference is a JSON list of instructions, each an object with its `id` and its arguments under
IFEval's names; arguments that are null do not count:

    [{"id": "length_constraints:number_words", "relation": "at least", "num_words": 300},
     {"id": "punctuation:no_comma"}]

The checkers are those of the package if-verifiable. They draw an absent argument at random, and one
that they do not like too (the letter `#`, paragraph 5 of 2), so here a reference has to give them
all, and one that would not be checked as it was given is refused. Words are words here: the package
takes them for regular expressions, in which `a.b` forbids `acb`. What it cannot check as given is
checked by `ifeval_overrides`. Two kinds split text by nltk's data set punkt_tab, which nothing
here downloads: without it references that name them cannot be read. As in IFEval itself, a text
whose language cannot be told is taken to be in the right one.
"""

import functools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from persyn_ray.checks.ifeval_overrides import CHECKS, is_single_letter, literal, why_no_words
from persyn_ray.checks.verifier import CORRECT, CRASHED, NO_ANSWER, WRONG, Verdict
from persyn_ray.errors import ConfigError

_SAMPLE = "One word, and another.\n\nThen it ends."


class _Unreadable(Exception):
    """Why a reference is no list of instructions."""


def follows(response: str, reference: str, loose: bool) -> Verdict:
    """Correct when every instruction is followed, wrong when one is not.

    Where no instruction is known to be broken, but a checker failed, the verdict is crashed. With
    `loose` each instruction may also be followed without markdown stars, the first or the last
    line.

    Raises:
        ConfigError: the package with the checkers is not installed.
    """
    if not response.strip():
        return NO_ANSWER
    try:
        checkers = _checkers(reference)
    except _Unreadable:  # refused when prompts were read; this one came another way
        return CRASHED
    texts = _loosened(response) if loose else [response]
    results = [_is_followed(checker, texts) for checker in checkers]
    if False in results:
        return WRONG
    return CRASHED if None in results else CORRECT


def why_unreadable(reference: str) -> str | None:
    """What is wrong with a reference, or None."""
    try:
        _checkers(reference)
    except _Unreadable as why:
        return str(why)
    return None


@functools.lru_cache(maxsize=64)
def _checkers(reference: str) -> tuple[Any, ...]:
    """The same reference comes once for every teacher; checkers keep nothing of a response."""
    try:
        instructions = json.loads(reference)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"it is no JSON: {error}") from error
    if not isinstance(instructions, list) or not instructions:
        raise _Unreadable("it is no JSON list of instructions")
    return tuple(_checker(instruction) for instruction in instructions)


def _checker(instruction: Any) -> Any:
    known = _library()
    name = instruction.get("id") if isinstance(instruction, dict) else None
    if not isinstance(name, str) or name not in known:
        raise _Unreadable(f"{name!r} is no instruction; there are {sorted(known)}")
    given = {
        key: value for key, value in instruction.items() if key != "id" and not _is_absent(value)
    }
    checker = known[name](name)
    needed = set(checker.get_instruction_args_keys())
    if set(given) != needed:
        raise _Unreadable(f"{name} needs the arguments {sorted(needed)}, it has {sorted(given)}")
    why = why_no_words(given)
    if why is not None:
        raise _Unreadable(f"{name}: {why}")
    try:
        _require_as_given(checker, given)
        checker.build_description(**literal(given))
        own = CHECKS.get(name)
        checker = checker if own is None else own(given)
        checker.check_following(_SAMPLE)  # most arguments are looked at only here
    except LookupError as error:
        data = "punkt_tab" in str(error)
        why = "nltk's data set punkt_tab is not installed" if data else repr(error)
        raise _Unreadable(f"{name}: {why}") from error
    except Exception as error:  # whatever a wrong argument brings about
        raise _Unreadable(f"{name} with {given}: {error}") from error
    return checker


def _is_absent(value: Any) -> bool:
    return value is None or value != value  # a null, or NaN, which tables make of it


def _require_as_given(checker: Any, given: Mapping[str, object]) -> None:
    """Refuse arguments in whose place the package checks others.

    Raises:
        ValueError: which one.
    """
    checker.build_description(**given)
    checked = checker.get_instruction_args() if given else {}
    for key, value in given.items():
        if _plain(checked.get(key)) != _plain(value) and not is_single_letter(key, value):
            raise ValueError(f"{key} {value!r} cannot be checked")


def _plain(value: Any) -> Any:
    """An argument without what makes no difference to the package."""
    if isinstance(value, str):
        return value.strip().lower()
    return sorted(set(map(_plain, value))) if isinstance(value, list) else value


def _is_followed(checker: Any, texts: list[str]) -> bool | None:
    """Whether one of the texts follows an instruction; None where that could not be found out."""
    unknown = False
    for text in texts:
        try:
            if text.strip() and checker.check_following(text):
                return True
        except Exception:  # one checker's failure on one text must not end a shard
            unknown = True
    return None if unknown else False


def _loosened(response: str) -> list[str]:
    from if_verifiable.common import get_loose_transformations

    return get_loose_transformations(response)


@functools.cache
def _library() -> dict[str, Callable[[str], Any]]:
    """IFEval's checkers by the id of their instruction."""
    try:
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
        from langdetect import DetectorFactory
    except ImportError as error:
        raise ConfigError(
            f"scoring.quality.kind instructions needs the package if-verifiable: {error}. "
            "Install persyn-ray[run]."
        ) from error
    DetectorFactory.seed = 0  # else a short text has another language every time
    # Its checkers log every text whose language they do not find, whole, to the root logger.
    logging.getLogger().addFilter(lambda record: "if_verifiable" not in record.pathname)
    return dict(INSTRUCTION_DICT)
