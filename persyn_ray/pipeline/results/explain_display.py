"""Shows one prompt's explanation on a terminal: a block per teacher, readable at any width."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from persyn_ray.escaping import CUT, one_line, plain, visible
from persyn_ray.pipeline.results.explain import Explanation, TeacherFacts
from persyn_ray.report.numbers import NOTHING

LONGEST_PROMPT, LONGEST_RESPONSE = 4000, 800
GAP = "   "
FIGURES = {
    "quality": "quality",
    "learnability": "learnability",
    "rewards": "reward",
    "logits": "logit",
    "finish_reason": "ended",
}


def show_prompt(found: Explanation, console: Console) -> None:
    """Print what `explain` has found."""
    console.print(plain(f"{found['prompt_id']}  {found['split']}  {found['shard']}", "bold"))
    for message in found["messages"]:
        _indented(console, f"{message['role']}: {message['content']}", LONGEST_PROMPT)
    if found["reference"] is not None:
        _indented(console, f"reference: {found['reference']}", LONGEST_PROMPT)
    for teacher, facts in found["teachers"].items():
        chosen = [method for method, name in found["assigned"].items() if name == teacher]
        by = f"  \N{LEFTWARDS ARROW} {', '.join(chosen)}" if chosen else ""
        console.print()
        console.print(Text.assemble(plain(teacher, "bold cyan"), plain(by, "green")))
        for line in _packed(_figures(facts), console.width - 2):
            console.print(Padding(line, (0, 0, 0, 2)))
        response, error = facts.get("response"), facts.get("error")
        told = f"no response{f': {error}' if error else ''}" if response is None else response
        _indented(console, told, LONGEST_RESPONSE, 4)
    console.print()
    for method, teacher in found["assigned"].items():
        console.print(plain(f"  {method} \N{RIGHTWARDS ARROW} {teacher}"))
    for line in found["router"]:
        console.print(plain(f"  {one_line(line)}", "dim"))


def _figures(facts: TeacherFacts) -> Iterator[Text]:
    """Each figure with its name."""
    for key, name in FIGURES.items():
        value = facts.get(key)
        shown = f"{value:.3f}" if isinstance(value, float) else value
        yield Text.assemble((f"{name} ", "dim"), visible(shown or NOTHING))
    if facts.get("candidates") is False:
        yield Text("no candidate", "yellow")


def _packed(parts: Iterable[Text], width: int) -> list[Text]:
    """As many parts a line as fit, none of them parted."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(GAP) + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], GAP, part)
        else:
            lines.append(part)
    return lines


def _indented(console: Console, text: str, longest: int, indent: int = 2) -> None:
    """Foreign text, cut to a length that leaves the rest of the screen readable."""
    more = f"{CUT} ({len(text):,} characters)" if len(text) > longest else ""
    shown = Text.assemble(visible(text[:longest]), (more, "dim"), overflow="fold")
    console.print(Padding(shown, (0, 0, 0, indent)))
