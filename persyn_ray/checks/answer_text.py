r"""Normalises an answer: LaTeX, Unicode and Markdown in, one plain spelling out.

Two answers that differ only in dress become equal: fullwidth signs and digits of other scripts, a
minus sign or a hyphen, `\dfrac` or `\frac`, `\text{}`, spaces of LaTeX, bold, code, quotation marks
and dollar signs around the whole, a full stop behind it. What an answer says is left alone: the
order of a tuple, the kind of its brackets, both sides of an equation.
"""

import re
import unicodedata

from persyn_ray.data.response_text import BLANK_LETTERS

_SIGNS = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),  # typed for a minus sign
    **dict.fromkeys('\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f"', '"'),
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("\u3001\uff64\u060c\u066c", ","),
    **dict.fromkeys("\u3002\uff61\u0964\u066b", "."),
    **{"×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/", "∕": "/", "\u2044": "/"},
    **{"≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ", "≈": "\\approx ", "⩽": "\\leq ", "⩾": "\\geq "},
    **{"π": "\\pi ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset "},
    **{"￥": "¥", "￡": "£", "￠": "¢", "٪": "%", "º": "°", "…": "..."},
}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_NUMBER_AND_SHARE = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
_FORMULA = re.compile(
    r"(?<!\\)\$\$?(?=\S)([^$]*?(?:\\\$[^$]*?)*[^\s$])(?<!\\)\$\$?(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_PLAIN_WORDS = r"\\(?:text|mathrm|textrm|textbf|textit|mathbf|mathit|mbox|operatorname|emph)"

# In this order. A backslash behind another one ends a row of a matrix and begins no command.
_REWRITTEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\s+", " "),
        (r"\\(?:left|right)\b\s*\.?|\\(?:[bB]igg?[lr]?)\b", ""),
        (r"\\(?:displaystyle|textstyle|limits|boldsymbol|mathstrut)\b|(?<!\\)\\!", ""),
        (r"(?<=\d)(?:\\[,;: ]|~|\{,\})+(?=\d{3}(?!\d))", ","),  # 1\,200 and 1{,}200
        (r"(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad|enspace|thinspace)\b", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d|[A-Za-z](?![A-Za-z]))", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<=[\w)}\]])\s?\*\*\s?", "^"),  # a power in Python
        (r"\^\s?\(([^()]*)\)", r"^{\1}"),
        (r"\^\s?(-?\d+|[A-Za-z])", r"^{\1}"),
        (r"\\leq?(?:slant)?(?![A-Za-z])|<=", r"\\leq "),
        (r"\\geq?(?:slant)?(?![A-Za-z])|>=", r"\\geq "),
        (r"\\neq?(?![A-Za-z])|!=", r"\\neq "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\s*\^\s*\{?\\circ(?![A-Za-z])\s*\}?|\\degrees?\b", "°"),
        (r"\\lbrace\b", r"\\{"),
        (r"\\rbrace\b", r"\\}"),
        (r"(?<=\d)\s?\\math(?:rm|it)\s*\{([ij])\}", r"\1"),  # the imaginary unit, not a word
        (_PLAIN_WORDS + r"\s*\{([^{}]*)\}", r" \1 "),
        (r"(?<![\\A-Za-z])[Ii]nfinity(?![A-Za-z])", r"\\infty"),
        (r"(?<!\\)\\(?=[%$#&])", ""),
        (r"\\[cl]?dots(?![A-Za-z])", "..."),
        (r"\s+", " "),
    )
]
_AROUND = (
    *(("**", "**"), ("__", "__"), ("```", "```"), ("`", "`"), ('"', '"'), ("'", "'"), ("*", "*")),
    *(("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\u3010", "\u3011")),
)
_SPACE_BESIDE_A_SIGN = re.compile(r" (?=[^\w ])|(?<=[^\w ]) ")


def unified(text: str) -> str:
    """The text with ASCII digits and signs for those of other scripts, without unseen characters.

    Letters stay as they are, lines too.
    """
    if text.isascii():
        return text
    text = _NUMBER_AND_SHARE.sub(" ", text)
    text = _RAISED.sub(lambda run: "^{" + "".join(_SUPERSCRIPTS[c] for c in run[0]) + "}", text)
    text = _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2]}}}", text)
    return text.translate({ord(character): _plain(character) for character in set(text)})


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character in _SIGNS:
        return _SIGNS[character]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Zs":
        return " "
    if category == "Cf" or character in BLANK_LETTERS:
        return ""
    if "\uff01" <= character <= "\uff5e" or "¼" <= character <= "¾" or "⅐" <= character <= "⅞":
        return unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    return character


def canonical(text: str) -> str:
    """The answer in plain writing; still LaTeX where it was."""
    text = undressed(unified(text))
    text = _FORMULA.sub(lambda formula: formula[1] or formula[2] or formula[3], text)
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return undressed(text)


def undressed(text: str) -> str:
    """Without pairs of marks around the whole, and a full stop or a comma behind it."""
    before = None
    while before != text:
        before = text
        text = text.strip().rstrip(",;:").removesuffix(".") if not text.endswith("...") else text
        text = text.strip()
        for opening, closing in _AROUND:
            if _is_around(text, opening, closing):
                text = text[len(opening) : -len(closing)]
    return text


def _is_around(text: str, opening: str, closing: str) -> bool:
    """Whether one pair of marks stands around the text; not `"a" and "b"`, not an escaped one."""
    inner = text[len(opening) : -len(closing)]
    return (
        len(text) > len(opening) + len(closing)
        and text.startswith(opening)
        and text.endswith(closing)
        and not text.endswith("\\" + closing)
        and opening not in inner.replace("\\" + opening, "")
    )


def key(answer: str) -> str:
    """What two canonical answers are compared by as texts: without spaces that part no words."""
    return _SPACE_BESIDE_A_SIGN.sub("", answer)


_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]{3,}(?![^\W_])|[^\W\d_a-zA-Z\u0370-\u03ff]{2,}")
_FUNCTIONS = frozenset(
    (
        *("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "arcsin", "arccos"),
        *("arctan", "log", "exp", "max", "min", "gcd", "lcm", "mod", "det", "lim", "deg", "dim"),
        *("ker", "arg", "inf", "sup", "and", "sqrt"),
    )
)
_OPERATION = re.compile(
    r"(?<!\*)\*(?!\*)|[+^=<>_]|\\(?:frac|sqrt|cdot|times|leq|geq|neq|in|cup|cap|begin|pm)\b"
)


def is_prose(text: str) -> bool:
    """Whether a text is words: at least one, and nothing that calculates or compares."""
    if _OPERATION.search(text):
        return False
    words = _WORD.findall(_COMMAND.sub(" ", text))
    return any(word.lower() not in _FUNCTIONS for word in words)
