"""Rows of the assignment and facts of a run whose teachers have models: alike, other, unknown."""

from dataclasses import replace
from typing import Any

import pytest

from persyn_ray.exports.form import Facts
from persyn_ray.models.load import load_causal_lm, load_tokenizer, save_random
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.teachers import TeacherConfig

from ..rows import TableRows, conversations, routed

ALIKE = ("a", "7", "2026-11-26")
"""Teachers with the student's tokenizer; two names would be read as a number and as a date."""


def teacher(name: str, model: str | None, **settings: Any) -> TeacherConfig:
    engine = {"kind": "scripted"} if model is None else {"kind": "vllm", "model": {"name": model}}
    return TeacherConfig.model_validate({"name": name, "engine": engine, **settings})


@pytest.fixture(scope="session")
def student(random_llama: str) -> str:
    return random_llama


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with other tokens than the student's."""
    folder = save_random("llama", tmp_path_factory.mktemp("stranger"))
    model, tokenizer = load_causal_lm(str(folder)), load_tokenizer(str(folder))
    tokenizer.add_tokens(["persyn", "distil"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def routed_facts(facts: Facts, student: str, stranger: str) -> Facts:
    """Three teachers alike, one that is another model, one that names none, and a retired one."""
    pool = (
        teacher("a", student),
        teacher("7", student, resources={"tensor_parallel": 2}),
        teacher("2026-11-26", student),
        teacher("stranger", stranger),
        teacher("unknown", None),
        teacher("retired", "org/gone", retired=True),
    )
    finetune = facts.finetune.model_copy(update={"max_length": 2048})
    return replace(facts, student=StudentConfig(name=student), teachers=pool, finetune=finetune)


@pytest.fixture(scope="session")
def routed_rows(routed_facts: Facts) -> TableRows:
    """Every hostile conversation with one of five teachers in turn, with and without a response."""
    names = [one.name for one in routed_facts.teachers if not one.retired]
    rows = []
    for number, messages in enumerate(conversations()):
        chosen = names[number % len(names)]
        known = {
            "task": "mathematics" if number % 2 else None,
            "reference": "42" if number % 3 else None,
            "margin": 0.5,
            "router_probabilities": [
                {"teacher": chosen, "probability": 0.75},
                {"teacher": names[(number + 1) % len(names)], "probability": 0.25},
            ],
        }
        rows.append(routed(number, "train", chosen, messages=messages, **known))
        rows.append(routed(number, "assigned", chosen, messages=messages[:-1], **known))
    return TableRows(tuple(rows))
