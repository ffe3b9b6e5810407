"""Students evaluated by the evaluation harness: its own code on local tasks, offline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.evaluate import answering
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.pipeline.results.student import gather_lm_eval
from persyn_ray.recipe.recipe import Recipe, stored
from persyn_ray.shards.students.harness import metrics_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.results import EvaluateResult

from ...exports.tools import run as run_in

Make = Callable[..., Recipe]
WORKER = Path(__file__).with_name("harness_worker.py")
ROWS = [
    {"question": f"Ann has {n} pears and buys {n + 1} more. How many has she?", "answer": 2 * n + 1}
    for n in range(5)
]
TASK = """
task: made_up_gsm8k
dataset_path: json
dataset_kwargs: {data_files: {train: FOLDER/rows.jsonl, test: FOLDER/rows.jsonl}}
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Question:"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
num_fewshot: 1
metadata: {version: 1.0}
"""
CHOICE = """
task: made_up_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: ["1", "3"]
doc_to_target: 0
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def tasks_in(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in (("gsm8k", TASK), ("choice", CHOICE)):
        (folder / f"{name}.yaml").write_text(text.replace("FOLDER", str(folder)))
    return folder


def asking(make_recipe: Make, folder: Path, student: str = "x", **section: Any) -> Recipe:
    lm_eval = {
        "tasks": ["made_up_gsm8k", "made_up_choice"],
        "include_path": str(folder),
        "limit": 3,
    }
    return make_recipe({"evaluate.lm_eval": lm_eval | section, "student.name": student})


@pytest.mark.exports
@pytest.mark.timeout(1800)
def test_students_are_evaluated_on_local_tasks_and_their_samples_kept(
    make_recipe: Make, random_llama: str, tmp_path: Path
) -> None:
    folder = tasks_in(tmp_path)
    recipes = {
        "whole": asking(make_recipe, folder, student=random_llama),
        "unknown": asking(make_recipe, folder, student=random_llama, tasks=["gsm9k"]),
    }
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(stored(recipe)))
    given = [str(tmp_path / f"{name}.json") for name in recipes]
    out = run_in("lm_eval", WORKER, *given, cwd=tmp_path, seconds=500)
    whole, unknown = json.loads(out.strip().splitlines()[-1])
    assert whole["rows"] == 6  # three questions of each task
    assert "evaluate.lm_eval.tasks names ['gsm9k']" in unknown["error"]

    run = run_of(recipes["whole"])
    lines = run.lm_eval("before").read_text("samples-made_up_gsm8k.jsonl").splitlines()
    samples = [json.loads(line) for line in lines]
    assert [one["doc"]["question"] for one in samples] == [row["question"] for row in ROWS[:3]]
    asked = samples[1]["arguments"][0][0]
    assert "<|im_start|>assistant" in asked  # through the student's chat template
    assert asked.count("Answer:") == 2  # with an example before
    found = metrics_of(run, "before")
    assert found is not None
    assert found["made_up_gsm8k"]["exact_match"] == sum(one["exact_match"] for one in samples) / 3
    assert found["made_up_choice"].keys() == {"acc", "acc_stderr"}


def test_without_the_package_the_run_does_not_begin(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persyn_ray.shards.students.harness.find_spec", lambda name: None)
    recipe = asking(make_recipe, tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'persyn-ray\[lm-eval\]'"):
        write_prompts(recipe, run_of(recipe))


def test_its_settings_are_part_of_what_evaluation_is(make_recipe: Make, tmp_path: Path) -> None:
    plain, asked = make_recipe().evaluate, asking(make_recipe, tmp_path).evaluate
    assert "lm_eval" not in answering(plain)
    assert answering(asked)["lm_eval"]["tasks"] == ["made_up_gsm8k", "made_up_choice"]


def test_the_report_shows_metrics_by_task_with_their_errors() -> None:
    of = {"gsm8k": {"exact_match strict": 0.5, "exact_match_stderr strict": 0.1}}
    found = gather_lm_eval(EvaluateResult(lm_eval={"before": of, "persyn": {"gsm8k": {"acc": 1}}}))
    assert found == {
        "students": ["before", "persyn"],
        "tasks": {
            "gsm8k": {
                "exact_match strict": {"before": {"value": 0.5, "stderr": 0.1}},
                "acc": {"persyn": {"value": 1.0, "stderr": None}},
            }
        },
    }
    assert gather_lm_eval(EvaluateResult()) is None
