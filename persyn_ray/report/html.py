"""report.html: one self-contained page of figures with their numbers, and the run's identity.

The page asks for nothing from outside: style and figures are inline and there is no script. A
section without data says so in one sentence; one that could not be made says why in its place.
"""

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from persyn_ray.report import methods, numbers, summary
from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import Report, displayed
from persyn_ray.report.estimate import verdict
from persyn_ray.report.figures import draw
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections import (
    allocation,
    alpha,
    dead_letters,
    examples,
    forecast,
    limits,
    rewards,
    run,
    student,
    timing,
    tokens,
    training,
    variance,
)
from persyn_ray.report.sections.router import claims, kind, ranking, transfer
from persyn_ray.report.templates import report_environment

PARTS = (
    student,
    training,
    ranking,
    claims,
    kind,
    transfer,
    allocation,
    limits,
    rewards,
    variance,
    alpha,
    tokens,
    timing,
    forecast,
    examples,
    dead_letters,
    run,
)
NOT_MEASURED = {name: text for part in PARTS for name, text in part.NOT_MEASURED.items()}
FIGURES_OF = {
    "references": ("routed", "hits"),
    "loss_curve": ("loss",),
    "training_curves": ("training",),
    "calibration": ("reliability",),
    "constraints": ("front",),
    "by_task": ("tasks",),
    "alpha_sweep": ("alpha",),
}
"""Figures of the parts that are called otherwise."""
SECTIONS = {
    "student": "Student",
    "training": "Training",
    "router": "Router",
    "allocation": "Allocation",
    "limits": "Limits",
    "rewards": "Rewards",
    "alpha": "Alpha",
    "tokens": "Tokens",
    "timing": "Timing",
    "forecast": "Forecast",
    "examples": "Examples",
    "dead-letters": "Dead letters",
    "run": "Run",
}


def render(content: Mapping[str, Any]) -> str:
    """The page for the content of a report.json; what fails of it is left out, with the reason.

    Raises:
        DataError: the content does not fit persyn_ray.report.content.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    environment = _environment()
    shown: dict[str, Any] = {
        **report,
        "figures": {name: Markup(svg) for name, svg in draw(report, problems).items()},
        "tiles": problems.attempt("page.tiles", partial(tiles, report), []),
        "rows": problems.attempt("page.results", partial(summary.headline, report), []),
        "concerns": problems.attempt("page.concerns", partial(concerns, report), []),
        "summary_text": " ".join(summary.paragraph(report, problems, with_concerns=False)),
        "recipe_text": problems.attempt("page.recipe", partial(run.recipe_text, content), ""),
        "exact": run.has_exact_quality(report["run"]),
    }
    shown["why_absent"] = _why_absent(problems)
    sections = [_section(environment, name, shown, problems) for name in SECTIONS]
    shown |= {"sections": sections, "section_titles": SECTIONS, "problems": problems.reasons}
    return environment.get_template("template.html").render(shown)


def _section(
    environment: Environment, name: str, shown: Mapping[str, Any], problems: Problems
) -> Markup:
    """One section of the page, or in its place why it could not be made."""

    def made() -> Markup:
        own = _computed(name, shown)
        path = f"sections/{name.replace('-', '_')}.html"
        return Markup(environment.get_template(path).render({**shown, **own}))

    found = problems.attempt(f"page.{name}", made, None)
    if found is not None:
        return found
    told = {"name": name, "title": SECTIONS[name], "reason": problems.reasons[f"page.{name}"]}
    return Markup(environment.get_template("sections/failed.html").render(told))


def _computed(name: str, shown: Mapping[str, Any]) -> dict[str, object]:
    """What a section alone needs beside the content."""
    if name == "limits":
        found = shown["constraints"]
        return {"limit_rows": limits.limit_rows(found) if found else []}
    return {"forecasts": forecast.forecast_tables(shown["forecast"])} if name == "forecast" else {}


def _why_absent(problems: Problems) -> dict[str, Markup]:
    """The sentence for each part that may be missing: not measured, or why it could not be made."""
    found: dict[str, Markup] = {}
    for name, text in NOT_MEASURED.items():
        figures = FIGURES_OF.get(name, (name,))
        keys = (
            name,
            f"router.{name}",
            f"allocation.{name}",
            *(f"figures.{one}" for one in figures),
        )
        reason = next((problems.reasons[key] for key in keys if key in problems.reasons), None)
        found[name] = (
            Markup(f"Not measured in this run: {text}")
            if reason is None
            else Markup("Could not be made: {}").format(reason)
        )
    return found


def tiles(report: Report) -> list[dict[str, str]]:
    """The few figures at the top of the page; unmeasured ones are left out."""
    found: list[dict[str, str]] = []
    student, router, tokens = report["student"], report["router"], report["tokens"]
    tuned = student["methods"].get("persyn") if student else None
    if student and tuned and tuned["value"] is not None:
        before = student["before"]
        note = f"{numbers.number(before['value'])} before" if before else ""
        found.append(
            _tile(
                f"student {student['metric'] or 'accuracy'}", numbers.number(tuned["value"]), note
            )
        )
    if router and router["hit_at_1"]:
        hit = router["hit_at_1"]
        found.append(_tile("router Hit@1", numbers.number(hit["value"]), numbers.interval(hit)))
    gain = router["differences"].get("best_constant") if router else None
    if gain:
        unclear = "no clear difference, " if verdict(gain) == "unclear" else ""
        note = unclear + numbers.interval(gain)
        found.append(_tile("reward over the best constant", numbers.signed(gain["value"]), note))
    if tokens and tokens["saving_fraction"] is not None:
        saving, how = tokens["saving_fraction"], ", estimated" if tokens["estimated"] else ""
        word = "fewer" if saving >= 0 else "more"
        found.append(
            _tile(
                f"{word} teacher tokens",
                numbers.percent(abs(saving)),
                f"than generate-then-select{how}",
            )
        )
    return found


def _tile(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _environment() -> Environment:
    environment = report_environment()
    of_router = (*claims.FILTERS, *kind.FILTERS, *transfer.FILTERS)
    of_methods = (methods.label, methods.ordered, methods.selects, verdict)
    for function in chain(of_methods, of_router, limits.FILTERS):
        environment.filters[function.__name__] = function
    return environment
