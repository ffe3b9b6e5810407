"""Cards of the router and of the student: a run's report in; a README.md each out, for the Hub.

Front matter holds what the Hub filters by. Figures are the report's, with their intervals; what was
not measured is not mentioned. Nothing in a name or a message is Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from persyn_ray.report.card import listed_teachers
from persyn_ray.report.cards.licences import licence_fields
from persyn_ray.report.content import Report, displayed
from persyn_ray.report.markdown import fence, markdown_code, markdown_text
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections.router.kind import kind_sentences
from persyn_ray.report.sections.router.ranking import ranking_sentences
from persyn_ray.report.sections.run import recipe_text
from persyn_ray.report.sections.student import student_sentences
from persyn_ray.report.templates import report_environment

_NO_FACTS: dict[str, object] = {
    "of_prompts": None,
    "num_examples": None,
    "teachers": [],
    "extra": [],
    "rows": [],
    "benchmarks": [],
    "limits": [],
}


@dataclass(frozen=True)
class ModelFacts:
    """What a card says of a model beside the report's figures."""

    address: str
    """ORG/NAME on the Hub."""
    base_model: str | None
    """Hub name of what it was made from; None for a model that lies elsewhere."""
    licence: str | None
    teachers: tuple[str, ...] = ()
    """Of a router, in the order of its logits."""
    backbone: str | None = None
    """Of a router: the type of its backbone."""
    method: str = "persyn"
    """Of a student: whose data it was tuned on."""
    title: str | None = None
    """Of the card; the last part of the address by default."""


def router_card(content: Mapping[str, Any], facts: ModelFacts) -> str:
    """README.md of a router.

    Raises:
        DataError: the content does not fit persyn_ray.report.content.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    router = report["router"]

    def sentences() -> list[str]:
        return kind_sentences(router["kind"] if router else None) + ranking_sentences(router)

    front = {"pipeline_tag": "text-classification", "tags": ["persyn", "router", "model-routing"]}
    said = problems.attempt("page.router", sentences, [])
    return _card("router.md", content, report, facts, front, said, problems)


def student_card(content: Mapping[str, Any], facts: ModelFacts) -> str:
    """README.md of a student.

    Raises:
        DataError: as `router_card`.
    """
    report = displayed(content)
    problems = Problems(report["problems"])
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["persyn", "distillation", "multi-teacher"],
    }
    said: list[str] = []
    if facts.method == "persyn":
        said = problems.attempt("page.student", partial(student_sentences, report["student"]), [])
    more = problems.attempt("page.facts", partial(_of_student, report, facts.method), _NO_FACTS)
    return _card("student.md", content, report, facts, front, said, problems, more)


def _of_student(report: Report, method: str) -> dict[str, object]:
    """What the card of a student says of its data, its figures and its limits."""
    student, examples, run = report["student"], report["examples"], report["run"]
    recipe: Mapping[str, Any] = run["recipe"] if run else {}
    tuned = student["methods"].get(method) if student else None
    of_prompts = examples["methods"].get(method) if examples else None
    extra = of_prompts["extra"] if of_prompts else {}
    num_examples = tuned["num_examples"] if tuned else None
    if num_examples is None and of_prompts and of_prompts["kept"] is not None:
        num_examples = of_prompts["kept"] + sum(one["kept"] or 0 for one in extra.values())
    licences = {
        one.get("name"): one.get("licence")
        for one in (recipe.get("dataset") or {}).get("extra", ())
    }
    longest = (recipe.get("finetune") or {}).get("max_length")
    return {
        "of_prompts": of_prompts,
        "num_examples": num_examples,
        "teachers": listed_teachers(report, method),
        "extra": [
            {"name": name, "kept": one["kept"], "licence": licences.get(name) or "unknown"}
            for name, one in extra.items()
        ],
        "rows": _figures(report, method),
        "benchmarks": _benchmarks(report, method),
        "limits": [f"Examples had at most {longest:,} tokens (prompt and response)."]
        if isinstance(longest, int)
        else [],
    }


def _figures(report: Report, method: str) -> list[dict[str, Any]]:
    student = report["student"]
    tuned = student["methods"].get(method) if student else None
    if student is None or tuned is None or tuned["value"] is None:
        return []
    form: Mapping[str, Any] = student["answers"].get(method, {})
    return [
        {
            "num": student["num_problems"],
            "before": student["before"],
            "after": tuned,
            "cut_share": form.get("cut_share"),
            "looped_share": form.get("looped_share"),
        }
    ]


def _benchmarks(report: Report, method: str) -> list[dict[str, Any]]:
    found = report["lm_eval"]
    if found is None:
        return []
    return [
        {"task": task, "metric": metric}
        | {
            when: of[name]["value"] if name in of else None
            for when, name in (("before", "before"), ("after", method))
        }
        for task, metrics in found["tasks"].items()
        for metric, of in metrics.items()
    ]


def _card(
    template: str,
    content: Mapping[str, Any],
    report: Report,
    facts: ModelFacts,
    front: Mapping[str, object],
    sentences: Sequence[str],
    problems: Problems,
    more: Mapping[str, object] | None = None,
) -> str:
    environment = report_environment(autoescape=False)  # Markdown, not HTML
    environment.filters |= {"md": markdown_text, "code": markdown_code}
    recipe = problems.attempt("page.recipe", partial(recipe_text, content), "").strip()
    fields: dict[str, object] = dict(front)
    if facts.base_model is not None:
        fields["base_model"] = facts.base_model
    fields |= licence_fields([facts.licence] if facts.licence else [])
    return environment.get_template(f"cards/{template}").render(
        report=report,
        facts=facts,
        front_matter=yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).strip(),
        **(more or {}),
        title=facts.title or facts.address.rpartition("/")[2],
        sentences=sentences,
        fence=fence(recipe),
        recipe_text=recipe,
    )
