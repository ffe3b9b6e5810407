"""Compares two numbers with units: whether an answer says the quantity of the reference."""

import re
import struct
from fractions import Fraction

from persyn_ray.checks.answer_numbers import Quantity


def same_quantity(answer: Quantity, gold: Quantity) -> bool:
    """Whether two quantities are equal; a unit that one of them leaves out is the other's."""
    if answer.is_clock or gold.is_clock:
        return _same_clock(answer, gold)
    if answer.unit and gold.unit and answer.unit != gold.unit:
        return False
    if answer.noun and gold.noun and not _stems(answer.noun) & _stems(gold.noun):
        return False
    if (answer.unit == "%") != (gold.unit == "%"):
        return _same_share(answer, gold)
    return _same_value(answer, gold)


def _stems(noun: str) -> set[str]:
    """The beginnings of its words, which a plural does not change."""
    return {word[:4] for word in re.findall(r"\w+", noun.casefold())}


def _same_share(answer: Quantity, gold: Quantity) -> bool:
    """One of them in per cent: as a share, or with the sign left out where no share is meant."""
    answer_share = answer.value / 100 if answer.unit == "%" else answer.value
    gold_share = gold.value / 100 if gold.unit == "%" else gold.value
    if answer_share == gold_share:
        return True
    return abs(gold.value) >= 1 and _same_value(answer, gold)


def _same_clock(answer: Quantity, gold: Quantity) -> bool:
    if answer.is_clock and gold.is_clock and answer.unit and gold.unit:
        return answer.value == gold.value
    if not (answer.is_clock and gold.is_clock) and answer.value.denominator > 1:
        return False  # 5.5 is no way to say 5:30
    halves = (0, 12) if "pm" in (answer.unit, gold.unit) else (0,)
    return any(abs(answer.value - gold.value) == half for half in halves)


def _same_value(answer: Quantity, gold: Quantity) -> bool:
    difference = abs(answer.value - gold.value)
    if not difference:
        return True
    if gold.figures >= 15 and gold.places and difference <= abs(gold.value) / 10**12:
        return True  # the last digits of a float: 0.30000000000000004
    if gold.places and gold.figures >= 9 and _is_single(gold.value, answer.value):
        return True
    # Decimals that were cut or rounded: as in math-verify, from six places on.
    decimals = [quantity for quantity in (answer, gold) if quantity.places]
    places = min((quantity.places for quantity in decimals), default=0)
    is_precise = places >= 6 and all(quantity.figures >= 6 for quantity in decimals)
    return is_precise and difference <= Fraction(1, 10**places)


def _is_single(gold: Fraction, answer: Fraction) -> bool:
    """Whether the reference is the answer as a 32-bit float, printed as a 64-bit one."""
    if max(abs(gold), abs(answer)) > 10**30:
        return False
    return struct.unpack("f", struct.pack("f", float(answer)))[0] == float(gold)
