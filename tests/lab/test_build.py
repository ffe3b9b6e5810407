"""The shipped checkpoints answer, are small, and their making is seeded."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from persyn_ray.lab import tasks
from persyn_ray.lab.build import ASSETS, MODELS, ModelSpec, answer, build, train
from persyn_ray.lab.tasks import EASY

SPECS = {spec.name: spec for spec in MODELS}
TEACHERS = [name for name in SPECS if not name.startswith("student")]


@pytest.mark.parametrize("name", list(SPECS))
def test_a_checkpoint_loads_whole_and_in_float32(name: str):
    model = AutoModelForCausalLM.from_pretrained(ASSETS / name)
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / name)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("name", list(SPECS))
def test_a_checkpoint_was_made_by_the_table(name: str):
    record = json.loads((ASSETS / name / "lab.json").read_text())
    spec = json.loads(json.dumps(asdict(SPECS[name])))
    assert {key: record[key] for key in spec} == spec


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_right_on_easy_items_of_its_families(name: str):
    model = AutoModelForCausalLM.from_pretrained(ASSETS / name)
    assert isinstance(model, LlamaForCausalLM)
    families = {family for course in SPECS[name].courses for family in course.families}
    problems = [
        problem
        for problem in tasks.generate(200, seed=11)
        if problem.task in families and problem.difficulty <= EASY[problem.task]
    ]
    responses = answer(model, [problem.prompt for problem in problems])
    right = [tasks.check(r, p.reference) for r, p in zip(responses, problems, strict=True)]
    assert sum(right) >= 0.7 * len(right)


def test_all_assets_together_are_small():
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert all(path.stat().st_size <= 2e6 for path in files)


def test_building_is_seeded(tmp_path: Path):
    build(tmp_path / "a", only=["weak"], max_steps=2)
    build(tmp_path / "b", only=["weak"], max_steps=2)
    weights = [(tmp_path / run / "weak" / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]


def test_another_seed_makes_other_weights():
    spec = ModelSpec("tiny", SPECS["weak"].courses, hidden=16, layers=1, steps=2, heads=2, batch=4)
    first, second = train(spec, seed=0), train(spec, seed=1)
    assert not torch.equal(first.lm_head.weight, second.lm_head.weight)
