"""Foreign text inside Markdown: names, labels and messages that stay text."""

import re

from persyn_ray.escaping import visible

INERT = {"|": "&#124;", "://": "&#58;//", "www.": "www&#46;"}
"""What a backslash does not keep from ending a cell or becoming a link."""


def markdown_text(text: object) -> str:
    """Text for a paragraph or a cell of Markdown: nothing in it is markup, a link or HTML."""
    escaped = re.sub(r"([\\`*_\[\]<>~$#!&@])", r"\\\1", visible(text).replace("\n", " "))
    for acting, inert in INERT.items():
        escaped = escaped.replace(acting, inert)
    return escaped


def markdown_code(text: object) -> str:
    """Text as inline code, in as many backticks as it takes."""
    shown = visible(text).replace("\n", " ").replace("|", "\N{DIVIDES}")
    marks = fence(shown, 1)
    inside = f" {shown} " if "`" in shown else shown
    return f"{marks}{inside}{marks}"


def fence(text: str, least: int = 3) -> str:
    """Backticks that no run of them inside the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
