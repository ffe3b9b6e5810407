"""The data set card: a README.md beside the examples, readable by people and by `datasets`.

Licences are those the recipe names for each teacher; a teacher without one is listed as unknown.
They are not checked against anything. Nothing in a name or a message is Markdown.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import yaml

from persyn_ray.escaping import one_line
from persyn_ray.recipe.data import COLUMNS
from persyn_ray.report.content import Report, displayed
from persyn_ray.report.markdown import fence, markdown_code, markdown_text
from persyn_ray.report.methods import selects
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.run import recipe_text
from persyn_ray.report.summary import headline, paragraph
from persyn_ray.report.templates import report_environment

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
)


class ListedTeacher(TypedDict):
    """A teacher as the card lists it."""

    name: str
    licence: str
    share: float | None


def card(
    content: Mapping[str, Any],
    data_files: Mapping[str, str],
    num_examples: int | None = None,
    columns: Sequence[str] = COLUMNS,
) -> str:
    """The text of README.md for a data set.

    Args:
        data_files: where the files of each split lie, relative to the card.
        num_examples: rows of split train, where they are known.
        columns: of the rows.

    Raises:
        DataError: the content does not fit persyn_ray.report.content.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    if num_examples is None and report["prompts"]:
        num_examples = report["prompts"]["num_routed"]
    environment = report_environment(autoescape=False)  # Markdown, not HTML
    environment.filters |= {"selects": selects, "md": markdown_text, "code": markdown_code}
    front = _front_matter(report, data_files, num_examples)
    recipe = problems.attempt("page.recipe", partial(recipe_text, content), "").strip()
    return environment.get_template("card.md").render(
        **report,
        front_matter=_yaml(front).strip(),
        title=front["pretty_name"],
        splits=data_files,
        columns=columns,
        num_examples=num_examples,
        teachers=problems.attempt("page.teachers", partial(listed_teachers, report), []),
        rows=problems.attempt("page.results", partial(headline, report), []),
        sentences=paragraph(report, problems),
        reasons=problems.reasons,
        fence=fence(recipe),
        recipe_text=recipe,
    )


def _front_matter(
    report: Report, data_files: Mapping[str, str], num_examples: int | None
) -> dict[str, object]:
    run = report["run"]
    licences = sorted({teacher["licence"] for teacher in listed_teachers(report)}) or ["unknown"]
    front: dict[str, object] = {
        "pretty_name": (run["name"] if run else None) or "PerSyn data",
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "distillation", "multi-teacher", "persyn"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": path} for split, path in data_files.items()
                ],
            },
        ],
    }
    if num_examples is not None:
        front["size_categories"] = [_size(num_examples)]
    return front


def _size(num_examples: int) -> str:
    return next((name for limit, name in SIZES if num_examples < limit), "n>1M")


def listed_teachers(report: Report, method: str = "persyn") -> list[ListedTeacher]:
    """Name, licence and share of each teacher in a method's data, in the pool's order."""
    run, allocation = report["run"], report["allocation"]
    shares = allocation["methods"].get(method, {}) if allocation else {}
    named = {
        teacher["name"]: teacher for teacher in (run["recipe"] if run else {}).get("teachers", ())
    }
    order = dict.fromkeys([*(allocation["teachers"] if allocation else ()), *named])
    return [
        {
            "name": name,
            "licence": one_line(named.get(name, {}).get("licence") or "unknown", 80),
            "share": shares.get(name),
        }
        for name in order
    ]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
