"""Texts that hang, flood or confuse a checker of answers, and plain ones whose verdict is known.

Every text comes from one seeded generator: equal seeds give equal texts. Families are drawn evenly,
except lines of a megabyte and expressions that no machine finishes, which are rare because each
costs a copy or a whole time limit.
"""

import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

MEGABYTE = 1_000_000
LONG_LINES = 1 / 500
BOMBS = 1 / 100
ORDINARY = 3 / 10

REFERENCES = ("7", "72", "1200", "\\frac{1}{2}", "x+7", "(1,2)", "\\sqrt{2}", "\\{1,2,3\\}", "x<3")
SCRIPTS = (
    "٠١٢٣٤٥٦٧٨٩",
    "०१२३४५६७८९",
    "０１２３４５６７８９",
    "๐๑๒๓๔๕๖๗๘๙",
    "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
    "①②③④⑤⑥⑦⑧⑨⑩",
)
BIDI = "\u202e\u2066\u2069\u200f\u061c"
INVISIBLE = "\u200b\u200c\u200d\ufeff\u00ad\u2060\u180e"


class Hostile(NamedTuple):
    """A response, its reference, the family it is of, and its outcome where that is known."""

    response: str
    reference: str
    family: str
    expected: str | None


def hostile_strings(count: int, seed: int) -> Iterator[Hostile]:
    """So many texts, one after the other: none is kept."""
    rng = random.Random(seed)
    for _ in range(count):
        draw = rng.random()
        if draw < LONG_LINES:
            yield _wrapped(rng, long_line(rng), "long_line")
        elif draw < LONG_LINES + BOMBS:
            yield _wrapped(rng, bomb(rng), "bomb")
        elif draw < LONG_LINES + BOMBS + ORDINARY:
            yield ordinary(rng)
        else:
            family = rng.choice(FAMILIES)
            yield _wrapped(rng, family(rng), family.__name__)


def ordinary(rng: random.Random) -> Hostile:
    """A plain right or wrong answer, in the ways that models write them."""
    number, is_right = rng.randint(1, 9_999), rng.random() < 0.5
    said = number if is_right else number + rng.randint(1, 50)
    forms = (
        f"So it is {said}.\n#### {said}",
        f"3 + 4 = 7, hence \\boxed{{{said}}}",
        f"The final answer is ${said}$. I hope it is correct.",
        f"The answer is {said}.",
        f"#### {said:,}",
        f"We get $\\frac{{{2 * said}}}{{2}}$",
        f"so \\boxed{{{said}.0}}",
        f"\\boxed{{\\frac{{{3 * said}}}{{3}}}}",
    )
    outcome = "correct" if is_right else "wrong"
    return Hostile(rng.choice(forms), str(number), "ordinary", outcome)


def _wrapped(rng: random.Random, text: str, family: str) -> Hostile:
    """The text where a checker looks for answers, or next to it, or behind a mark left open."""
    forms = (
        "\\boxed{%s}",
        "$%s$",
        "#### %s",
        "%s",
        "\\[%s\\]",
        "The answer is %s.",
        "$%s",
        "\\[%s",
    )
    reference = rng.choice(REFERENCES)
    return Hostile(rng.choice(forms).replace("%s", text), reference, family, None)


def braces(rng: random.Random) -> str:
    """Nested deeply, closed or not."""
    depth = rng.choice((50, 500, 5_000))
    opening, closing = rng.choice(("{}", "()", "[]", "<>"))
    return opening * depth + "1" + closing * rng.choice((depth, depth - 1, depth + 1, 0))


def towers(rng: random.Random) -> str:
    """Fractions, roots, indices within one another."""
    depth = rng.choice((5, 30, 200))
    opening, closing = rng.choice(
        (
            ("\\frac{1}{1+", "}"),
            ("\\sqrt{2+", "}"),
            ("\\sqrt[3]{", "}"),
            ("x^{", "}"),
            ("a_{", "}"),
            ("\\left(1+", "\\right)"),
            ("|", "|"),
            ("-", ""),
            ("\\text{", "}"),
            ("\\boxed{", "}"),
        )
    )
    return opening * depth + "2" + closing * (depth - rng.randint(0, 1))


def endless_fractions(rng: random.Random) -> str:
    """Quotients without end, continued fractions, decimals without end."""
    length = rng.choice((10, 100, 1_500))
    return rng.choice(
        (
            "1/" * length + "1",
            "1+1/(" * length + "1" + ")" * length,
            "0." + "3" * length + "...",
            "\\cfrac{1}{" * (length // 10) + "\\ddots" + "}" * (length // 10),
            "0.\\overline{" + "142857" * (length // 10) + "}",
            "1.2.3.4" * length,
        )
    )


def huge_integers(rng: random.Random) -> str:
    """More digits than Python converts."""
    digits = str(rng.randint(1, 9)) * rng.choice((100, 1_900, 4_400, 20_000))
    return rng.choice(
        (digits, f"-{digits}", f"{digits}.{digits}", f"{digits}e{digits}", f"{digits}%")
    )


def big_powers(rng: random.Random) -> str:
    """Exponents that are large but can be computed, or need not be."""
    base, exponent = rng.randint(2, 99), rng.choice((100, 3_000, 30_000))
    forms = (
        "{%d}^{%d}",
        "%d**%d",
        "x^{%d}+y^{%d}",
        "%d \\times 10^{%d}",
        "10^{-%d%d}",
        "(x+%d)^{%d}",
    )
    return rng.choice(forms[:5]) % (base, exponent) if rng.random() < 0.9 else forms[5] % (base, 30)


def collections(rng: random.Random) -> str:
    """Large matrices, sets, tuples, unions of intervals."""
    size = rng.choice((5, 20, 50))
    numbers = [str(rng.randint(-99, 99)) for _ in range(size)]
    row = " & ".join(numbers[:8])
    return rng.choice(
        (
            "\\begin{pmatrix}" + " \\\\ ".join([row] * min(size, 8)) + "\\end{pmatrix}",
            "\\{" + ",".join(numbers) + "\\}",
            "(" + ", ".join(numbers) + ")",
            " \\cup ".join(f"({n}, {n}1]" for n in numbers),
            "\\begin{cases}" + " \\\\ ".join(f"{n}x=1" for n in numbers),
        )
    )


def relations(rng: random.Random) -> str:
    """Chains of (in)equalities, systems."""
    signs = rng.choices(
        ("<", ">", "\\le", "\\ge", "=", "\\ne", "\\in", "\\approx"), k=rng.choice((2, 8, 60))
    )
    return "x" + "".join(f" {sign} {rng.choice('xyz123')}" for sign in signs)


def functions(rng: random.Random) -> str:
    """Trigonometry, logarithms, sums, limits and other things that sympy likes to simplify."""
    depth = rng.choice((2, 6, 40))
    name = rng.choice(("\\sin", "\\log", "\\arctan", "\\exp", "\\Gamma", "f", "\\lfloor", "\\ln"))
    term = f"{name}(" * depth + "x" + ")" * depth
    sums = (
        "\\sum_{k=1}^{5} k^{k}",
        "\\lim_{x \\to 0} \\frac{\\sin x}{x}",
        "\\binom{40}{20}",
        "20!",
    )
    return rng.choice((term, f"{term}+{rng.randint(2, 9)}", rng.choice(sums)))


def polynomials(rng: random.Random) -> str:
    """Long sums and products."""
    size = rng.choice((5, 15, 40))
    return rng.choice(
        (
            "+".join(f"{rng.randint(1, 99)}x^{{{power}}}" for power in range(size)),
            "".join(f"(x+{number})" for number in range(min(size, 20))),
            "*".join(f"{rng.randint(1, 99)}" for _ in range(size)),
            "+-" * size + "1",
        )
    )


def foreign(rng: random.Random) -> str:
    """Digits of other scripts, directions, invisible and combining characters, half characters."""
    number = str(rng.randint(1, 9_999))
    script = rng.choice(SCRIPTS)
    return rng.choice(
        (
            "".join(script[int(digit)] for digit in number),
            rng.choice(BIDI).join(number),
            rng.choice(INVISIBLE).join(number),
            "".join(digit + "\u0301\u0336\u20dd" * rng.choice((1, 300)) for digit in number),
            "\ud800" + number + "\udfff",
            unicodedata.normalize("NFD", "é" * 50) + number,
            "−" + number + "％",
            "½ + ⅓ = ∑∞√π²",
            "".join(
                chr(rng.choice((rng.randint(32, 0xD7FF), rng.randint(0xE000, 0x10FFFF))))
                for _ in range(200)
            ),
            "🧮" * 1_000 + number,
        )
    )


def controls(rng: random.Random) -> str:
    """NUL, escape sequences, line ends of all kinds."""
    characters = rng.choices(
        "\x00\x01\x07\x08\x0b\x0c\x1b\x7f\x85\u2028\r\n\t", k=rng.choice((1, 50, 2_000))
    )
    return f"7{''.join(characters)}2"


def baits(rng: random.Random) -> str:
    """What makes regular expressions of answers go back again and again."""
    length = rng.choice((20, 200, 1_900))
    return rng.choice(
        (
            "$" * length,
            "\\[" * length,
            "$1$ and " * (length // 8),
            "1,000" * length,
            "1 " * length,
            "answer " * (length // 5),
            "final answer is " * (length // 10),
            "\\frac{1}{" * (length // 5),
            "answer: = = = " * (length // 10),
            " [1] " * (length // 5),
            "((1+" * length,
            "\\boxed{" * (length // 5),
            "-" * length + "1",
            "1" + " " * length,
            "$\\boxed{1" * (length // 10),
            "\\\\" * length,
        )
    )


def units(rng: random.Random) -> str:
    """Money, per cent, dates, times, measures, ranges."""
    number = rng.randint(1, 9_999)
    forms = (
        "$%d.00",
        "€%d",
        "%d%%",
        "%d \\%%",
        "%d dollars",
        "%d\\text{ cm}^2",
        "%d:30",
        "%d-%d",
        "1/%d/2024",
    )
    form = rng.choice(
        (*forms, "%d°C", "5'%d\"", "%d million", "#%d", "%d ± 2", "%dth", "(%d)", "0x%x", "%de5")
    )
    return form % ((number,) * (form.replace("%%", "").count("%")))


def markup(rng: random.Random) -> str:
    """Programs, HTML, tables, other people's instructions."""
    number = rng.randint(1, 9_999)
    return rng.choice(
        (
            f"<div><b>{number}</b></div>" * 50,
            f"```python\nprint({number})\nwhile True: pass\n```",
            "__import__('os').system('true')",
            "lambda: (yield)",
            f"{{'answer': {number}}}",
            f"| a | b |\n|---|---|\n| {number} | 2 |",
            "&#55;&nbsp;&lt;7&gt;",
            "\\def\\x{\\x\\x}\\x",
            "\\newcommand{\\y}{\\y}\\y" * 20,
            f"\\text{{{'word ' * 200}}} {number}",
            "\\input{/dev/zero}",
        )
    )


def near_misses(rng: random.Random) -> str:
    """Almost numbers."""
    number = rng.randint(1, 999)
    forms = (
        "%d,",
        "%d.0.0",
        "1,%02d",
        "%d..",
        "--%d",
        "%d e",
        ".%d.",
        "O%d",
        "%d_000",
        "+-%d",
        "00%d",
        "%d/0",
        "\\infty%d",
    )
    return rng.choice(forms) % number


def noise(rng: random.Random) -> str:
    """Pieces of LaTeX in any order."""
    words = ("\\frac", "\\sqrt", "\\pi", "\\left", "\\right", "\\text", "\\cdot", "\\\\", "23")
    pieces = (*words, *"{}()^_+-*/=,.1x$%!|&<ie")
    return " ".join(rng.choices(pieces, k=rng.choice((5, 20, 100))))


def bomb(rng: random.Random) -> str:
    """Expressions that no machine finishes or holds."""
    depth = rng.randint(3, 6)
    return rng.choice(
        (
            "9**" * depth + "9",
            "^{".join(["9"] * depth) + "}" * (depth - 1),
            "10^{10^{10}}",
            "(((9!)!)!)!",
            "99999999!",
            "(x+y+z+w)^{400}",
            "\\sum_{k=1}^{99999999} \\frac{1}{k^{k}}",
            "\\prod_{k=1}^{99999999} k",
            "\\sqrt{" * 60 + "x+\\sqrt{2}" + "}" * 60,
            "2^{99999999999}",
            "\\int_0^1 \\sin(\\cos(\\tan(x^{x^x}))) dx",
            "\\binom{99999999999}{4999999999}",
        )
    )


def long_line(rng: random.Random) -> str:
    """A megabyte without a line end."""
    piece = rng.choice(
        ("x", "1 ", "{", "$1$", "\\frac{1}{", "9", " ", "(1+", "####", "\\boxed{", "𝟗", "\x00")
    )
    return piece * (MEGABYTE // len(piece))


FAMILIES: tuple[Callable[[random.Random], str], ...] = (
    braces,
    towers,
    endless_fractions,
    huge_integers,
    big_powers,
    collections,
    relations,
    functions,
    polynomials,
    foreign,
    controls,
    baits,
    units,
    markup,
    near_misses,
    noise,
)
