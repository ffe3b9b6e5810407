r"""Parses an answer as a number with unit: normalised text in, an exact value out.

`1,200.50`, `$72`, `50%`, `2 1/4`, `\frac{9}{4}`, `1.5 \times 10^{3}`, `1e-5`, `10^{6}`, `72 km/h`,
`3 million dollars`, `5:30 pm`. A text that says more than one number, compares, or calculates is
none: `(7, 2)`, `x > 2`, `7x + 1`, `at least 5`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 100  # characters of a number with its unit; keeps patterns and arithmetic cheap

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+)"  # 1,234,567 or 12,34,567
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_TEN_TO_THE = r"\s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*\{?\s*([-+]?\d{1,3})\s*\}?"
_FORMS = {
    "fraction": re.compile(
        rf"\\frac\s*\{{\s*(-?{_DECIMAL})\s*\}}\s*\{{\s*({_DECIMAL})\s*\}}|({_DECIMAL})\s*/\s*({_DECIMAL})"
    ),
    "mixed": re.compile(
        rf"({_INTEGER})\s*(?:\s(?:and )?\s*(\d+)\s*/\s*(\d+)|(?:and )?\\frac\{{(\d+)\}}\{{(\d+)\}})"
    ),
    "scientific": re.compile(rf"({_DECIMAL})(?:[eE]([-+]?\d{{1,3}})|{_TEN_TO_THE})"),
    "power": re.compile(r"(\d{1,4})\s*(?:\^|\*\*)\s*(?:\{\s*(-?\d{1,3})\s*\}|(-?\d{1,3}))"),
    "hexadecimal": re.compile(r"0[xX]([0-9a-fA-F]+)(?![^\W_])"),
    "repeating": re.compile(r"(\d{0,9})\.(\d{0,9})\\overline\s*\{?\s*(\d{1,9})\s*\}?"),
    "decimal": re.compile(f"({_DECIMAL})"),
}
_CURRENCIES = {
    **{"$": "dollar", "us$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro"},
    **{"£": "£", "gbp": "£", "₹": "rupee", "rs.": "rupee", "rs": "rupee", "inr": "rupee"},
    **{"¥": "¥", "cny": "¥", "rmb": "¥", "jpy": "¥", "₽": "rouble", "₩": "won", "₫": "dong"},
    **{"₺": "lira", "₪": "shekel", "฿": "baht", "chf": "franc", "a$": "dollar", "c$": "dollar"},
}
_CURRENCY = re.compile(
    "|".join(sorted(map(re.escape, _CURRENCIES), key=len, reverse=True)), re.IGNORECASE
)
_APPROXIMATELY = re.compile(
    r"(?:\\approx|\\sim|approximately|approx\.?|about|roughly|around|exactly|only|just|=|:)\s*",
    re.IGNORECASE,
)
_UP_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = {word: number for number, word in enumerate(_UP_TO_TWENTY.split())}
_SCALES = {
    **{"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
    **{"千": 10**3, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8},
}
_SCALE = re.compile(rf"\s*({'|'.join(_SCALES)})(?![a-z])", re.IGNORECASE)
_TIME = re.compile(
    r"(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?\s*([ap])\.?\s?m\b\.?"
    r"|(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*(?:o'clock|hours|hrs?|uhr))?",
    re.IGNORECASE,
)

# Measures that differ are different answers. "Pounds" are money or weight and so no measure here.
_SYNONYMS = {
    "km/hour": "kmh kph kmph",
    "mile/hour": "mph",
    "m/second": "mps",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "mile": "mi mile miles",
    "ft": "ft foot feet",
    "in": "in inch inches",
    "yd": "yd yds yard yards",
    "kg": "kg kgs kilogram kilograms kilo kilos",
    "g": "g gram grams gramme grammes",
    "mg": "mg milligram milligrams",
    "lb": "lb lbs",
    "oz": "oz ounce ounces",
    "l": "l liter liters litre litres",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "degree": "° deg degree degrees",
    "celsius": "°c celsius",
    "fahrenheit": "°f fahrenheit",
    "%": "% percent pct percentage",
    "dollar": "$ dollar dollars usd bucks",
    "cent": "¢ cent cents",
    "euro": "€ euro euros eur",
    "£": "£ gbp",
    "rupee": "rupee rupees inr rs",
    "¥": "¥ yuan yen rmb cny jpy 元 円",
    "radian": "rad radian radians",
    **{name: f"{name} {name}s" for name in ("joule", "newton", "watt", "volt")},
}
_MEASURES = {name: unit for unit, names in _SYNONYMS.items() for name in names.split()}
# `7m` may be seven times m: such a unit needs a space before it.
_TOUCHING = re.compile(r"[%°¢$€£¥₹]|[^\W\d_a-zA-Z]|[A-Za-z]{2}")
_NO_UNIT = re.compile(
    r"(?i)(?<![a-z])(?:than|plus|minus|times|over|or|and|to|least|most|not|mod|if|is|are|less"
    r"|of the|remainder|sqrt|squared|cubed)(?![a-z])"
)
_UNIT = re.compile(
    r"(?:[^\W\d_]|[%°¢$€£¥₹])(?:[^\W\d_]|[\s/%°'.&,-]|\^\{?-?[1-3]\}?|\([^\d()]*\))*"
)


@dataclass(frozen=True)
class Quantity:
    """An exact number and what it counts."""

    value: Fraction
    places: int = 0  # digits behind the point; 0 for what was not written as a decimal
    figures: int = 0  # significant digits, of decimals
    unit: str = ""  # one of `_SYNONYMS`, squared or cubed perhaps, or empty
    noun: str = ""  # what else is counted, as it was written: `clips` of `72 clips`
    is_clock: bool = False  # hours of a day


def quantity_of(answer: str) -> Quantity | None:
    """The number that a canonical answer is, or None."""
    if answer.casefold() in _WORDS:
        return Quantity(Fraction(_WORDS[answer.casefold()]))
    if len(answer) > LONGEST or not any(character.isdigit() for character in answer):
        return None
    text = _APPROXIMATELY.sub("", answer, count=1) if _APPROXIMATELY.match(answer) else answer
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1].strip()
    clock = _TIME.fullmatch(text)
    if clock:
        return _clock(clock)
    sign, currency, text = _front(text)
    number, rest = _leading_number(text)
    if number is None:
        return None
    scale = _SCALE.match(rest)
    if scale:
        number, rest = _scaled(number, _SCALES[scale[1].lower()]), rest[scale.end() :]
    counted = _counted(rest)
    if counted is None:
        return None
    unit, noun = counted
    return Quantity(sign * number.value, number.places, number.figures, unit or currency, noun)


def _front(text: str) -> tuple[int, str, str]:
    """Sign and currency before a number, in either order."""
    sign, currency = 1, ""
    while text:
        money = _CURRENCY.match(text)
        if text[0] in "+-" and not text.startswith(("--", "+-", "-+", "++")):
            sign, text = (-sign if text[0] == "-" else sign), text[1:].lstrip()
        elif money and not currency:
            currency, text = _CURRENCIES[money[0].lower()], text[money.end() :].lstrip()
        else:
            break
    return sign, currency, text


def _leading_number(text: str) -> tuple[Quantity | None, str]:
    """The longest number at the front, and what follows it."""
    found: tuple[Quantity | None, str] = (None, text)
    for name, form in _FORMS.items():
        match = form.match(text)
        if match is None or len(text) - match.end() >= len(found[1]):
            continue
        value = _value(name, [group for group in match.groups() if group is not None])
        if value is not None:
            found = (value, text[match.end() :])
    return found


def _value(form: str, parts: list[str]) -> Quantity | None:
    parts = [part.replace(",", "") for part in parts]
    try:
        if form == "fraction":
            return Quantity(Fraction(parts[0]) / Fraction(parts[1]))
        if form == "mixed":
            return Quantity(int(parts[0]) + Fraction(int(parts[1]), int(parts[2])))
        if form == "repeating":
            return Quantity(_repeating(*parts))
        if form == "hexadecimal":
            return Quantity(Fraction(int(parts[0], 16)))
        if form == "power":
            return Quantity(Fraction(int(parts[0])) ** int(parts[1]))
    except ZeroDivisionError:
        return None
    places = len(parts[0].partition(".")[2])
    figures = len(parts[0].replace(".", "").lstrip("0"))
    value = Fraction(parts[0].rstrip(".") if not parts[0].startswith(".") else parts[0])
    if form == "scientific":
        exponent = int(parts[1])
        return Quantity(value * Fraction(10) ** exponent, max(places - exponent, 0), figures)
    return Quantity(value, places, figures)


def _repeating(whole: str, once: str, again: str) -> Fraction:
    """`whole.once` and then `again` without end: 0.1(6) is 1/6."""
    nines = (10 ** len(again) - 1) * 10 ** len(once)
    return int(whole or 0) + Fraction(int(once + again) - int(once or 0), nines)


def _scaled(number: Quantity, factor: int) -> Quantity:
    return Quantity(number.value * factor)


def _counted(rest: str) -> tuple[str, str] | None:
    """Measure and noun behind a number, empty where there is none; None for what is no unit."""
    if not rest.strip():
        return "", ""
    unit = rest.strip().strip("().")
    if not unit or not _UNIT.fullmatch(unit) or _NO_UNIT.search(unit):
        return None
    measure = _measure(unit)
    if not (rest[0].isspace() or rest[0] in "(-"):
        # `7xy` is a product, `7km` and `7個` are not.
        is_unit = measure and _TOUCHING.match(unit)
        return (measure, "") if is_unit else None if unit[0].isascii() else ("", unit)
    if measure:
        return measure, ""
    # One letter behind a space is a variable, unless it is the sign of a measure.
    return None if len(unit) == 1 and unit.isascii() else ("", unit)


def _measure(unit: str) -> str:
    """The measure that a unit names in one of its writings, or an empty text."""
    if len(unit) == 1 and unit.isalpha() and unit.isascii() and unit not in "mgshlL":
        return ""
    short = re.sub(r"\s*(?:\bper\b|/)\s*", "/", unit.lower()).strip()
    power = ""
    raised = re.fullmatch(r"(square|sq\.?|cubic|cu\.?)\s*(.+)|(.+?)\s*\^\s*\{?([23])\}?", short)
    if raised:
        power = raised[4] or ("2" if raised[1].startswith("sq") else "3")
        short = raised[2] or raised[3]
    counted, _, each = short.partition("/")
    known = _MEASURES.get(counted.strip()) or _MEASURES.get(counted.split(" ")[0], "")
    known = f"{known}^{power}" if known and power else known
    # A wage by the week is a sum of money, a distance by the hour is a speed.
    is_rate = known and each and known not in _CURRENCIES.values()
    return f"{known}/{_MEASURES.get(each, each)}" if is_rate else known


def _clock(match: re.Match[str]) -> Quantity | None:
    hours, minutes, seconds = (int(part or 0) for part in match.group(1, 2, 3))
    if match[4] is None:
        hours, minutes, seconds = (int(part or 0) for part in match.group(5, 6, 7))
    half = (match[4] or "").lower()
    if hours > 24 or minutes > 59 or seconds > 59 or (half and not 1 <= hours <= 12):
        return None
    if half:
        hours = hours % 12 + (12 if half == "p" else 0)
    value = hours + Fraction(minutes, 60) + Fraction(seconds, 3600)
    return Quantity(value, unit=f"{half}m" if half else "", is_clock=True)
