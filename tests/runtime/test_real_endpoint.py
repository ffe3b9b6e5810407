"""A whole run on a real OpenAI-compatible server (llama.cpp's), where most answers are cut."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import parse_recipe
from persyn_ray.runtime.session import Cluster
from persyn_ray.storage.layout import run_of

from ..engines.openai.llama_server import llama_server

pytestmark = [pytest.mark.ray, pytest.mark.assets, pytest.mark.timeout(1200)]
NUM_PROMPTS = 62


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    with llama_server() as base_url:
        yield base_url


def teacher(name: str, base_url: str, **sampling: Any) -> dict[str, Any]:
    engine = {"kind": "openai", "model": "smollm2", "base_url": base_url, "api_key_env": None}
    return {"name": name, "engine": engine, "sampling": sampling}


def test_a_run_whose_answers_are_mostly_cut_ends_with_a_report_that_says_so(
    endpoint: str, random_llama: str, tmp_path: Path, cluster: Cluster
) -> None:
    rows = [f'{{"prompt": "What is {n} + {n % 9}?", "answer": "{n + n % 9}"}}' for n in range(62)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    recipe = parse_recipe(
        {
            "run": str(tmp_path / "run"),
            "student": {"name": random_llama},
            "teachers": [
                teacher("cut", endpoint, max_tokens=2),
                teacher("often-cut", endpoint, max_tokens=5, stop=["+"]),
                teacher("brief", endpoint, max_tokens=4, stop=[" "]),
            ],
            "prompts": {
                "path": str(tmp_path / "prompts.jsonl"),
                "reference_column": "answer",
                "num_parallel": 30,
                "num_heldout": 4,
            },
            "scoring": {"quality": {"kind": "exact_answer"}},
            # Without training: this is about answers.
            "router": {"backbone": {"name": random_llama}, "kind": "knn"},
        },
        "test",
    )
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    run = run_recipe(recipe, console, until="synthesize")  # what comes after asks nobody
    write_report(recipe, run, console)

    report = run_of(recipe).root.read_json("report.json")
    fates = report["reward"]["teachers"]
    assert fates["cut"]["num_truncated"] == 30
    assert fates["cut"]["num_failed"] == 0
    assert report["prompts"]["num_parallel"] + report["prompts"]["num_routed"] == NUM_PROMPTS - 4
    told = " ".join(screen.getvalue().split())
    assert "were cut by their token limit" in told
    assert "cut 30 of 30" in told
    assert "sampling.max_tokens" in told
    page = run.root.read_text("report.html")
    assert "Before anything is believed" in page
    assert "cut 30 of 30" in page
    assert run.root.read_text("dataset/README.md")
