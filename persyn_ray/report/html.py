"""report.html: one self-contained page of figures with their numbers, and the run's identity.

The page asks for nothing from outside: style and figures are inline and there is no script. A
section without data says so in one sentence; one that could not be made says why in its place.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from persyn_ray.escaping import visible
from persyn_ray.report import limits, numbers, router_sentences, summary, transfer
from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import Report, displayed
from persyn_ray.report.figures import draw
from persyn_ray.report.forecast import forecast_tables
from persyn_ray.report.problems import Problems

FILTERS = ("count", "number", "signed", "percent", "interval", "seconds", "rate", "estimate")
NOT_MEASURED = {
    "student": "no student answered held-out prompts (<code>prompts.num_heldout</code> or "
    "<code>evaluate.path</code>).",
    "router": "the router has no held-out figures.",
    "references": "no references were routed (<code>compare.methods</code>).",
    "learning_curve": "no smaller routers were fitted (<code>router.learning_curve</code>).",
    "loss_curve": "the router's fit left no loss curve.",
    "calibration": "the router ranked no pair of teachers with different rewards.",
    "transfer": "no routers were fitted on some tasks only (<code>router.transfer</code>).",
    "hedging": "hedging was not tried on prompts that all teachers answered.",
    "novelty": "the prompts were not compared with the parallel set.",
    "constraints": "the assignment had no limits (<code>assignment</code>).",
    "allocation": "no prompts were assigned.",
    "by_task": "the prompts carry no task labels (<code>prompts.task_column</code>).",
    "reward": "no rewards were computed on the parallel set.",
    "alpha_sweep": "no learnability was measured (<code>scoring.measure</code>).",
    "tokens": "no teacher tokens were counted (of recorded responses the student counts "
    "them: <code>scoring.measure</code>).",
    "timing": "no step durations were recorded.",
    "forecast": "the steps left no forecast.",
    "examples": "no examples were written.",
    "dead_letters": "dead letters were not counted.",
    "prompts": "the prompts were not counted.",
}
FIGURES_OF = {
    "references": ("routed", "hits"),
    "loss_curve": ("loss",),
    "calibration": ("reliability",),
    "constraints": ("front",),
    "by_task": ("tasks",),
    "alpha_sweep": ("alpha",),
}
"""Figures of the parts that are called otherwise."""
SECTIONS = {
    "student": "Student",
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
EXACT_KINDS = ("exact_answer", "exact_match", "instructions")


def render(content: Mapping[str, Any]) -> str:
    """The page for the content of a report.json; what fails of it is left out, with the reason.

    Raises:
        DataError: the content does not fit persyn_ray.report.content.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    environment = _page_environment()
    shown: dict[str, Any] = {
        **report,
        "figures": {name: Markup(svg) for name, svg in draw(report, problems).items()},
        "tiles": problems.attempt("page.tiles", partial(tiles, report), []),
        "rows": problems.attempt("page.results", partial(summary.headline, report), []),
        "concerns": problems.attempt("page.concerns", partial(concerns, report), []),
        "summary_text": " ".join(summary.paragraph(report, problems, with_concerns=False)),
        "recipe_text": problems.attempt("page.recipe", partial(recipe_text, content), ""),
        "exact": bool(report["run"] and report["run"]["quality_kind"] in EXACT_KINDS),
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


def _computed(name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """What a section alone needs beside the content."""
    if name == "limits":
        found = shown["constraints"]
        return {"limit_rows": limits.limit_rows(found) if found else []}
    return {"forecasts": forecast_tables(shown)} if name == "forecast" else {}


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


def recipe_text(content: Mapping[str, Any]) -> str:
    """The recipe as YAML; characters that would act on a page stand as escapes of YAML."""
    recipe = (content.get("run") or {}).get("recipe") or {}
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)
    if visible(text) != text:
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=False, width=100)
    return text


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
        unclear = "no clear difference, " if summary.verdict(gain) == "unclear" else ""
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


def report_environment(autoescape: bool = True) -> Environment:
    """The set-up of all templates of this folder: strict, with the filters that write numbers.

    Args:
        autoescape: Off for Markdown, which has its own filters.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(numbers, name)
    return environment


def _page_environment() -> Environment:
    environment = report_environment()
    for function in (
        summary.label,
        summary.ordered,
        summary.selects,
        summary.verdict,
        limits.binds,
        limits.gap_share,
        limits.lost_share,
        limits.quantity,
        limits.share,
        router_sentences.miscalibration,
        router_sentences.is_off,
        router_sentences.novelty_sentence,
        transfer.fit_label,
        transfer.ordered_fits,
    ):
        environment.filters[function.__name__] = function
    return environment
