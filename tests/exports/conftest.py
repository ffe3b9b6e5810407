"""Rows with hostile texts, and the facts of a run."""

import pytest

from persyn_ray.exports.form import Facts
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.engines import ScriptedEngineConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.folder import Folder

from .rows import HOSTILE, TableRows, conversations, routed, turn


@pytest.fixture(scope="session")
def hostile_rows() -> TableRows:
    """Rows of all splits: 36 hostile conversations, and three responses to each of 12 prompts."""
    teachers = ("a", "b", "c")
    rows = [
        routed(number, "train", teachers[number % 3], messages=messages)
        for number, messages in enumerate(conversations())
    ]
    rows += [
        routed(
            number,
            "parallel",
            teacher,
            messages=[
                turn("user", HOSTILE[number] or "?"),
                turn("assistant", f"{teacher}: {HOSTILE[-number]}"),
            ],
            reward=None if number == 3 and teacher == "b" else (number * 7 + place * 5) % 4 / 4,
        )
        for number in range(12)
        for place, teacher in enumerate(teachers)
    ]
    rows += [routed(number, "assigned", teachers[number % 3]) for number in range(12)]
    return TableRows(tuple(rows))


@pytest.fixture(scope="session")
def facts() -> Facts:
    return Facts(
        name="A run",
        fingerprint="0123456789abcdef",
        student=StudentConfig(name="org/student"),
        teachers=tuple(
            TeacherConfig(name=name, engine=ScriptedEngineConfig(kind="scripted"))
            for name in ("a", "b", "c")
        ),
        finetune=FinetuneConfig(),  # pyright: ignore[reportCallIssue]
        think_tags=("<think>", "</think>"),
        router=Folder("/nowhere/router"),
    )
