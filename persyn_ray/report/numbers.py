"""How numbers are written for people: 1,234; 0.80; 41 %; 0.75-0.81 (with an en dash); 3 min 20 s.

Nothing measured is shown as an en dash, so that it is never mistaken for a zero.
"""

from persyn_ray.report.estimate import Bounded

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
UNITS = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    if value is None:
        return NOTHING
    text = f"{value:,.0f}"
    return "0" if text == "-0" else text.replace("-", MINUS)


def compact(value: float | None) -> str:
    """A large number in about three figures: 1.63 M."""
    if value is None:
        return NOTHING
    for least, size, letter in UNITS:
        if abs(value) >= least:
            scaled = value / size
            text = number(scaled, 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0)
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{SPACE}{letter}"
    return count(value)


def fine(value: float) -> str:
    """An amount beside others that may lie close to it, such as on an axis: 652.5 k."""
    for least, size, letter in UNITS:
        if abs(value) >= least:
            return f"{value / size:.6g}{SPACE}{letter}".replace("-", MINUS)
    return f"{value:,.6g}".replace("-", MINUS)


def number(value: float | None, digits: int = 2) -> str:
    """A fraction or a reward with a fixed number of decimals; a tiny negative is no minus zero."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text[0] == "-" else text).replace("-", MINUS)


def rate(value: float | None) -> str:
    """Rows per second: one decimal while it matters."""
    return number(value, 1) if value is not None and value < 100 else count(value)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference, always with its sign."""
    text = number(value, digits)
    return text if value is None or text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def percent(value: float | None) -> str:
    """A share in percent, with one decimal below ten."""
    if value is None:
        return NOTHING
    scaled = 100 * value
    digits = 0 if scaled == 0 or abs(scaled) >= 9.95 else 1
    return f"{number(scaled, digits)}{SPACE}%"


def interval(estimate: Bounded | None, digits: int = 2) -> str:
    """Low to high; spelled out when a minus sign would collide with the dash."""
    if estimate is None or estimate.get("low") is None or estimate.get("high") is None:
        return NOTHING
    low, high = number(estimate["low"], digits), number(estimate["high"], digits)
    return f"{low}{SPACE}to{SPACE}{high}" if MINUS in low + high else f"{low}{NOTHING}{high}"


def estimate(value: Bounded | None, digits: int = 2) -> str:
    """A mean with its interval, where there is one."""
    if value is None or value.get("value") is None:
        return NOTHING
    bounds = interval(value, digits)
    return number(value["value"], digits) + ("" if bounds == NOTHING else f" ({bounds})")


def seconds(value: float | None) -> str:
    """A duration in its two largest units."""
    if value is None:
        return NOTHING
    if value < 59.5:
        return f"{value:.1f}{SPACE}s" if value < 9.95 else f"{value:.0f}{SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{SPACE}h {minutes}{SPACE}min"
