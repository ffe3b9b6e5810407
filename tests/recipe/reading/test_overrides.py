"""Overrides that name teachers, by their names and by their positions."""

from pathlib import Path

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import Recipe, load_recipe

NAMES = ("weak", "weak.er", "1", "gpt-4.1", "strong")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    teachers = "".join(f"  - {{name: '{name}', engine: {{kind: scripted}}}}\n" for name in NAMES)
    path.write_text(
        "run: r\nstudent: s\nprompts: {path: p.jsonl, reference_column: a}\n"
        "scoring: {quality: {kind: exact_answer}}\nrouter: {backbone: s}\n"
        f"teachers:\n{teachers}  - openai:gpt-4o-mini\n"
    )
    return path


def retired(recipe: Recipe) -> list[str]:
    return [teacher.name for teacher in recipe.teachers if teacher.retired]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("weak", "weak"),
        ("weak.er", "weak.er"),
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("4", "strong"),
        ("0", "weak"),
        ("1", "1"),  # a name counts before a position
    ],
)
def test_a_teacher_is_meant_by_name_or_by_position(path: Path, key: str, name: str) -> None:
    assert retired(load_recipe(path, (f"teachers.{key}.retired=true",))) == [name]


def test_names_follow_earlier_overrides(path: Path) -> None:
    given = ("teachers.strong.name=boss", "teachers.boss.retired=true")
    assert retired(load_recipe(path, given)) == ["boss"]
    with pytest.raises(ConfigError, match="'strong' is no teacher"):
        load_recipe(path, ("teachers.strong.name=boss", "teachers.strong.retired=true"))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("stron.retired", "Did you mean teachers.strong?"),
        ("gpt-4-1.retired", "Did you mean teachers.gpt-4.1?"),
        ("9.retired", "by position from 0 to 5"),
        ("-1.retired", "by position from 0 to 5"),
    ],
)
def test_a_teacher_that_is_not_there_is_answered_with_those_that_are(
    path: Path, key: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(path, (f"teachers.{key}=true",))
    assert "weak, weak.er, 1, gpt-4.1, strong, gpt-4o-mini" in str(refused.value)
    assert hint in str(refused.value)


def test_all_teachers_are_replaced_at_once(path: Path) -> None:
    assert load_recipe(path, ("teachers=[openai:a, openai:b]",)).pool.names == ("a", "b")
