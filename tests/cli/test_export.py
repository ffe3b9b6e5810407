"""`persyn export` on the command line: what it tells of forms, runs, teachers and licences."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, PersynError
from persyn_ray.exports.forms import FORMS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout

Finished = tuple[Recipe, RunLayout]


def persyn_export(*arguments: object) -> str:
    """What the command prints, without its line breaks; errors of the package are raised."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if isinstance(result.exception, PersynError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Path:
    """A copy of a finished run, to be changed."""
    return Path(shutil.copytree(finished[1].root.local_path, tmp_path / "copied"))


def change_teachers(run: Path, **settings: object) -> None:
    path = run / "recipe.json"
    recipe = json.loads(path.read_text())
    for teacher in recipe["teachers"]:
        teacher.update(settings)
    path.write_text(json.dumps(recipe))


def test_an_unknown_form_lists_every_form_with_its_tool(run: Path) -> None:
    with pytest.raises(ConfigError, match="--to 'parquet' is no form of export") as told:
        persyn_export(run, "--to", "parquet")
    lines = str(told.value).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [form.name for form in FORMS]
    assert not (run / "exports").exists()


@pytest.mark.parametrize(
    ("form", "step"),
    [("trl", "synthesize"), ("trl-dpo", "rewards"), ("verl", "route"), ("router", "router")],
)
def test_a_run_without_the_data_of_a_form_says_which_step_makes_them(
    form: str, step: str, run: Path
) -> None:
    (run / "records" / f"{step}.json").unlink()
    with pytest.raises(ConfigError, match=f"step {step} is not finished") as told:
        persyn_export(run, "--to", form)
    assert f"--until {step}" in str(told.value)
    assert not (run / "exports").exists()


def test_preferences_of_a_run_are_its_best_and_worst_responses(
    run: Path, finished: Finished, tmp_path: Path
) -> None:
    out = tmp_path / "a folder" / "[b]pairs"
    told = persyn_export(run, "--to", "trl-dpo", "-o", out)
    rows = pq.read_table(out / "train.parquet").to_pylist()
    assert f"Wrote {len(rows)} rows to" in told
    rewards = {
        row["prompt_id"]: [reward for reward in row["rewards"] if reward is not None]
        for _, table in finished[1].rewards.tables()
        for row in table.to_pylist()
    }
    assert rows
    for row in rows:
        assert row["chosen_reward"] == max(rewards[row["id"]])
        assert row["rejected_reward"] == min(rewards[row["id"]])


@pytest.mark.parametrize(
    ("licence", "says"),
    [("llama3[/x]", "llama3[/x] forbids"), (None, "is unknown"), ("apache-2.0", None)],
)
def test_licences_of_teachers_are_told(licence: str | None, says: str | None, run: Path) -> None:
    change_teachers(run, licence=licence)
    told = persyn_export(run, "--to", "jsonl")
    readme = (run / "exports" / "jsonl" / "README.md").read_text()
    for name in "abc":
        assert (f"Teacher {name}: its licence" in told) == (says is not None)
        assert (f"- Teacher {name}: its licence" in readme) == (says is not None)
    assert says is None or says in told


@pytest.mark.parametrize("option", ["--teacher-model", "--teacher-url"])
@pytest.mark.parametrize("values", [["a"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_a_teacher_of_an_option_that_reads_otherwise_is_refused(
    option: str, values: list[str], run: Path
) -> None:
    given = [word for value in values for word in (option, value)]
    with pytest.raises(ConfigError, match=f"{option} .* must read NAME=VALUE"):
        persyn_export(run, "--to", "verl", *given)


def test_a_name_that_no_teacher_has_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="'d' is none of a, b, c"):
        persyn_export(run, "--to", "verl", "--teacher-model", "d=org/model")


def test_teachers_that_name_no_model_are_told_with_the_way_out(run: Path) -> None:
    with pytest.raises(ConfigError, match="--teacher-model a=MODEL") as told:
        persyn_export(run, "--to", "verl")
    assert "No row is left" in str(told.value)


def test_named_models_and_servers_reach_the_files(run: Path, random_llama: str) -> None:
    models = [word for name in "abc" for word in ("--teacher-model", f"{name}={random_llama}")]
    url = "https://host:1/a?b=c"  # with a sign of its own
    persyn_export(run, "--to", "miles", *models, "--teacher-url", f"a={url}")
    folder = run / "exports" / "miles"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    teachers = {row["metadata"]["opd_teacher"] for row in rows}
    said = (folder / "arguments.sh").read_text()
    assert all(f"{name}=http" in said for name in teachers)
    assert (f"a={url}" in said) == ("a" in teachers)
