"""Step report: report.json, report.html and the data set card, from whatever the run holds now."""

from rich.console import Console

from persyn_ray.config import Recipe
from persyn_ray.layout import Run
from persyn_ray.pipeline.gathering import gather
from persyn_ray.pipeline.runner import versions
from persyn_ray.report import card, content, html, text


def write_report(recipe: Recipe, run: Run, console: Console) -> str:
    """Write the report and print its table; returns the address of report.html."""
    gathered = gather(recipe, run, versions())
    run.root.write_text("report.json", content.to_json(gathered))
    run.root.write_text("report.html", html.render(gathered))
    if (run.dataset / "data").exists():
        run.dataset.write_text("README.md", card.card(gathered, "data/*.parquet"))
    console.print()
    console.print(text.console(gathered))
    return f"{run.root.address}/report.html"
