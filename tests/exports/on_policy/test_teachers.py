"""Which rows on-policy forms take: those whose teacher has the student's tokens, others counted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import FORMS, form_named
from persyn_ray.exports.on_policy.prompts import routed_prompts
from persyn_ray.exports.on_policy.settings import OnPolicySettings, named
from persyn_ray.exports.on_policy.teachers import ScoringTeacher, model_of
from persyn_ray.pipeline.export import export_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

from ..rows import TableRows, routed
from .conftest import ALIKE, teacher

TOKEN_LEVEL = ("verl", "ms-swift-gkd", "miles", "slime", "nemo-rl-mopd", "trl-gkd")


def test_rows_of_other_tokenizers_are_counted_and_left_out(
    routed_rows: TableRows, routed_facts: Facts
) -> None:
    prompts = routed_prompts(routed_rows, "assigned", routed_facts)
    sent = Counter(row["teacher"] for row in routed_rows.of("assigned"))
    kept = [row for row in routed_rows.of("assigned") if row["teacher"] in ALIKE]
    assert list(prompts) == kept
    assert list(prompts) == kept  # read anew
    assert [one.name for one in prompts.teachers] == list(ALIKE)
    other, unknown = prompts.left_out.items()
    assert other == ("teacher stranger has another tokenizer than the student", sent["stranger"])
    assert "the tokenizer of teacher unknown is unknown" in unknown[0]
    assert "--teacher-model unknown=MODEL" in unknown[0]
    assert unknown[1] == sent["unknown"]


def test_a_teacher_without_rows_is_neither_loaded_nor_named(
    routed_rows: TableRows, routed_facts: Facts, tmp_path: Path
) -> None:
    # The retired teacher's model is nowhere: looking for its tokenizer would fail.
    for name in TOKEN_LEVEL:
        export(form_named(name), routed_rows, routed_facts, Folder(str(tmp_path / name)))
        written = [one.read_bytes() for one in (tmp_path / name).rglob("*.yaml")]
        assert not any(b"retired" in text or b"org/gone" in text for text in written)


@pytest.mark.parametrize("name", [*TOKEN_LEVEL, "trl-distillation"])
def test_other_tokenizers_are_refused_where_the_user_says_so(
    name: str, routed_rows: TableRows, routed_facts: Facts, tmp_path: Path
) -> None:
    strict = replace(routed_facts, on_policy=OnPolicySettings(other_tokenizers="refuse"))
    with pytest.raises(ConfigError, match=r"rows: teacher stranger has another tokenizer") as told:
        export(form_named(name), routed_rows, strict, Folder(str(tmp_path)))
    assert "--other-tokenizers leave-out" in str(told.value)
    assert not list(tmp_path.rglob("*.*"))


def test_with_no_teacher_left_nothing_is_written(
    routed_facts: Facts, stranger: str, tmp_path: Path
) -> None:
    rows = TableRows((routed(1, "assigned", "stranger"), routed(2, "assigned", "unknown")))
    with pytest.raises(ConfigError, match=r"No row is left: .*trl-gold crosses tokenizers"):
        export(form_named("verl"), rows, routed_facts, Folder(str(tmp_path)))


def test_a_teacher_that_names_no_model_can_be_told_one(
    routed_rows: TableRows, routed_facts: Facts, student: str
) -> None:
    told = replace(routed_facts, on_policy=OnPolicySettings(models={"unknown": student}))
    prompts = routed_prompts(routed_rows, "assigned", told)
    assert [one.name for one in prompts.teachers] == [*ALIKE, "unknown"]
    assert len(prompts.left_out) == 1


def test_a_tokenizer_that_cannot_be_read_is_told_as_such(
    routed_rows: TableRows, routed_facts: Facts, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    told = replace(routed_facts, on_policy=OnPolicySettings(models={"unknown": str(tmp_path)}))
    (*_, reason) = routed_prompts(routed_rows, "assigned", told).left_out
    assert reason.startswith("the tokenizer of teacher unknown cannot be read: ")


def test_options_name_teachers_of_the_run(routed_rows: TableRows, routed_facts: Facts) -> None:
    told = replace(routed_facts, on_policy=OnPolicySettings(urls={"A": "http://host"}))
    with pytest.raises(ConfigError, match=r"'A' is none of a, 7, 2026-11-26"):
        routed_prompts(routed_rows, "assigned", told)


@pytest.mark.parametrize("given", ["a", "=b", "a=", ""])
def test_an_option_that_is_no_pair(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--teacher-url .* must read NAME=VALUE"):
        named("--teacher-url", [given])


def test_an_option_is_split_at_its_first_sign_and_given_once() -> None:
    assert named("--teacher-url", ["a=http://h/?b=c"]) == {"a": "http://h/?b=c"}
    with pytest.raises(ConfigError, match="once for each teacher"):
        named("--teacher-url", ["a=x", "a=y"])


ENDPOINT = TeacherConfig.model_validate(
    {
        "name": "a",
        "engine": {"kind": "openai", "model": "m", "base_url": "http://cluster:9000/x/v1/"},
    }
)


@pytest.mark.parametrize(
    ("config", "given", "url"),
    [
        (teacher("a", "org/m"), None, "http://a:8000/generate"),
        (ENDPOINT, None, "http://cluster:9000/x/generate"),
        (ENDPOINT, "http://mine:1", "http://mine:1/generate"),
        (ENDPOINT, "http://mine:1/generate", "http://mine:1/generate"),
    ],
)
def test_where_a_teacher_is_asked(config: TeacherConfig, given: str | None, url: str) -> None:
    model = model_of(config, {"a": "org/m"})
    assert model is not None
    assert ScoringTeacher(config, model, given).url(8000, "/generate") == url


def test_the_name_at_an_endpoint_is_no_model() -> None:
    assert model_of(ENDPOINT, {}) is None


def test_every_on_policy_form_says_which_step_is_missing(make_recipe, carry_out) -> None:
    run = carry_out(make_recipe(), until="rewards")
    for form in FORMS:
        if form.needs in ("route", "router"):
            with pytest.raises(ConfigError, match=rf"step {form.needs} is not finished"):
                export_run(run.root.address, form.name)


def test_the_command_takes_the_models_of_teachers(
    finished: tuple[Recipe, RunLayout], random_llama: str, tmp_path: Path
) -> None:
    _, run = finished
    asked = ["export", run.root.address, "--to", "miles", "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code != 0
    models = [f"--teacher-model={name}={random_llama}" for name in ("a", "b", "c")]
    done = CliRunner().invoke(app, [*asked, *models, "--teacher-url", "b=http://host:1"])
    assert done.exit_code == 0, done.output
    assert "Wrote 20 rows to" in done.output
    assert "b=http://host:1/generate" in (tmp_path / "out" / "arguments.sh").read_text()
