"""Converts table cells to text (numbers, dates, bytes), and the key under which texts are equal.

A number is written out in plain digits and says what was stored, not what its type made of it: 0.1
of a float32 column is 0.1, 1e-5 is 0.00001, and a whole number has no `.0` (columns of integers
gain it from an empty cell). What JSON and CSV have written stays as it was written. NaN and
infinities are no values.
"""

import json
import unicodedata
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

Decoder = Callable[[Any], Any]

DIGITS = 40  # a number whose plain digits would be more keeps its exponent
# Nobody sees these, and no two prompts differ by them alone: zero-width space, word joiner, byte
# order mark, soft hyphen. Joiners are kept within a text, where scripts and emoji need them.
_INVISIBLE = "\u200b\u2060\ufeff\u00ad"
_SPACES = (
    "\u00a0\u1680\u202f\u205f\u3000"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)
_AS_SEEN = dict.fromkeys(map(ord, _INVISIBLE)) | dict.fromkeys(map(ord, _SPACES), " ")
_AT_ENDS = (
    "".join(map(chr, range(0x21)))
    + "".join(map(chr, range(0x7F, 0xA1)))
    + "\u180e\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    + "\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069"
)


def text_key(text: str) -> str:
    """The form in which two texts that read the same are equal.

    Line ends, composed and decomposed letters, kinds of spaces and invisible characters make no
    difference, nor does what stands at the ends and shows nothing.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():  # the rest changes no ASCII
        text = unicodedata.normalize("NFC", text.translate(_AS_SEEN))
    return text.strip(_AT_ENDS)


def text_of(value: Any) -> str | None:
    """A cell as text, None where it holds no value; lists and objects become JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(value)
    if isinstance(value, float | np.floating):
        return _plain(Decimal(repr(float(value))))
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=_in_json)
    if isinstance(value, datetime) and value.tzinfo is None and not any(_time(value)):
        return str(value.date())  # a date that its column made a time of
    return str(value)


def label_of(value: Any) -> str | None:
    """A short text such as an answer or a name, stripped; None where there is nothing.

    A list of one value is that value: tables have it where some answers are several.
    """
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict):
        value = value[0]
    text = text_of(value)
    return (text.strip() or None) if text is not None else None


def _plain(number: Decimal) -> str | None:
    if not number.is_finite():
        return None
    if not number:
        return "0"
    if not -DIGITS < number.adjusted() < DIGITS:
        return str(number)
    whole = number.to_integral_value()
    return format(whole if whole == number else number, "f")


def _time(value: datetime) -> tuple[int, ...]:
    return value.hour, value.minute, value.second, value.microsecond


def _in_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not -DIGITS < value.adjusted() < DIGITS:
            return str(value)  # as a number its digits might fill the memory, or be lost
        return int(value) if value == value.to_integral_value() else float(value)
    return text_of(value)


def decoder_of(kind: pa.DataType) -> Decoder | None:
    """What turns Python values of an Arrow type into what was stored; None where they are that.

    Numbers of 16 and 32 bits become the shortest that stands for them, bytes become text (with
    lone surrogates in place of bytes that are no UTF-8, as text files have them).
    """
    if kinds.is_dictionary(kind):
        return decoder_of(kind.value_type)
    if kinds.is_float32(kind):
        return _of_values(lambda value: float(str(np.float32(value))))
    if kinds.is_float16(kind):
        return _of_values(lambda value: float(str(np.float16(value))))
    if _is_binary(kind):
        return _of_values(lambda value: value.decode("utf-8", "surrogateescape"))
    if kinds.is_map(kind):
        return _of_map(decoder_of(kind.key_type), decoder_of(kind.item_type))
    if kinds.is_nested(kind) and hasattr(kind, "value_type"):
        each = decoder_of(kind.value_type)
        return each and _of_values(lambda values: [each(value) for value in values])
    if kinds.is_struct(kind):
        return _of_struct({field.name: decoder_of(field.type) for field in kind})
    return None


def _is_binary(kind: pa.DataType) -> bool:
    tests = (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary)
    return any(test(kind) for test in (*tests, kinds.is_binary_view))


def _of_values(decode: Decoder) -> Decoder:
    return lambda value: None if value is None else decode(value)


def _of_struct(fields: dict[str, Decoder | None]) -> Decoder | None:
    known = {name: decode for name, decode in fields.items() if decode is not None}
    if not known:
        return None
    return _of_values(
        lambda value: value | {name: decode(value[name]) for name, decode in known.items()}
    )


def _of_map(of_key: Decoder | None, of_item: Decoder | None) -> Decoder | None:
    if of_key is None and of_item is None:
        return None
    key, item = of_key or _same, of_item or _same
    return _of_values(lambda value: {key(name): item(one) for name, one in value.items()})


def _same(value: Any) -> Any:
    return value
