"""Shows a screening on a terminal: the verdict first, then the figures that it rests on."""

from rich.console import Console
from rich.table import Table

from persyn_ray.escaping import one_line, plain
from persyn_ray.report.sections.variance import variance_of, variance_sentences
from persyn_ray.screening.judge import Screening, ScreeningGoal

COLOURS = {"yes": "bold green", "no": "bold red", "cannot say": "bold yellow"}
SIMPLE = {
    "constant": "the best constant teacher",
    "per_task": "the best teacher per task",
    "knn": "k-NN on embeddings",
    "linear": "a linear probe",
    "stacked": "all of them stacked",
}


def show_screening(found: Screening, goal: ScreeningGoal, console: Console) -> None:
    """Print a screening."""
    console.print(plain(f"Will routing pay?  {found.verdict}", COLOURS[found.verdict]))
    for sentence in sentences(found, goal):
        console.print(plain(sentence))
    console.print(_teachers(found))
    console.print(_shares(found))
    if found.growth:
        console.print(_growth(found))


def sentences(found: Screening, goal: ScreeningGoal) -> list[str]:
    """Whose the variance is; the verdict and what follows from it, in words."""
    bound = variance_sentences(variance_of(found.shares, found.oracle_gain))
    told = [*bound, f"{_capital(found.why)}."]
    if found.verdict == "cannot say":
        if found.prompts_needed is not None:
            told.append(f"About {found.prompts_needed:,} prompts would decide.")
        elif found.growth:
            told.append(
                f"The gain is too close to {goal.worth:g} for any number of prompts to decide."
            )
    if found.measured is not None:
        told.append(
            f"On the {found.num_prompts:,} prompts of the probe, told apart by {found.divided_by} "
            f"({found.num_tasks:,}), a stacked predictor routes {found.measured.mean:+.3f} "
            f"({found.measured.low:+.3f} to {found.measured.high:+.3f}) over the best constant, "
            "cross-validated."
        )
        told.append(f"The rule that router.kind auto would use here: {SIMPLE[found.simple]}.")
    spare = [one.teacher for one in found.standings if not one.is_needed]
    if spare and found.verdict != "no":
        told.append(f"Teachers that can be left out: {', '.join(map(one_line, spare))}.")
    return told


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _teachers(found: Screening) -> Table:
    table = Table("teacher", "mean reward", "known", "needed", header_style="bold", show_edge=False)
    for one in found.standings:
        mean = "–" if one.num_known == 0 else f"{one.mean:.3f}"
        needed = "yes" if one.is_needed else "no"
        table.add_row(plain(one_line(one.teacher, 60)), mean, f"{one.num_known:,}", needed)
    return table


def _shares(found: Screening) -> Table:
    table = Table(
        *("variance of", "teacher", "prompt", "teacher × prompt", "of it between tasks"),
        header_style="bold",
        show_edge=False,
    )
    for name, of in found.shares.items():
        cells = (of.teacher, of.prompt, of.interaction, of.task_interaction)
        table.add_row(name, *("–" if cell != cell else f"{cell:.1%}" for cell in cells))
    return table


def _growth(found: Screening) -> Table:
    table = Table(
        *("parallel prompts", "expected gain", "95 %", "chance that it pays"),
        header_style="bold",
        show_edge=False,
    )
    for one in found.growth:
        bounds = f"{one.gain.low:+.3f} to {one.gain.high:+.3f}"
        table.add_row(f"{one.num_prompts:,}", f"{one.gain.mean:+.3f}", bounds, f"{one.chance:.0%}")
    return table
